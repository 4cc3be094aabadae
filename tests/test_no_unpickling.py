"""Nothing in the project executes what it reads: no pickles, no evaluated texts, no YAML tags that name classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages.journal import JournalRedisBackend

from sweeps.trials.records.journal import Journal
from tests.conftest import REPOSITORY

PACKAGES = ("hkd", "sweeps", "analysis", "benchmarks")
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN_BUILTINS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {"get_pickled_error", "load_model", "read_pickle", "to_pickle", "unsafe_load", "full_load"}
# What must be said at each call, because the libraries' defaults differ between versions.
FORBIDDEN_FUNCTIONS = {"os.system", "torch.hub.load", "torch.jit.load", "torch.compile"}
"""``torch.compile`` runs code that it cached in /tmp/torchinductor_USER, which another user can create first."""
ALLOWED = {("benchmarks/gpu/compiled.py", "torch.compile")}
"""It compiles in a new folder of its own; ``tests/benchmarks/gpu/test_steps.py`` checks that."""
REQUIRED_ARGUMENTS = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}
SAFE_YAML = {"SafeLoader", "CSafeLoader", "_Loader"}
"""``_Loader`` is the sub-class of ``SafeLoader`` in hkd/config_files."""


def violations(source: str) -> Iterator[str]:
    """What a module does that could execute its input, as ``line: what``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            modules = []
        yield from (f"{node.lineno}: {name}" for name in modules if FORBIDDEN_MODULES & set(name.split(".")))  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            problem = _call_problem(node)
            if problem:
                yield f"{node.lineno}: {problem}"


def _call_problem(call: ast.Call) -> str | None:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id if function.id in FORBIDDEN_BUILTINS else None
    if not isinstance(function, ast.Attribute):
        return None
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if function.attr in FORBIDDEN_METHODS:
        return function.attr
    if ast.unparse(function) in FORBIDDEN_FUNCTIONS:
        return ast.unparse(function)
    if any(argument.arg == "shell" for argument in call.keywords):
        return "a command for a shell"
    if (owner, function.attr) in REQUIRED_ARGUMENTS:
        name, value = REQUIRED_ARGUMENTS[owner, function.attr]
        given = {argument.arg: argument.value for argument in call.keywords}.get(name)
        if not (isinstance(given, ast.Constant) and given.value is value):
            return f"{owner}.{function.attr} without {name}={value}"
    if owner == "yaml" and function.attr in ("load", "load_all"):
        loader = call.args[1] if len(call.args) > 1 else {k.arg: k.value for k in call.keywords}.get("Loader")
        name = ast.unparse(loader).rpartition(".")[2] if loader else ""
        return None if name in SAFE_YAML else f"yaml.load with {name or 'no'} loader"
    return None


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_executes_what_it_reads(package: str) -> None:
    files = sorted((REPOSITORY / package).rglob("*.py"))
    assert files
    found = [
        f"{file.relative_to(REPOSITORY)}:{violation}"
        for file in files
        for violation in violations(file.read_text(encoding="utf-8"))
        if (str(file.relative_to(REPOSITORY)), violation.partition(": ")[2]) not in ALLOWED
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from ray import cloudpickle",
        "import ray.cloudpickle as pickle",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "yaml.load(text, yaml.UnsafeLoader)",
        "yaml.load(text)",
        "trial.get_pickled_error()",
        "frame.read_pickle(path)",
        "mlflow.pytorch.load_model(uri)",
        "torch.hub.load(name)",
        "torch.compile(model)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_each_way_to_execute_input_is_found(source: str) -> None:
    assert len(list(violations(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path, mmap_mode='r', allow_pickle=False)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "model.eval()",
        "re.compile(text)",
    ],
)
def test_safe_calls_are_accepted(source: str) -> None:
    assert list(violations(source)) == []


def test_optuna_journal_files_have_no_pickled_snapshots(tmp_path: Path) -> None:
    # Optuna unpickles the snapshots of a journal, which only its Redis backend has.
    assert not hasattr(Journal(tmp_path / "journal"), "load_snapshot")
    assert hasattr(JournalRedisBackend, "load_snapshot")
