"""What pages have in common: templates, style, scripts, and what a page may load."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hkd.text.escaping import printable

_TEMPLATES: Final = Path(__file__).parent / "templates"


def render(template: str, scripts: tuple[str, ...], data: object, **context: object) -> str:
    """A page that loads nothing. All names and values are escaped, and its scripts read them as data.

    Args:
        template: Of the page.
        scripts: Files in ``templates/scripts``, in the order in which the page runs them.
        data: What they read.
        context: What the template inserts.
    """
    code = script(scripts)
    # Inserted as they are: our own files, and JSON without a character of HTML.
    unescaped = {"style": style(), "script": code, "data": as_script(data)}
    return (
        environment()
        .get_template(template)
        .render(
            {name: Markup(text) for name, text in unescaped.items()},  # noqa: S704
            content_security_policy=content_security_policy(code, style()),
            **context,
        )
    )


@cache
def environment() -> Environment:
    """Templates that escape what they insert, and refuse what is not given."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


@cache
def style() -> str:
    """Of all pages."""
    return (_TEMPLATES / "style.css").read_text(encoding="utf-8")


@cache
def script(names: tuple[str, ...]) -> str:
    """The files of ``templates/scripts`` one after the other, as one function, so that their names are not global."""
    sources = [(_TEMPLATES / "scripts" / name).read_text(encoding="utf-8") for name in names]
    return '"use strict";\n(() => {\n' + "\n".join(sources) + "})();\n"


def _shown(value: object) -> object:
    """What the template inserts: text without invisible characters, as those that reverse its direction."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def content_security_policy(script: str, style: str) -> str:
    """Forbid every request, and every script and style but the page's own, by their hashes."""

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = {
        "default-src": "'none'",
        "script-src": hashed(script),
        "style-src": hashed(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def as_script(value: object) -> str:
    """JSON in ASCII, for the inside of a ``<script type="application/json">``, which nothing in it can end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
