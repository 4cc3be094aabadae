"""How the Makefile creates virtual environments, with stand-ins for Python and uv that only log their arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PYTHON = """\
#!/bin/sh
echo "python $*" >> {log}
[ -n "$PYTHONDONTWRITEBYTECODE" ] && echo "no bytecode" >> {log}
case "$1" in
    -c) exit ${{FAKE_TOO_OLD:-0}} ;;
    --version) echo Python 3.12.0 ;;
esac
if [ "$3" = install ] && [ "$4" = --disable-pip-version-check ]; then exit ${{FAKE_PIP:-0}}; fi
if [ "$2" = venv ]; then
    [ -n "$FAKE_NO_VENV" ] && exit 1
    mkdir -p .venv/bin
    cp {python} .venv/bin/python
    cp {uv} .venv/bin/uv
fi
exit 0
"""

UV = """\
#!/bin/sh
echo "uv $*" >> {log}
if [ "$1" = venv ]; then
    mkdir -p .venv-lowest/bin
    cp {python} .venv-lowest/bin/python
fi
exit ${{FAKE_UV:-0}}
"""


class Checkout:
    """A folder with this Makefile, and stand-ins for `python3` and uv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(REPOSITORY / name, self.folder)
        self.tools = folder / "tools"
        self.tools.mkdir()
        # Nothing else: a test must not install with the machine's own Python.
        for tool in ("make", "cat", "cp", "mkdir", "rm", "touch"):
            (self.tools / tool).symlink_to(shutil.which(tool) or pytest.skip(f"no {tool} on this machine"))
        self.log = folder / "log"
        self.log.touch()
        python = self.tools / "python3"
        uv = self.tools / "stand-in-uv"
        python.write_text(PYTHON.format(log=self.log, python=python, uv=uv))
        uv.write_text(UV.format(log=self.log, python=python))
        python.chmod(0o755)
        uv.chmod(0o755)

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env={"PATH": str(self.tools), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def installs(self) -> int:
        return self.log.read_text().count("uv pip install")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_first_install_uses_the_pins_and_is_kept(checkout: Checkout) -> None:
    assert checkout.make("install").returncode == 0
    assert "python -m venv --clear .venv" in checkout.log.read_text()
    assert "uv pip install --python .venv/bin/python -c constraints.txt -e .[dev]" in checkout.log.read_text()
    assert checkout.make("install").returncode == 0
    assert checkout.installs == 0


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_refresh_the_environment(checkout: Checkout, changed: str) -> None:
    checkout.make("install")
    later = (checkout.folder / ".venv" / "installed").stat().st_mtime + 10
    os.utime(checkout.folder / changed, (later, later))
    checkout.make("install")
    assert checkout.installs == 1
    assert "-m venv" not in checkout.log.read_text()


def test_interrupted_install_is_repeated(checkout: Checkout) -> None:
    checkout.make("install")
    later = (checkout.folder / ".venv" / "installed").stat().st_mtime + 10
    os.utime(checkout.folder / "pyproject.toml", (later, later))
    assert checkout.make("install", FAKE_UV="1", FAKE_PIP="1").returncode != 0
    # The requirements are now older than the environment, which is still not complete.
    os.utime(checkout.folder / "pyproject.toml", (0, 0))
    assert checkout.make("install").returncode == 0
    assert checkout.installs == 1


def test_pip_installs_where_uv_cannot(checkout: Checkout) -> None:
    done = checkout.make("install", FAKE_UV="1")
    assert done.returncode == 0
    assert "uv could not install: trying pip" in done.stderr
    assert checkout.log.read_text().endswith(
        "python -m pip install --disable-pip-version-check -c constraints.txt -e .[dev]\n"
    )


def test_moved_checkout_installs_again(checkout: Checkout) -> None:
    checkout.make("install")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("elsewhere"))
    checkout.make("install")
    assert checkout.installs == 1


def test_environment_without_a_working_python_is_recreated(checkout: Checkout) -> None:
    checkout.make("install")
    (checkout.folder / ".venv" / "bin" / "python").unlink()
    (checkout.folder / ".venv" / "installed").unlink()
    assert checkout.make("install").returncode == 0
    assert "-m venv --clear" in checkout.log.read_text()


def test_missing_python_or_venv_module_is_reported_with_a_remedy(checkout: Checkout) -> None:
    old = checkout.make("install", FAKE_TOO_OLD="1")
    assert old.returncode == 2
    assert "No suitable Python: python3 is missing or older than 3.11" in old.stderr
    absent = checkout.make("install", "PYTHON=/nowhere/python3.12")
    assert absent.returncode == 2
    assert "No suitable Python: /nowhere/python3.12 is missing" in absent.stderr
    unmade = checkout.make("install", FAKE_NO_VENV="1")
    assert unmade.returncode == 2
    assert "apt install python3-venv" in unmade.stderr
    assert not (checkout.folder / ".venv" / "installed").exists()


def test_make_without_a_target_prints_help(checkout: Checkout) -> None:
    done = checkout.make()
    assert done.returncode == 0
    assert "make demo" in done.stdout
    assert "make test" in done.stdout
    assert not (checkout.folder / ".venv").exists()


def test_lowest_versions_are_installed_without_the_pins_into_their_own_environment(checkout: Checkout) -> None:
    assert checkout.make("lowest").returncode == 0
    lines = checkout.log.read_text().splitlines()
    (install,) = (line for line in lines if "--resolution lowest-direct" in line)
    assert "--python .venv-lowest/bin/python" in install
    assert "constraints.txt" not in install
    assert lines[-1].startswith("python -m pytest -m not end_to_end and not thorough")
    assert checkout.make("lowest").returncode == 0
    assert checkout.installs == 0


def test_commands_write_bytecode_whatever_the_environment_says(checkout: Checkout) -> None:
    assert checkout.make("install", PYTHONDONTWRITEBYTECODE="1").returncode == 0
    assert "no bytecode" not in checkout.log.read_text()
