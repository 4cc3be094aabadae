"""Prints Python and the installed version of each direct requirement in pyproject.toml, on one line."""

import platform
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
requirements = [*project["dependencies"], *project["optional-dependencies"]["test"]]
names = [re.split(r"[\[<>=]", requirement)[0] for requirement in requirements]
print(f"Versions: python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}")
