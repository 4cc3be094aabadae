"""The teacher's pyramids, kept on a node for all trainings that see the same batches.

A batch is a pure function of (seed, epoch, step), whatever student learns from it: see :mod:`hkd.data.loader`. So is
what the frozen teacher makes of it, augmentation and all. The first training that comes to a step computes the
teacher's pyramid and writes it down; every other one of the same seed, batch size, data and augmentation reads it,
bit for bit what it would have computed.

Only the pyramid is kept. An image of 192 x 256 pixels under a pyramid of 256 channels takes 2.1 MB of it in bf16. The
regions that a student samples are its own: what the teacher's box head says of them is no other student's, and is
computed from the pyramid that was read. It would take 25 kB for each sampled region's features (7 x 7 x 256), 1.6 MB
an image at 64 regions, 131 kB for their embeddings (1,024) and 1.3 kB for their logits and box deltas, and none of it
would be read again.

Laid out as::

    <folder>/lock                       held while a cache is opened: room is made by one at a time
    <folder>/<key>/plan.json            what the entries may come to, bytes; its time says when they were last used
    <folder>/<key>/users/<process>      each locked by a training that uses the entries
    <folder>/<key>/<epoch>/<step>.pyramid
    <folder>/<key>/<epoch>/lock         held by the one who computes an entry

All of it may be removed at any time at which no training uses it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from hkd.config import PYRAMID_LEVELS, TrialConfig
from hkd.config_io import config_hash
from hkd.data.prepare import PreparedData
from hkd.models.components.anchors import pyramid_grid_sizes
from hkd.models.detector import Detector
from hkd.structures import TabledPyramid
from hkd.training.pyramid_cache.capacity import PLAN_FILE, CacheRoom, begin_use, cut, end_use, make_room, most_room
from hkd.training.pyramid_cache.entry_file import PyramidFileError, checksum, file_bytes, read_pyramid, write_pyramid

CACHED_FRACTION = "teacher_cached_fraction"
"""Share of an epoch's steps whose teacher's pyramid was read and not computed."""
DAMAGED_ENTRIES = "teacher_cache_damaged"
"""Entries that an epoch found damaged, and computed anew."""
UNWRITTEN_ENTRIES = "teacher_cache_unwritten"
"""Entries that an epoch computed and could not keep, as the disk is full or gone; told only where there are any."""

Pyramid = dict[str, Tensor]

# Part of the key: raise it when the teacher's pyramid or the batches come out otherwise than before.
_RECIPE = 2
# For an entry that another training is computing. That one began earlier, so that waiting takes no longer than to
# compute it again beside it, and leaves it the machine; but it may have been stopped, or be far slower.
_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.002
_LOCK = "lock"

_verified: dict[Path, tuple[int, int]] = {}
"""Entries that this process has verified, with the (mtime_ns, size) at which it did."""


@dataclass(frozen=True)
class CachePlan:
    """How much of a training's pyramids is kept."""

    entry_bytes: int
    """Of one step."""
    steps_per_epoch: int
    total_epochs: int
    cached_epochs: int
    """The first ones; of the rest each training computes its own."""
    limit: str = ""
    """What keeps the others out; nothing where all are kept."""

    @property
    def epoch_bytes(self) -> int:
        """Of one epoch."""
        return self.entry_bytes * self.steps_per_epoch

    def within(self, available: tuple[int, str]) -> CachePlan:
        """The plan that keeps what fits into so many bytes; with what bounds them, in words."""
        cached_epochs = min(self.total_epochs, available[0] // self.epoch_bytes)
        limit = "" if cached_epochs == self.total_epochs else available[1]
        return replace(self, cached_epochs=cached_epochs, limit=limit)

    def __str__(self) -> str:
        planned = (
            f"{self.total_epochs} epochs of {self.steps_per_epoch} steps, {self.entry_bytes / 1e6:.1f} MB each, take "
            f"{self.epoch_bytes * self.total_epochs / 1e9:.2f} GB"
        )
        if self.cached_epochs == self.total_epochs:
            return f"all are kept: {planned}"
        kept = f"those of the first {self.cached_epochs} epochs are kept" if self.cached_epochs else "none is kept"
        return f"{kept}: {planned}, more than {self.limit}"


class TeacherCache:
    """The pyramids of one key, for one training. Made by :func:`open_cache`; used until it is closed or forgotten."""

    def __init__(self, folder: Path, plan: CachePlan, user: FileLock | None) -> None:
        self.plan = plan
        self._folder = folder
        self._user = user  # kept: nobody removes a folder of which somebody holds such a lock
        self._can_write = True
        self._counts = {"read": 0, "computed": 0, "damaged": 0, "unwritten": 0}

    def pyramid(self, epoch: int, step: int, images: Tensor, compute: Callable[[], Pyramid]) -> Pyramid:
        """The teacher's pyramid of a step's batch: read where it is kept, else computed, and then kept.

        An entry that is damaged, or of other images, is computed anew, and counted. Where writing fails the training
        goes on without.

        Args:
            images: the batch's; an entry that this process reads for the first time is held against them.
            compute: the teacher's forward.

        Returns:
            Level -> tensor, on the images' device.
        """
        if epoch >= self.plan.cached_epochs:
            return self._computed(compute)
        if step == 0:
            with suppress(OSError):
                os.utime(self._folder / PLAN_FILE)  # least recently used ones are the first to make way
        path = self._folder / str(epoch) / f"{step}.pyramid"
        with suppress(OSError, PyramidFileError):
            return self._read(path, images)
        lock = FileLock(path.with_name(_LOCK), timeout=_PATIENCE_SECONDS, thread_local=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(poll_interval=_POLL_SECONDS)
        except (Timeout, OSError):
            return self._computed(compute)
        try:
            return self._build(path, images, compute)
        finally:
            lock.release()

    def take_counts(self) -> dict[str, float]:
        """Numbers for an epoch's log: what happened since the last call."""
        steps = self._counts["read"] + self._counts["computed"]
        numbers = {
            CACHED_FRACTION: self._counts["read"] / max(1, steps),
            DAMAGED_ENTRIES: float(self._counts["damaged"]),
        }
        if self._counts["unwritten"]:
            numbers[UNWRITTEN_ENTRIES] = float(self._counts["unwritten"])
        self._counts = dict.fromkeys(self._counts, 0)
        return numbers

    def close(self) -> None:
        """Let go of the folder, so that it may be removed when room is needed."""
        if self._user is not None:
            end_use(self._user)
            self._user = None

    def _build(self, path: Path, images: Tensor, compute: Callable[[], Pyramid]) -> Pyramid:
        """Compute an entry and keep it; read it where another training did so while this one waited."""
        try:
            return self._read(path, images)
        except FileNotFoundError:
            pass
        except (OSError, PyramidFileError):
            self._counts["damaged"] += 1
        pyramid = self._computed(compute)
        size = file_bytes({name: level.nbytes for name, level in pyramid.items()})
        assert size <= self.plan.entry_bytes, f"an entry takes {size} bytes, {self.plan.entry_bytes} were planned"
        if self._can_write:
            try:
                write_pyramid(path, path.with_name("partial"), pyramid, self._identity(path, images))
                _verified[path] = _stamp(path)
            except OSError:
                self._can_write = False  # the disk is full, or was taken away
        self._counts["unwritten"] += not self._can_write
        return pyramid

    def _read(self, path: Path, images: Tensor) -> Pyramid:
        stamp = _stamp(path)
        is_verified = _verified.get(path) == stamp
        pyramid = read_pyramid(path, None if is_verified else self._identity(path, images))
        _verified[path] = stamp
        self._counts["read"] += 1
        if isinstance(pyramid, TabledPyramid):
            return pyramid.to(images.device)
        return {name: level.to(images.device) for name, level in pyramid.items()}

    def _computed(self, compute: Callable[[], Pyramid]) -> Pyramid:
        self._counts["computed"] += 1
        return compute()

    def _identity(self, path: Path, images: Tensor) -> str:
        # The images themselves are named, so that nothing that changes how batches come about need be foreseen in the
        # key: a batch of other images never gets this pyramid.
        return f"{self._folder.name}, epoch {path.parent.name}, {path.name}, images {checksum(images):08x}"


def open_cache(room: CacheRoom, key: str, *, entry_bytes: int, steps_per_epoch: int, total_epochs: int) -> TeacherCache:
    """Open the entries of a key, or begin them; plan how many epochs are kept, and make room for them.

    Entries of other keys are removed where their room is needed, least recently used first, but none that a training is
    using. Where the room does not suffice, the first epochs that fit are kept, or none. Never raises for what the disk
    does: the plan then says why nothing is kept.

    Args:
        key: see :func:`cache_key`.
        entry_bytes: of one step; see :func:`planned_entry_bytes`.
    """
    room = replace(room, folder=room.folder.absolute())
    folder, nothing = room.folder / key, CachePlan(entry_bytes, steps_per_epoch, total_epochs, 0)
    if room.budget_bytes <= 0:
        return TeacherCache(folder, nothing.within(most_room(room)), None)
    epoch_bytes = nothing.epoch_bytes
    try:
        room.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(room.folder / _LOCK):
            available = make_room(room, key, unit_bytes=epoch_bytes, wanted_bytes=epoch_bytes * total_epochs)
            plan = nothing.within(available)
            cut(folder, available[0] // epoch_bytes)
            user = begin_use(folder, epoch_bytes * plan.cached_epochs) if plan.cached_epochs else None
    except OSError as error:
        return TeacherCache(folder, nothing.within((0, f"can be written to {room.folder} ({error.strerror})")), None)
    return TeacherCache(folder, plan, user)


def plan_cache(room: CacheRoom, *, entry_bytes: int, steps_per_epoch: int, total_epochs: int) -> CachePlan:
    """What :func:`open_cache` would plan if no other training's entries were in the way; changes nothing."""
    return CachePlan(entry_bytes, steps_per_epoch, total_epochs, 0).within(most_room(room))


def open_training_cache(
    room: CacheRoom,
    config: TrialConfig,
    data: PreparedData,
    teacher: Detector,
    *,
    steps_per_epoch: int,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
) -> TeacherCache:
    """The cache of a configured training under a teacher."""
    return open_cache(
        room,
        cache_key(config, data, teacher, device, autocast_dtype),
        entry_bytes=planned_entry_bytes(config, teacher.pyramid_channels, autocast_dtype),
        steps_per_epoch=steps_per_epoch,
        total_epochs=config.training.total_epochs,
    )


def cache_key(
    config: TrialConfig,
    data: PreparedData,
    teacher: Detector,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
) -> str:
    """Hash of all that determines the teacher's pyramids, to the bit: its weights, the batches, and what computes them.

    What the student, the distillation and the schedule are set to is no part of it.
    """
    if device.type == "cuda":
        processor: list[object] = [torch.cuda.get_device_name(device)]
    else:
        # Threads share a sum in parts: with another number of them the last bits differ.
        processor = [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), _matrix_instructions()]
    return config_hash(
        {
            "recipe": _RECIPE,
            "teacher": _state_hash(teacher.state_dict()),
            "layers": str(teacher.backbone),
            "train": [data.train_annotations.content_hash(), data.train_store.checksum],
            "image_size": [config.data.image_height, config.data.image_width],
            "max_objects": config.data.max_objects_per_image,
            "augmentation": config.data.augmentation.model_dump(mode="json"),
            "seed": config.training.seed,
            "batch_size": config.training.batch_size,
            "autocast": str(autocast_dtype),
            "torch": torch.__version__,
            "processor": [device.type, *processor],
        }
    )


def planned_entry_bytes(config: TrialConfig, pyramid_channels: int, autocast_dtype: torch.dtype | None) -> int:
    """Size of the file of one step's pyramid: batch x channels x cells of p2..p6, in the type of the forward."""
    itemsize = (autocast_dtype or torch.float32).itemsize
    grids = pyramid_grid_sizes(config.data.image_height, config.data.image_width)
    cells = [rows * columns for rows, columns in grids]
    bytes_a_cell = config.training.batch_size * pyramid_channels * itemsize
    return file_bytes({name: bytes_a_cell * count for name, count in zip(PYRAMID_LEVELS, cells, strict=True)})


def _matrix_instructions() -> list[str]:
    """Those of this CPU by which oneDNN chooses its kernels, and with them the order of sums; torch's names.

    torch's own capability does not tell processors with AMX from those with AVX-512 alone.
    """
    # Not in the oldest torch that we admit.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return sorted(
        name
        for name, is_there in capabilities.items()
        if is_there is True and (name.startswith("amx") or "bf16" in name or "fp16" in name)
    )


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _state_hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
