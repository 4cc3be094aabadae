"""The results of a study in Markdown."""

from __future__ import annotations

from analysis.report import sentences, tables
from analysis.report.cells import markdown_cell
from analysis.report.variants_table import variants_table
from analysis.results import StudyResults


def render_markdown(results: StudyResults) -> str:
    """Headline, findings with what to do, and the table of the front; names are shown as they are."""
    basis = sentences.basis(results)
    paragraphs = [sentences.headline(results), *([basis] if basis else []), *sentences.advice(results)]
    variants = variants_table(results)
    exported = [] if variants is None else ["Exported files:", variants.as_markdown()]
    return "\n\n".join([*map(markdown_cell, paragraphs), tables.front_table(results).as_markdown(), *exported]) + "\n"
