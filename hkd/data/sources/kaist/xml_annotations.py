"""Reader of KAIST's annotations of one frame in XML.

A file is::

    <annotation><size><width>640</width><height>512</height></size>
      <object><name>person</name><bndbox><x>476</x><y>224</y><w>18</w><h>44</h></bndbox>
        <difficult>0</difficult><occlusion>0</occlusion></object></annotation>

``bndbox`` may have ``xmin``, ``ymin``, ``xmax``, ``ymax`` instead, where ``xmax`` is x + width, as the data set's own
script writes them. ``occlusion`` is 0 (none), 1 (partial) or 2 (heavy).
"""

from __future__ import annotations

from pathlib import Path

from hkd.coco.parsing.values import LARGEST_COORDINATE, shown
from hkd.data.conversion.file_formats.xml_file import XmlElement, XmlError, read_xml
from hkd.data.conversion.values import decimal
from hkd.data.sources.caltech.vbb import VideoObject

FRAME_WIDTH, FRAME_HEIGHT = 640, 512
"""Size of every frame in both modalities, pixels."""
HEAVY_OCCLUSION = 2
_SIDES = ("x", "y", "w", "h")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_frame_xml(path: Path, problems: list[str]) -> tuple[VideoObject, ...]:
    """Read the objects of one frame; what is wrong is added to ``problems``, with file and line."""
    try:
        root = read_xml(path)
    except OSError as error:
        problems.append(f"{path}: the file cannot be read ({error.strerror})")
        return ()
    except XmlError as error:
        problems.append(f"{path}: {error}")
        return ()
    if root.tag != "annotation":
        problems.append(f"{path}: its root is <{root.tag[:60]}>; it must be <annotation>")
        return ()
    size = root.text_of("size", "width"), root.text_of("size", "height")
    if size not in ((None, None), (str(FRAME_WIDTH), str(FRAME_HEIGHT))):
        found = " x ".join(map(shown, size))
        problems.append(f"{path}: its size is {found}; KAIST's frames are {FRAME_WIDTH} x {FRAME_HEIGHT} pixels")
        return ()
    objects = []
    for element in root.all("object"):
        try:
            objects.append(_object(element))
        except ValueError as error:
            problems.append(f"{path}, line {element.line}: {error}")
    return tuple(objects)


def _object(element: XmlElement) -> VideoObject:
    label = element.text_of("name")
    if label is None:
        raise ValueError("the object has no <name>; it must be person, people, person? or cyclist")
    x, y, width, height = _box(element)
    occlusion, difficult = (_integer(element, tag) for tag in ("occlusion", "difficult"))
    if not 0 <= occlusion <= HEAVY_OCCLUSION:
        raise ValueError(f"occlusion is {occlusion}; it must be 0 (none), 1 (partial) or 2 (heavy)")
    return VideoObject(label, (x, y, width, height), occlusion, None, ignored=difficult == 1)


def _box(element: XmlElement) -> tuple[float, float, float, float]:
    tags = _SIDES if element.child("bndbox", "w") is not None else _CORNERS
    texts = [element.text_of("bndbox", tag) for tag in tags]
    try:
        first, second, third, fourth = (decimal(text or "") for text in texts)
    except ValueError:
        first = second = third = fourth = float("nan")
    if not all(abs(number) <= LARGEST_COORDINATE for number in (first, second, third, fourth)):  # NaN is not
        found = ", ".join(f"{tag} {shown(text)}" for tag, text in zip(tags, texts, strict=True))
        raise ValueError(
            f"bndbox is {found}; it must be x, y, w and h, or xmin, ymin, xmax and ymax: finite numbers to 1e9"
        )
    if tags == _CORNERS:
        return first, second, third - first, fourth - second
    return first, second, third, fourth


def _integer(element: XmlElement, tag: str) -> int:
    """The number of a tag; 0 if it is absent or empty."""
    text = element.text_of(tag) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{tag} is {shown(text)}; it must be a whole number")
    return int(text)
