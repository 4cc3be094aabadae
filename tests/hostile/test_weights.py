"""Hostile files of weights, at every command and setting that reads them."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hkd.cli import main
from hkd.config import DataConfig, StudentConfig, TrialConfig
from hkd.config_files.yaml_format import dump_yaml
from tests.hostile.refusing import refusal
from tests.training.tiny import STUDENT, build

Write = Callable[[Path], object]
Tensors = dict[str, torch.Tensor]


class Payload:
    """Writes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def metadata(**changes: object) -> dict[str, str]:
    header = {
        "format": "hkd.detector.1",
        "hkd_version": "1",
        "config": STUDENT.model_dump(mode="json"),
        "image_height": 64,
        "image_width": 96,
        "metrics": {},
    }
    return {"hkd": json.dumps({**header, **changes})}


def config(**changes: object) -> dict[str, str]:
    return metadata(config={**STUDENT.model_dump(mode="json"), **changes})


def tensors(change: Callable[[Tensors], object] = lambda _: None) -> Tensors:
    found = {name: tensor.clone() for name, tensor in build(STUDENT, 0).state_dict().items()}
    change(found)
    return found


def with_metadata(text: dict[str, str]) -> Write:
    return lambda path: save_file(tensors(), path, metadata=text)


def with_tensors(change: Callable[[Tensors], object]) -> Write:
    return lambda path: save_file(tensors(change), path, metadata=metadata())


def every(convert: Callable[[torch.Tensor], torch.Tensor]) -> Write:
    def change(found: Tensors) -> None:
        found.update({name: convert(tensor) for name, tensor in found.items()})

    return with_tensors(change)


def first(value: float, ending: str = "weight") -> Write:
    def change(found: Tensors) -> None:
        name = next(name for name in found if name.endswith(ending))
        found[name].view(-1)[0] = value

    return with_tensors(change)


def raw_safetensors(header: bytes, length: int | None = None, data: bytes = b"") -> Write:
    return lambda path: path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def one_tensor(**entry: object) -> Write:
    return raw_safetensors(json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **entry}}).encode())


SAFETENSORS: dict[str, Write] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights"),
    "header of 2^63 bytes": raw_safetensors(b"{}", 2**63),
    "header of gigabytes": raw_safetensors(b"{}", 1 << 31),
    "header that is no JSON": raw_safetensors(b"[" * 100_000),
    "negative shape": one_tensor(shape=[-1]),
    "absurd shape": one_tensor(shape=[2**62, 2**62]),
    "offsets beyond the file": one_tensor(data_offsets=[0, 2**40], shape=[2**38]),
    "reversed offsets": one_tensor(data_offsets=[4, 0]),
    "unknown type": one_tensor(dtype="F1024"),
    "no metadata": lambda path: save_file(tensors(), path),
    "metadata that is no JSON": with_metadata({"hkd": "{"}),
    "deep metadata": with_metadata({"hkd": "[" * 100_000}),
    "list as metadata": with_metadata({"hkd": "[]"}),
    "other format": with_metadata(metadata(format="hkd.detector.99")),
    "negative height": with_metadata(metadata(image_height=-64)),
    "height of 100,000 pixels": with_metadata(metadata(image_height=100_000)),
    "height of 1e30": with_metadata(metadata(image_height=1e30)),
    "odd width": with_metadata(metadata(image_width=97)),
    "text as a height": with_metadata(metadata(image_height="tall")),
    "metrics as a list": with_metadata(metadata(metrics=[1])),
    "negative channels": with_metadata(config(pyramid_channels=-8)),
    "a billion channels": with_metadata(config(pyramid_channels=8 * 10**9)),
    "a billion proposals": with_metadata(config(proposals_per_image=10**9)),
    "anchors of 1e30": with_metadata(config(anchor_sizes=[1e30] * 5)),
    "a million aspect ratios": with_metadata(config(anchor_aspect_ratios=[1.0] * 1_000_000)),
    "NaN as an anchor": with_metadata(config(anchor_sizes=[float("nan")] * 5)),
    "unknown backbone": with_metadata(config(backbone="vgg")),
    "unknown setting": with_metadata(config(command="touch executed")),
    "NaN": first(float("nan")),
    "infinity": first(float("inf")),
    "minus infinity": first(float("-inf"), "bias"),
    "negative variance": first(-1.0, "running_var"),
    "NaN everywhere": every(lambda tensor: torch.full_like(tensor, float("nan"), dtype=torch.float32)),
    "float64 beyond float32": every(lambda tensor: torch.full_like(tensor, 1e300, dtype=torch.float64)),
    "int64": every(lambda tensor: tensor.long()),
    "bool": every(lambda tensor: tensor.bool()),
    "complex": every(lambda tensor: tensor.to(torch.complex64)),
    "uint8": every(lambda tensor: tensor.byte()),
    "fp8": every(lambda tensor: tensor.float().to(torch.float8_e4m3fn)),
    "other shapes": every(lambda tensor: tensor.reshape(-1)),
    "scalars": every(lambda tensor: tensor.sum()),
    "one tensor is missing": with_tensors(lambda found: found.pop(next(iter(found)))),
    "no tensors": with_tensors(lambda found: found.clear()),
    "a thousand more": with_tensors(lambda found: found.update({f"x{i}": torch.zeros(1) for i in range(1000)})),
    "control characters": with_tensors(lambda found: found.update({"\x1b[2J": torch.zeros(1)})),
}  # fmt: skip


def saved(content: Any, **options: Any) -> Write:
    return lambda path: torch.save(content() if callable(content) else content, path, **options)


def pickled(content: object, protocol: int = 2) -> Write:
    return lambda path: path.write_bytes(pickle.dumps(content, protocol))


def compressed(path: Path) -> None:
    """The file of torch.save, but compressed: 64 MiB of zeros in 64 KiB."""
    torch.save({"a": torch.zeros(1 << 24)}, path.with_suffix(".plain"))
    with (
        zipfile.ZipFile(path.with_suffix(".plain")) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    path.with_suffix(".plain").unlink()


def archive(name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> Write:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as packed:
            packed.writestr(f"{name}/data.pkl", content)
            packed.writestr(f"{name}/version", "3\n", zipfile.ZIP_STORED)
            packed.writestr(f"{name}/data/0", bytes(1000), zipfile.ZIP_STORED)

    return write


# A compressed entry hides what it holds, even if the archive is larger than what it unpacks to.
byte_arrays = archive("a", b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", zipfile.ZIP_DEFLATED)
names_outside = archive("../../outside", pickle.dumps({"a": 1}, 2))


def endless() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["model"] = content
    return content


def shared(content: Any) -> Any:
    """Takes exponential time to walk through, and 60 objects to hold."""
    for _ in range(60):
        content = [content, content] if isinstance(content, list) else {"a": content, "b": content}
    return content


def truncated(path: Path) -> None:
    torch.save(tensors(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def flipped(path: Path) -> None:
    torch.save(tensors(), path)
    content = bytearray(path.read_bytes())
    for position in range(0, 3000, 7):
        content[position] ^= 0x55
    path.write_bytes(bytes(content))


def nan_state() -> Tensors:
    return tensors(lambda found: found["rpn.head.bbox_pred.bias"].fill_(float("nan")))


PICKLES: dict[str, Write] = {
    "code": saved(Payload()),
    "code beside weights": saved(lambda: {"model": tensors(), "args": Payload()}),
    "code in a bare pickle": pickled({"model": Payload()}),
    "code in an old pickle": pickled(Payload(), 0),
    "code in a new pickle": pickled(Payload(), 5),
    "code in the old format": saved(Payload(), _use_new_zipfile_serialization=False),
    "a module": saved(lambda: torch.nn.Linear(1, 1)),
    "no state dict": saved([1, 2]),
    "text": saved("weights"),
    "empty state dict": saved({}),
    "text in place of tensors": saved({"x": "y"}),
    "expanded tensor": saved({"a": torch.zeros(1).expand(1 << 30)}),
    "sparse tensors": saved(lambda: {name: tensor.to_sparse() for name, tensor in tensors().items()}),
    "tensors without values": saved(lambda: {name: tensor.to("meta") for name, tensor in tensors().items()}),
    "NaN": saved(nan_state),
    "int64": saved(lambda: {name: tensor.long() for name, tensor in tensors().items()}),
    "bytes without a limit": lambda path: path.write_bytes(
        b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."  # bytearray(2^31 - 1)
    ),
    "bytes without a limit in an archive": byte_arrays,
    "mapping that holds itself": saved(endless),
    "lists shared 2^60 times": saved(lambda: shared([1])),
    "mappings shared 2^60 times": saved(lambda: shared({})),
    "deep lists": lambda path: path.write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "integer of a million digits": lambda path: path.write_bytes(b"L" + b"9" * 1_000_000 + b"L\n."),
    "text of 4 GiB stated": lambda path: path.write_bytes(b"\x80\x03B\xff\xff\xff\xffx"),
    "numbers as names": saved(lambda: {i: torch.zeros(1) for i in range(5)}),
    "long name": saved(lambda: {"k" * 100_000: torch.zeros(1)}),
    "control characters": saved(lambda: {"\x1b[2J\n": torch.zeros(1)}),
    "half a surrogate": saved(lambda: {"\ud800": torch.zeros(1)}),
    "archive with names outside": names_outside,
    "compressed": compressed,
    "truncated": truncated,
    "damaged": flipped,
    "empty": lambda path: path.write_bytes(b""),
    "NumPy objects": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(100)),
    "archive of nothing": lambda path: zipfile.ZipFile(path, "w").close(),
}


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image and configurations for the small student."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (96, 64)).save("street.png")
    student = StudentConfig.model_validate(STUDENT.model_dump())
    trial = TrialConfig(student=student, teacher=None, data=DataConfig(image_height=64, image_width=96))
    Path("trial.yaml").write_text(dump_yaml(trial))
    return tmp_path


def assert_nothing_done() -> None:
    assert not Path("executed").exists()
    assert not Path("out").exists()


@pytest.mark.parametrize("name", SAFETENSORS)
def test_weights_of_detection(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        SAFETENSORS[name](Path("w.safetensors"))
    except KeyError:
        pytest.skip("this version of safetensors does not write these numbers")
    message = refusal(main, ["detect", "street.png", "--weights", "w.safetensors", "--out", "out"], capsys)
    assert "w.safetensors: " in message
    assert_nothing_done()


@pytest.mark.parametrize("name", PICKLES)
def test_state_dict_of_detection(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    PICKLES[name](Path("w.pth"))
    options = ["--config", "trial.yaml", "--out", "out"]
    message = refusal(main, ["detect", "street.png", "--weights", "w.pth", *options], capsys)
    assert "w.pth: " in message
    assert_nothing_done()


NOT_FILES: dict[str, Write] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("name", NOT_FILES)
def test_weights_that_are_no_file(name: str, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(f"w.{ending}")
    NOT_FILES[name](path)
    options = ["--config", "trial.yaml", "--out", "out"]
    refusal(main, ["detect", "street.png", "--weights", path, *options], capsys)
    for setting in ("checkpoint", "init_from"):
        Path("teacher.yaml").write_text(f"teacher: {{{setting}: {path}}}\n")
        refusal(main, ["train", "teacher.yaml"], capsys)
    assert_nothing_done()


def test_finite_weights_of_other_floats_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    every(lambda tensor: tensor.half() if tensor.is_floating_point() else tensor)(Path("w.safetensors"))
    assert main(["detect", "street.png", "--weights", "w.safetensors", "--out", "out"]) == 0


@pytest.mark.parametrize("value", [1e30, 3e38])
def test_finite_weights_that_overflow_detect_nothing(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    # Activations become infinite, then NaN: a box of NaN is no box.
    every(lambda tensor: torch.full_like(tensor, value) if tensor.dim() > 1 else tensor)(Path("w.safetensors"))
    assert main(["detect", "street.png", "--weights", "w.safetensors", "--json", "found.json"]) == 0
    assert json.loads(Path("found.json").read_text()) == []


def test_compressed_archive_is_refused_before_it_is_unpacked(capsys: pytest.CaptureFixture[str]) -> None:
    compressed(Path("w.pth"))
    options = ["--config", "trial.yaml", "--out", "out"]
    message = refusal(main, ["detect", "street.png", "--weights", "w.pth", *options], capsys)
    # 2^24 numbers of four bytes, and the archive's small files.
    assert "a compressed archive, which unpacks to 67" in message
