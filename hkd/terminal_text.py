"""Text from files and arguments, fit for a terminal: names and labels may hold anything."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""The text with control characters, line breaks and halves of characters as Python escapes: ``\x1b``, ``\ud800``.

    Args:
        text: Any.
        keep: Characters that stay as they are, such as a line break.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else ascii(letter)[1:-1] for letter in text)
