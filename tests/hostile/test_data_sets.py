"""Data sets of labelling tools that are malformed on purpose: one message, nothing written, in bounded time."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hkd.cli import main

REFUSED = 2
_LIMIT_SECONDS = 30
_BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def _put(root: Path, name: str, content: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _image(root: Path, name: str = "a.png") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 10)).save(root / name)


def _all(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for step in steps:
            step(root)

    return write


def _entities(levels: int) -> str:
    """Each level is ten of the one before: ``levels`` 9 would be 10 GB."""
    more = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, levels + 1))
    return f'<!DOCTYPE annotation [<!ENTITY e0 "ten letter">{more}]>'


def _voc(content: str | bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _put(root, "a.xml", content)
        _image(root)

    return write


def _voc_object(inner: str) -> Callable[[Path], None]:
    return _voc(f"<annotation><filename>a.png</filename><object>{inner}</object></annotation>")


def _cvat(content: str) -> Callable[[Path], None]:
    return _all(lambda root: _put(root, "annotations.xml", content), _image)


def _shape(shape: str) -> Callable[[Path], None]:
    return _cvat(f'<annotations><image name="a.png" width="20" height="10">{shape}</image></annotations>')


def _subset(name: str) -> Callable[[Path], None]:
    return _cvat(f'<annotations><image name="a.png" width="20" height="10" subset="{name}"/></annotations>')


def _mot(rows: str | bytes, **files: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _image(root, "s/img1/1.png")
        _put(root, "s/gt/gt.txt", rows)
        for name, content in files.items():
            _put(root, {"info": "s/seqinfo.ini", "labels": "s/gt/labels.txt"}[name], content)

    return write


def _yolo(config: str | bytes, labels: str | bytes = "0 0.5 0.5 0.5 0.5", **files: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _put(root, "data.yaml", config)
        _image(root, "images/a.png")
        _put(root, "labels/a.txt", labels)
        for name, content in files.items():
            _put(root, f"{name}.txt", content)

    return write


def _coco(*names: object, **more: object) -> Callable[[Path], None]:
    images = [{"id": i, "file_name": name, "width": 20, "height": 10} for i, name in enumerate(names)]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}], **more}
    return _all(lambda root: _put(root, "result.json", json.dumps(document)), lambda root: _image(root, "images/b.png"))


def _renamed(name: str, to: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    def rename(root: Path) -> None:
        write(root)
        (root / name).rename(root / to)

    return rename


def _pipe(name: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace(root: Path) -> None:
        write(root)
        (root / name).unlink()
        os.mkfifo(root / name)

    return replace


_TRACK = "1,1,1,1,9,9,1,1,1\n"
_NAMES = "train: images\nnames: [person]\n"
HOSTILE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "voc_entities": ("voc", _voc(f"{_entities(9)}<annotation><filename>&e9;</filename></annotation>")),
    "voc_entity_in_attribute": ("voc", _voc(f'{_entities(9)}<annotation a="&e9;"/>')),
    "voc_external_entity": (
        "voc",
        _voc('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'),
    ),
    "voc_parameter_entity": ("voc", _voc('<!DOCTYPE a [<!ENTITY % x SYSTEM "http://localhost/x"> %x;]><annotation/>')),
    "voc_external_type": ("voc", _voc('<!DOCTYPE annotation SYSTEM "http://localhost/x.dtd"><annotation/>')),
    "voc_type_in_utf16": ("voc", _voc(f"{_entities(9)}<annotation>&e9;</annotation>".encode("utf-16"))),
    "voc_deep": ("voc", _voc("<a>" * 100_000)),
    "voc_many_elements": ("voc", _voc("<annotation>" + "<b/>" * 25_000 + "</annotation>")),
    "voc_long_text": ("voc", _voc("<annotation><filename>" + "x" * 15_000_000 + "</filename></annotation>")),
    "voc_long_tag": ("voc", _voc("<" + "x" * 1_000_000 + "/>")),
    "voc_encoding": ("voc", _voc('<?xml version="1.0" encoding="uu"?><annotation/>')),
    "voc_include": ("voc", _voc('<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="/etc/passwd"/>')),
    "voc_no_end": ("voc", _voc(b"<annotation>" + bytes(1000))),
    "voc_infinite": ("voc", _voc_object(f"<name>person</name>{_BOX.replace('>9<', '>inf<')}")),
    "voc_huge_number": ("voc", _voc_object(f"<name>person</name>{_BOX.replace('>9<', '>' + '9' * 10_000 + '<')}")),
    "voc_not_a_number": ("voc", _voc_object(f"<name>person</name>{_BOX.replace('>1<', '>nan<')}")),
    "voc_empty_name": ("voc", _voc_object(f"<name> </name>{_BOX}")),
    "voc_no_image": (
        "voc",
        lambda root: _put(root, "a.xml", "<annotation><filename>/etc/passwd</filename></annotation>"),
    ),
    "voc_pipe": ("voc", _pipe("a.xml", _voc("<annotation/>"))),
    "voc_folder": ("voc", _all(lambda root: (root / "a.xml").mkdir(), _image)),
    "voc_list_outside": (
        "voc",
        _all(_voc("<annotation/>"), lambda root: _put(root, "ImageSets/Main/train.txt", "../../x\n")),
    ),
    "cvat_entities": ("cvat", _cvat(f"{_entities(9)}<annotations>&e9;</annotations>")),
    "cvat_points": ("cvat", _shape('<polygon label="person" points="' + "1;" * 1_000_000 + '"/>')),
    "cvat_infinite": ("cvat", _shape('<box label="person" xtl="0" ytl="0" xbr="inf" ybr="1e400"/>')),
    "cvat_rotation": ("cvat", _shape('<box label="person" xtl="0" ytl="0" xbr="9" ybr="9e300" rotation="nan"/>')),
    "cvat_size": ("cvat", _cvat('<annotations><image name="a.png" width="1e300" height="-1"/></annotations>')),
    "cvat_outside": ("cvat", _cvat('<annotations><image name="../../etc/passwd" width="9" height="9"/></annotations>')),
    "cvat_no_labels": ("cvat", _shape(f'<box label="{"x" * 100_000}" xtl="0" ytl="0" xbr="9" ybr="9"/>')),
    "cvat_subset_outside": ("cvat", _subset("../../evil")),
    "cvat_subset_absolute": ("cvat", _subset("/tmp/evil")),
    "cvat_subset_below": ("cvat", _subset("a/b")),
    "cvat_subset_with_backslash": ("cvat", _subset("..&#92;evil")),
    "cvat_subset_hidden": ("cvat", _subset(".evil")),
    "cvat_subset_of_markup": ("cvat", _subset("[/red]")),
    "cvat_subset_of_escape_codes": ("cvat", _subset("&#155;2J&#10;&#8238;")),
    "cvat_subset_too_long": ("cvat", _subset("x" * 300)),
    "mot_huge_frame": ("mot", _mot("99999999999999999999,1,1,1,9,9,1,1,1\n")),
    "mot_infinite": ("mot", _mot("1,1,1,1,1e999,9,1,1,1\n")),
    "mot_repeated_boxes": ("mot", _mot(_TRACK * 3_000)),
    "mot_long_line": ("mot", _mot("1," * 1_000_000)),
    "mot_bytes": ("mot", _mot(bytes(range(256)) * 100)),
    "mot_many_bad_lines": ("mot", _mot("x\n" * 3_000_000)),
    "mot_interpolation": ("mot", _mot(_TRACK, info="[Sequence]\nimDir=%(imDir)s\nimDir=../../../etc\n")),
    "mot_folder_outside": ("mot", _mot("7" + _TRACK[1:], info="[Sequence]\nimDir=../../../etc\n")),
    "mot_long_info": ("mot", _mot(_TRACK, info="[Sequence]\n" + "x" * 1_000_000)),
    "mot_labels": ("mot", _mot(_TRACK, labels="\x1b[2Jnobody\n" * 1000)),
    "mot_pipe": ("mot", _pipe("s/gt/gt.txt", _mot(_TRACK))),
    "mot_pipe_as_info": ("mot", _pipe("s/seqinfo.ini", _mot(_TRACK, info="x"))),
    "yolo_aliases": ("yolo", _yolo("a: &a [x]\nb: &b [*a, *a]\ntrain: *b\nnames: [person]\n")),
    "yolo_tag": ("yolo", _yolo("!!python/object/apply:os.system ['touch hacked']")),
    "yolo_outside": ("yolo", _yolo("path: /etc\ntrain: ../../../../etc\nnames: [person]\n")),
    "yolo_names_outside": ("yolo", _yolo("train: images\nnames: ../../../etc/passwd.txt\n")),
    "yolo_many_names": ("yolo", _yolo("train: images\nnames: [" + "a, " * 50_000 + "]")),
    "yolo_key_points": ("yolo", _yolo(_NAMES + "kpt_shape: [99999999999999999999, -3]\n", "0 " * 30)),
    "yolo_infinite": ("yolo", _yolo(_NAMES, "0 1e999 0.5 0.5 0.5")),
    "yolo_huge_class": ("yolo", _yolo(_NAMES, "1e300 0.5 0.5 0.5 0.5")),
    "yolo_long_line": ("yolo", _yolo(_NAMES, "0 " * 2_000_000)),
    "yolo_many_bad_lines": ("yolo", _yolo(_NAMES, "x\n" * 3_000_000)),
    "yolo_bytes": ("yolo", _yolo(_NAMES, bytes(range(256)) * 100)),
    "yolo_broken_utf16": ("yolo", _yolo(_NAMES, b"\xff\xfe\x00\xd8" * 100)),
    "yolo_list_of_lost_files": ("yolo", _yolo("train: t.txt\nnames: [person]", t="/a/b/c/d/e/f/g.jpg\n" * 300_000)),
    "yolo_list_of_long_names": (
        "yolo",
        _yolo("train: t.txt\nnames: [person]", t="/".join("ab" for _ in range(1_000_000))),
    ),
    "yolo_list_outside": ("yolo", _yolo("train: t.txt\nnames: [person]", t="../../../../etc/passwd\n\0\n")),
    "yolo_pipe": ("yolo", _pipe("data.yaml", _yolo(_NAMES))),
    "yolo_pipe_as_list": ("yolo", _pipe("t.txt", _yolo("train: t.txt\nnames: [person]", t=""))),
    "coco_outside": ("coco", _coco("../../../etc/passwd", "/etc/passwd", "C:\\x\\y.png", "\0", "x" * 100_000)),
    "coco_query": ("coco", _coco("/data/local-files/?d=../../../../etc/passwd", "?d=%2e%2e%2f%2e%2e%2fetc/passwd")),
    "coco_repeated_key": (
        "coco",
        lambda root: _put(root, "result.json", '{"%s": 1, "a": 1, "a": 2}' % ("k" * 1_000_000)),
    ),
    "coco_name_with_line_break": (
        "coco",
        _renamed("result.json", "a\nb\x9b2J.json", _coco("b.png")),
    ),
    "coco_name_of_other_encoding": (
        "coco",
        _renamed("result.json", "\udcff.json", _coco("b.png")),
    ),
    "coco_names": ("coco", _coco(None, 7, [], {}, True, "")),
    "coco_images": ("coco", _coco(images=[None, 7, "x", []])),
    "coco_no_lists": ("coco", _coco(images={}, annotations=7)),
    "coco_pipe": ("coco", _pipe("result.json", _coco("b.png"))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_data_set_is_refused_with_a_message(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, write = HOSTILE[name]
    root = tmp_path / "set"
    root.mkdir()
    write(root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hkd.bounded_files.SECONDS_TO_OPEN", 0.2)
    # Smaller limits, so that smaller files pass them.
    monkeypatch.setattr("hkd.data.conversion.file_formats.xml_file._MOST_ELEMENTS", 20_000)
    before = sorted(tmp_path.rglob("*"))
    err = io.StringIO()
    start = time.monotonic()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main(["data", source, "--root", str(root), "--out", str(tmp_path / "out")])
    assert time.monotonic() - start < _LIMIT_SECONDS
    assert code == REFUSED
    message = err.getvalue()
    assert "hkd data: " in message
    assert "Traceback" not in message
    assert len(message) < 20_000
    assert "root:x" not in message
    assert all(letter.isprintable() or letter in "\n\r" for letter in message)
    assert sorted(tmp_path.rglob("*")) == before
