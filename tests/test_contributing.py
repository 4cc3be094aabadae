"""The examples of CONTRIBUTING.md, applied to a copy of the packages and run; and the paths that the guides name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPOSITORY

GUIDES = ("README.md", "CONTRIBUTING.md", "docs/architecture.md")
FOLDERS = (".ci", "analysis", "benchmarks", "docs", "examples", "hkd", "sweeps", "tests")

RUNS = """
import sys, torch
from pathlib import Path
from hkd.cli import main
from hkd.config import TrialConfig
from hkd.config_files.parsing import load_config
from hkd.distillation.feature_losses import feature_loss
from hkd.evaluation.protocols import PROTOCOLS

assert main(["data", "table", "--root", "images", "--out", "converted"]) == 0
assert main(["data", "table", "--root", "malformed", "--out", "nothing"]) == 2
maps = torch.rand(2, 3, 4, 5)
assert abs(feature_loss(maps, maps, None, "cosine")) < 1e-6
assert abs(feature_loss(maps, -maps, torch.ones(2, 1, 4, 5, dtype=torch.bool), "cosine") - 2) < 1e-6
Path("trial.yaml").write_text("evaluation: {protocol: close}\\ndistillation: {region: {loss: cosine}}\\n")
trial = load_config("trial.yaml")
assert (trial.evaluation.protocol, trial.distillation.region.loss) == ("close", "cosine")
assert PROTOCOLS["close"].subsets[0].height_range.low == 100
"""


def _apply_examples(root: Path) -> None:
    """Apply every ``diff`` block: ``+++`` names a file, ``@@`` separates hunks, context must occur exactly once."""
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for block in re.findall(r"```diff\n(.*?)```", guide, flags=re.DOTALL):
        for part in re.split(r"^\+\+\+ ", block, flags=re.MULTILINE)[1:]:
            name, _, hunks = part.partition("\n")
            for hunk in hunks.split("@@\n"):
                lines = hunk.splitlines()
                assert all(line[0] in "+- " for line in lines), f"CONTRIBUTING.md, {name}: {hunk}"
                old = "".join(line[1:] + "\n" for line in lines if line[0] != "+")
                new = "".join(line[1:] + "\n" for line in lines if line[0] != "-")
                path = root / name
                text = path.read_text(encoding="utf-8") if path.is_file() else ""
                found = text.count(old) if path.is_file() else int(old == "")
                assert found == 1, f"CONTRIBUTING.md: these lines occur {found} times in {name}:\n{old}"
                path.write_text(text.replace(old, new) if text else new, encoding="utf-8")


@pytest.mark.thorough
def test_examples_work(tmp_path: Path) -> None:
    for package in ("hkd", "sweeps"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    _apply_examples(tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "boxes.csv").write_text("a.png,1,2,10,24\na.png,20,2,10,24\nb.png,5,5,10,24.5\n")
    (tmp_path / "malformed").mkdir()
    (tmp_path / "malformed" / "boxes.csv").write_text("a.png,1,2,ten,24\n\nb.png,1,2,10,24\n")
    done = subprocess.run(
        [sys.executable, "-c", RUNS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 images, 3 boxes" in done.stdout
    for fact in ("malformed", "row 1", "row 2", "row 3", "b.png"):
        assert fact in done.stderr


def _named_paths(guide: str) -> Iterator[str]:
    """Paths of this repository in links and in code spans; commands and placeholders are none."""
    text = re.sub(r"```.*?```", "", (REPOSITORY / guide).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            yield str((REPOSITORY / guide).parent.joinpath(target).resolve().relative_to(REPOSITORY))
    for span in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"[\w.{},/-]+", span) and span.partition("/")[0] in FOLDERS:
            yield span


@pytest.mark.parametrize("guide", GUIDES)
def test_named_paths_exist(guide: str) -> None:
    named = list(_named_paths(guide))
    assert len(named) > 5
    missing = [path for path in named if not any((REPOSITORY / one).exists() for one in _alternatives(path))]
    assert missing == []


def _alternatives(path: str) -> list[str]:
    """``a/{b,c}.py`` as its two paths."""
    head, brace, rest = path.partition("{")
    if not brace:
        return [path]
    choices, _, tail = rest.partition("}")
    return [head + choice + tail for choice in choices.split(",")]
