"""The validation images of a study, from the files that its configuration names on this machine."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from analysis.records.store import RecordsError, reading_store
from hkd import metric_names as names
from hkd.bounded_files import read_bounded
from hkd.bucket_uri import place_of
from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.parsing.errors import AnnotationError
from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.yaml_format import parse_yaml
from hkd.data.generated import scenes_folder
from hkd.data.locations import AnnotationFiles, known_files
from hkd.evaluation.preparation import PreparedTruth, prepare_ground_truth
from hkd.evaluation.protocols import PROTOCOLS, Protocol
from hkd.image_files.contact_sheet import read_scaled
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.text.redaction import redacted_text

if TYPE_CHECKING:
    from hkd.coco.images import ImageRecord

LONGEST_SIDE: Final = 512
"""Pixels of a picture in a report."""
_QUALITY: Final = 70
_LARGEST_CONFIG_BYTES: Final = 1 << 20


class ImagesError(ValueError):
    """The validation images cannot be shown; the message says why, as part of a sentence."""


@dataclass(frozen=True, eq=False)
class ValidationImages:
    """Annotated images."""

    annotations: Annotations
    truth: PreparedTruth
    """People of all images, these by ascending id."""
    protocol: Protocol

    @property
    def source(self) -> str:
        """The annotation file, as a report names it."""
        assert self.annotations.path is not None, "they were read from a file"
        return _shown(self.annotations.path)

    def record(self, image_id: int) -> ImageRecord:
        """The image of that id."""
        return next(image for image in self.annotations.images if image.image_id == image_id)

    def jpeg(self, image: ImageRecord) -> bytes:
        """A small JPEG without metadata.

        Raises:
            OSError: the file cannot be read.
            ImageFileError: it is no image of the annotated size, or has more than 100 megapixels.
        """
        size = image.width, image.height
        tile = min(LONGEST_SIDE, size[0]), min(LONGEST_SIDE, size[1])
        picture, _ = read_scaled(self.annotations.image_root / image.file_name, size, tile, DEFAULT_MAX_MEGAPIXELS)
        # Pixels alone: a comment or a place may be stored beside them.
        bare = Image.frombytes("RGB", picture.size, picture.tobytes())
        buffer = io.BytesIO()
        bare.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
        return buffer.getvalue()


def read_validation_images(tracking_uri: str, run_id: str) -> ValidationImages:
    """The validation images of the run of a trial, by its stored configuration.

    Paths are those of the study, relative to the working directory where it had relative ones.

    Raises:
        ImagesError: the configuration or the annotations cannot be read, or are not on this machine.
    """
    config = _config(tracking_uri, run_id)
    data = config.data
    protocol = PROTOCOLS[config.evaluation.protocol]
    if data.validation_annotations is None:
        files = AnnotationFiles(scenes_folder(data.synthetic, data.cache_dir) / "validation.json")
    else:
        known = known_files(data.validation_annotations, data)
        if known is None:
            place = place_of(str(data.validation_annotations))
            raise ImagesError(f"there is no copy of {place[:200]} here; make the report on the machine of the study")
        files = known
    path = files.annotations
    if not _is_file(path):
        raise ImagesError(
            f"there is no file {_shown(path)[:200]} here; make the report on the machine, and in the folder, of the "
            "study"
        )
    try:
        annotations = read_annotations(
            path,
            files.image_root,
            named=CategoryNames(data.person_categories, data.ignored_categories),
            check_images=False,
        )
    except (AnnotationError, OSError) as error:
        cause = str(error).splitlines()[0].replace(str(path), _shown(path))
        raise ImagesError(f"{_shown(path)} cannot be read: {cause[:200]}") from error
    return ValidationImages(annotations, prepare_ground_truth(annotations.ground_truth(), protocol), protocol)


def _shown(path: Path) -> str:
    """A path in a report, which others read: of an absolute one, the file and its folder."""
    return "/".join(("...", *path.parts[-2:])) if path.is_absolute() else str(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as of a name that is too long
        return False


def _config(tracking_uri: str, run_id: str) -> TrialConfig:
    try:
        with reading_store(tracking_uri) as client, tempfile.TemporaryDirectory() as folder:
            entries = {entry.path: entry for entry in client.list_artifacts(run_id)}
            entry = entries.get(names.ARTIFACT_CONFIG)
            if entry is None or entry.is_dir:
                raise RecordsError(f"it has no {names.ARTIFACT_CONFIG}")
            if (entry.file_size or 0) > _LARGEST_CONFIG_BYTES:
                raise RecordsError(f"{entry.path} is larger than {_LARGEST_CONFIG_BYTES >> 20} MiB")
            path = Path(client.download_artifacts(run_id, entry.path, folder))
            content = read_bounded(path, _LARGEST_CONFIG_BYTES)
        return parse_config(TrialConfig, parse_yaml(content, names.ARTIFACT_CONFIG), source=names.ARTIFACT_CONFIG)
    # Artifact stores are plug-ins and can raise anything, ImportError included.
    except Exception as error:
        cause = redacted_text((str(error).strip() or type(error).__name__).splitlines()[0][:200], tracking_uri)
        raise ImagesError(f"the configuration of run {run_id} cannot be read ({cause})") from error
