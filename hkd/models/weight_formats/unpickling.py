"""Reading what ``torch.save`` wrote, without running code of the file."""

from __future__ import annotations

import mmap
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from hkd.models.weight_formats.errors import CheckpointError

SAVE_WEIGHTS_ALONE = "torch.save(model.state_dict(), 'weights.pth')"
"""How a user saves weights that can be read here."""

# Plain data that training states contain beside the weights. Nothing here needs it, so none of these classes is
# imported: each is replaced by _Unread.
_PLAIN_DATA = (
    "argparse.Namespace",  # torchvision's references/detection
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"{module}.Pure{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    # NumPy's numbers and arrays, as logged metrics and the states of random generators are.
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct", "_frombuffer")
    ),
    "mmengine.logging.history_buffer.HistoryBuffer",  # mmdetection 3
)
_CULPRIT = re.compile(r"GLOBAL ([\w.<>]+)")
_ESCAPE_CODE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class _Unread:
    """Stands for an object of plain data: accepts whatever is pickled, and keeps and runs nothing."""

    def __new__(cls, *_arguments: object) -> _Unread:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


def load_tensors_only(path: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU, without unpickling Python objects.

    Objects of a few classes of plain data (``argparse.Namespace``, paths, NumPy's numbers) are read as empty
    placeholders; their classes are not imported.

    Raises:
        CheckpointError: the file is absent, damaged, or holds other objects.
    """
    require_file(path)
    _require_stored_entries(path)
    _require_no_byte_arrays(path)
    try:
        with (
            torch.serialization.safe_globals([(_Unread, name) for name in _PLAIN_DATA]),
            warnings.catch_warnings(action="ignore"),  # of TorchScript archives, which are refused below
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file makes torch.load raise anything from EOFError to UnpicklingError, with one meaning for a user.
    except Exception as error:
        raise CheckpointError(f"{path}: {_explain(error)}") from error


def require_file(path: Path) -> None:
    """Raise CheckpointError if there is no such file, or it is a folder, a pipe or a device."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; name the file of weights in it (a full state dict, not shards)")
    if not path.exists():
        raise CheckpointError(f"{path}: no such file of weights; check the path")
    if not path.is_file():
        raise CheckpointError(f"{path}: not a regular file; name a file of weights")


def _require_stored_entries(path: Path) -> None:
    """Raise CheckpointError for a ZIP archive that unpacks to more than its size, or in which a pickle is compressed.

    torch.save compresses nothing; TorchScript archives, which are refused later, have compressed texts.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            is_stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in pickles)
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # torch reports the damage
    if not is_stored or unpacked > path.stat().st_size:
        raise CheckpointError(
            f"{path}: a compressed archive, which unpacks to {unpacked} bytes; torch.save does not compress. Allowed: "
            f"what is written by {SAVE_WEIGHTS_ALONE}"
        )


def _require_no_byte_arrays(path: Path) -> None:
    """Raise CheckpointError for a pickle of a ``bytearray``, which torch creates in any size that a number states.

    State dicts hold none. Entries are stored, so that the class is named somewhere in the file.
    """
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            raise CheckpointError(
                f"{path}: holds a Python object of bytearray, which may take any amount of memory. Save the weights "
                f"alone, where the model is in memory: {SAVE_WEIGHTS_ALONE}"
            )


def _explain(error: Exception) -> str:
    """Why a file cannot be read and what to do; without torch's own advice, which is to run the file's code."""
    text = _ESCAPE_CODE.sub("", str(error))
    if "torch.distributed.tensor" in text:
        return (
            "holds sharded tensors (torch.distributed.tensor.DTensor), which cannot be read; save a full state dict: "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True and "
            "cpu_offload=True"
        )
    culprit = _CULPRIT.search(text)
    if culprit:
        return (
            f"not a file that can be read safely: it holds a Python object of {culprit[1]}, and unpickling objects can "
            "run any code. Allowed: tensors, numbers and text in dictionaries and lists. Save the weights alone, where "
            f"the model is in memory: {SAVE_WEIGHTS_ALONE}"
        )
    if "TorchScript" in text:
        return (
            "a TorchScript archive, which is a program and not weights alone; save the weights of the model that was "
            f"scripted: {SAVE_WEIGHTS_ALONE}"
        )
    # torch wraps the reason of its unpickler in advice.
    reason = text.rpartition("WeightsUnpickler error:")[2].strip() or "its content is not what torch.save writes"
    reason = reason.splitlines()[0]
    return (
        f"not a file that can be read safely ({reason}); it may be damaged, or of another kind. Allowed: what is "
        f"written by {SAVE_WEIGHTS_ALONE}"
    )
