from __future__ import annotations

import importlib

import pytest

from hkd.inference.deployed.packages import MissingPackageError, required_package


@pytest.mark.parametrize(("package", "extra"), [("onnx", "export"), ("openvino", "openvino")])
def test_missing_package_names_the_extra(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingPackageError, match=rf"{package} is not installed.*hkd\[{extra}\]"):
        required_package(package)
