from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from email import message_from_string
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hkd
from hkd.config_files.yaml_format import load_yaml
from tests.conftest import REPOSITORY

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def _pins(file: Path) -> dict[str, str]:
    lines = (line.partition("==") for line in file.read_text().split("\n") if line)
    return {canonicalize_name(name): version for name, _, version in lines}


PINS = _pins(REPOSITORY / "constraints.txt")
# `make constraints` writes the packages of a development environment; the nodes of clusters have further ones.
ALL_PINS = PINS | _pins(REPOSITORY / "cluster" / "constraints.txt")
REQUIREMENTS = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
    if not text.startswith("hkd[")
]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_requirement_has_a_floor_and_a_matching_pin(requirement: Requirement) -> None:
    assert any(clause.operator == ">=" for clause in requirement.specifier)
    assert requirement.specifier.contains(ALL_PINS[canonicalize_name(requirement.name)])


@pytest.mark.parametrize(
    ("name", "admitted", "refused"),
    [
        ("torch", ("2.11.0", "2.12.1", "2.15.3"), ("2.10.9", "2.16.0")),
        ("torchvision", ("0.26.0", "0.29.2"), ("0.25.9", "0.30.0")),
    ],
)
def test_bounds_of_torch_and_torchvision(name: str, admitted: tuple[str, ...], refused: tuple[str, ...]) -> None:
    (requirement,) = (one for one in REQUIREMENTS if one.name == name)
    assert [version for version in (*admitted, *refused) if requirement.specifier.contains(version)] == list(admitted)


def test_constraints_are_names_and_versions_only() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.!]*", line)] == []
    assert list(PINS) == sorted(PINS)
    assert "hkd" not in PINS


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("hkd", {"torch", "numpy", "pydantic", "yaml"}),
        ("hkd.metric_names", {"torch", "numpy", "pydantic"}),
        ("hkd.config_files.parsing", {"torch", "numpy", "ray", "mlflow"}),
        ("sweeps", {"torch", "ray", "optuna", "mlflow"}),
        ("analysis", {"torch", "ray", "mlflow", "pandas"}),
    ],
)
def test_light_modules_import_no_heavy_library(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({forbidden!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_studies_are_installed_with_the_package() -> None:
    configs = [path for path in files("sweeps").joinpath("configs").iterdir() if path.name.endswith(".yaml")]
    assert {"demo.yaml", "inria.yaml", "pennfudan.yaml"} <= {path.name for path in configs}
    assert all(isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict) for path in configs)
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert declared["sweeps"] == ["configs/*.yaml"]


@pytest.mark.parametrize("package", ["sweeps", "analysis"])
def test_no_script_folder_shadows_the_standard_library(package: str) -> None:
    # `python sweeps/run.py` puts sweeps/ first on the path, before the standard library.
    names = {path.stem for path in (REPOSITORY / package).glob("*.py")}
    assert names & set(sys.stdlib_module_names) == set()


def test_built_metadata_states_license_author_and_links(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "hkd").mkdir()
    shutil.copy(REPOSITORY / "hkd" / "__init__.py", tmp_path / "hkd")
    code = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('built'))"
    (tmp_path / "built").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    (built,) = (tmp_path / "built").glob("*.dist-info")
    metadata = message_from_string((built / "METADATA").read_text(encoding="utf-8"))
    assert (metadata["Name"], metadata["Version"]) == ("hkd", hkd.__version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert (metadata["Author"], metadata["Author-email"]) == ("The hkd developers", None)
    labels = [link.partition(", ")[0] for link in metadata.get_all("Project-URL", [])]
    assert labels == ["Paper"]
    # PEP 639: a license classifier beside a license expression is refused by package indexes.
    assert not any(classifier.startswith("License ::") for classifier in metadata.get_all("Classifier", []))


def test_license_is_the_unchanged_text_of_apache_2() -> None:
    digest = hashlib.sha256((REPOSITORY / "LICENSE").read_bytes()).hexdigest()
    # Of https://www.apache.org/licenses/LICENSE-2.0.txt.
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_citation_has_the_required_keys_and_agrees_with_the_package() -> None:
    citation = load_yaml(REPOSITORY / "CITATION.cff")
    # Required by the schema of the Citation File Format 1.2.0.
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert str(citation["cff-version"]) == "1.2.0"
    assert citation["authors"] == PROJECT["authors"]
    assert citation["version"] == hkd.__version__
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= paper.keys()  # required of a reference
    assert [author["family-names"] for author in paper["authors"]] == ["Chen", "Ai", "Shang", "Chen", "Zhuang"]
    assert paper["year"] == 2019
    number = PROJECT["urls"]["Paper"].rpartition("/")[2]
    assert number == "1909.09325"
    assert any(number in identifier["value"] for identifier in paper["identifiers"])
