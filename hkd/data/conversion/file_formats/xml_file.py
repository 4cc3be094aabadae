"""Reader of XML without document types, with line numbers and bounded size.

A document type can define entities that expand to gigabytes or name files of the machine; annotation files need none,
so that one is an error and not a risk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from hkd.bounded_files import read_bounded

LARGEST_XML_BYTES = 1 << 28
"""CVAT writes all images of a task into one file."""
_DEEPEST = 32
_MOST_ELEMENTS = 2_000_000
"""They take about 1 GB of memory; a million boxes fit."""
_LONGEST_TEXT = 1 << 20
"""Letters of one element."""


class XmlError(ValueError):
    """A file is not XML, or has a document type; the message continues a sentence that starts with its name."""


@dataclass(slots=True)
class XmlElement:
    """An element with its children."""

    tag: str
    line: int
    """Line of the file in which it starts, from 1."""
    attributes: dict[str, str]
    children: list[XmlElement] = field(default_factory=list)
    text: str = ""
    """Text directly in the element, without that of its children."""

    def all(self, tag: str) -> Iterator[XmlElement]:
        """The children with this tag."""
        return (child for child in self.children if child.tag == tag)

    def child(self, *tags: str) -> XmlElement | None:
        """The first child with this tag; with several tags, the first child of that child, and so on."""
        element: XmlElement | None = self
        for tag in tags:
            element = None if element is None else next(element.all(tag), None)
        return element

    def text_of(self, *tags: str) -> str | None:
        """The text of :meth:`child` without outer blanks; None if there is no such child, or no text in it."""
        element = self.child(*tags)
        return None if element is None else element.text.strip() or None


def read_xml(path: Path, largest_bytes: int = LARGEST_XML_BYTES) -> XmlElement:
    """The root element of a file.

    Raises:
        OSError: the file cannot be read, or is larger than ``largest_bytes``.
        XmlError: it is no XML, or not of the kind that annotation files are.
    """
    return parse_xml(read_bounded(path, largest_bytes))


def parse_xml(content: bytes) -> XmlElement:
    """The root element of a document.

    Raises:
        XmlError: see :func:`read_xml`.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    top = XmlElement("", 0, {})
    open_elements = [top]
    # The pieces of the text of each open element and their length: joining them one by one would take quadratic time.
    texts: list[list[str]] = [[]]
    lengths = [0]
    num_elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal num_elements
        num_elements += 1
        if num_elements > _MOST_ELEMENTS:
            raise XmlError(f"has more than {_MOST_ELEMENTS:,} elements; export the data set in several parts")
        if len(open_elements) > _DEEPEST:
            raise XmlError(f"line {parser.CurrentLineNumber}: elements are nested more than {_DEEPEST} levels deep")
        element = XmlElement(tag, parser.CurrentLineNumber, attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)
        texts.append([])
        lengths.append(0)

    def end(_tag: str) -> None:
        open_elements.pop().text = "".join(texts.pop())
        lengths.pop()

    def text(data: str) -> None:
        element = open_elements[-1]
        texts[-1].append(data)
        lengths[-1] += len(data)
        if lengths[-1] > _LONGEST_TEXT:
            raise XmlError(
                f"line {element.line}: <{element.tag[:40]}> has a text of more than {_LONGEST_TEXT:,} letters"
            )

    def document_type(*_: object) -> NoReturn:
        raise XmlError(
            f"line {parser.CurrentLineNumber}: has a document type (<!DOCTYPE>), which is not read, because it can"
            " define entities that expand without limit; remove it"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = document_type
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        where = f"line {error.lineno}, column {error.offset + 1}"
        raise XmlError(f"{where}: not valid XML ({expat.ErrorString(error.code)})") from error
    except (ValueError, LookupError) as error:  # an encoding that expat cannot use
        if isinstance(error, XmlError):
            raise
        raise XmlError(f"cannot be read in the encoding that it states ({error}); save it as UTF-8") from error
    (root,) = top.children
    return root
