"""What the command leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps import run


def input_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a rejected command prints."""
    assert run.main(["--config", "tiny.yaml", *arguments]) == run.EXIT_BAD_INPUT
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


def files_in(folder: Path) -> set[str]:
    """Files, and folders without files."""
    paths = [path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir())]
    return {str(path.relative_to(folder)) for path in paths}
