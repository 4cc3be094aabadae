"""Escaping of text from files and arguments before it is printed: names and labels may contain any character."""

from __future__ import annotations


class LinesError(ValueError):
    """An error whose arguments are lines. Names that these quote cannot add lines, because each line is escaped."""

    def __str__(self) -> str:
        return "\n".join(map(printable, self.args))


def printable(text: str, keep: str = "") -> str:
    r"""Escape control characters, line breaks and surrogates as in Python: ``\x1b``, ``\ud800``.

    Args:
        text: Text from a file or an argument.
        keep: Characters that are not escaped, such as a line break.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else ascii(letter)[1:-1] for letter in text)
