from __future__ import annotations

from pathlib import Path

import pytest

from hkd import cli
from hkd.data.conversion.finding.root_folder import nothing_found


def test_folder_below_that_has_the_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "a/.hidden").mkdir(parents=True)
    (tmp_path / "a/.hidden/data.yaml").touch()
    (tmp_path / "a/export").mkdir()
    assert nothing_found(tmp_path, "data.yaml", ["*.yaml"], "name it") == "found no data.yaml; name it"
    (tmp_path / "a/export/data.yaml").touch()
    assert "'a/export' below it has" in nothing_found(tmp_path, "data.yaml", ["*.yaml"], "name it")


@pytest.mark.parametrize("source", ["coco", "yolo", "voc", "cvat", "mot"])
def test_file_or_missing_folder_as_root_is_reported(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "export.zip").touch()
    for name, fact in (("export.zip", "is a file"), ("nowhere", "there is no such folder")):
        assert cli.main(["data", source, "--root", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        assert fact in capsys.readouterr().err
