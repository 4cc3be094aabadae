"""Names and texts of MLflow as cells of Markdown tables and of spreadsheets, which would render or compute them."""

from __future__ import annotations

import re

from hkd.text.escaping import printable

_MARKDOWN = re.compile(
    # Underscores inside of words, as in the names of settings, are not emphasis.
    r"[\\`*\[\]<>~|$&]|(?<![^\W_])_|_(?![^\W_])"
    # Links without brackets.
    r"|:(?=//)|(?<=www)\."
)
# At the start of the text; and after a semicolon, which separates cells where the comma is the decimal separator.
_FORMULA = re.compile(r"""(^|;)([\s"']*[=+\-@\uff0b\uff0d\uff1d\uff20])""")


def markdown_cell(text: str) -> str:
    """Text as a cell of a GitHub table that shows exactly this text: no links, HTML, formulas or emphasis."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def spreadsheet_cell(value: object) -> object:
    """The value of a cell that a spreadsheet does not compute.

    Text that begins with =, +, - or @, also after blanks and quotation marks, gets an apostrophe at its beginning
    (OWASP, CSV Injection). Numbers stay numbers, with their sign.
    """
    return _FORMULA.sub(r"\1'\2", printable(value)) if isinstance(value, str) else value
