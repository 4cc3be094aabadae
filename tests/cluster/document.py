"""The commands of docs/cluster.md."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def documented_commands(section: str | None = None) -> list[list[str]]:
    """The code blocks of docs/cluster.md in order, each as its lines.

    Args:
        section: Title of a section, without its sub-sections; None for the whole page.
    """
    text = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8")
    if section is not None:
        _, heading, rest = text.partition(f"# {section}\n")
        assert heading, section
        text = re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in blocks]
