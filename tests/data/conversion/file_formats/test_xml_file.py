from __future__ import annotations

import pytest

from hkd.data.conversion.file_formats import xml_file
from hkd.data.conversion.file_formats.xml_file import XmlError, parse_xml


def test_elements_have_lines_attributes_and_text() -> None:
    root = parse_xml(b'<?xml version="1.0"?>\n<a>\n <!-- note -->\n <b k="1"> x &lt; y </b>\n <c><d/></c>\n</a>')
    assert (root.tag, root.line) == ("a", 2)
    assert [(child.tag, child.line, child.attributes) for child in root.children] == [
        ("b", 4, {"k": "1"}),
        ("c", 5, {}),
    ]
    assert root.text_of("b") == "x < y"
    assert root.text_of("c", "d") is None
    assert root.text_of("nothing", "d") is None


@pytest.mark.parametrize(
    "content",
    [
        # Entities that expand, an entity of a file of the machine, and definitions of a server.
        b'<!DOCTYPE a [<!ENTITY x0 "lol"><!ENTITY x1 "&x0;&x0;&x0;&x0;&x0;&x0;&x0;&x0;&x0;&x0;">]><a>&x1;</a>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>',
    ],
)
def test_document_type_is_refused(content: bytes) -> None:
    with pytest.raises(XmlError, match=r"line 1: has a document type"):
        parse_xml(content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<a><b></a>", "line 1, column 9: not valid XML"),
        (b"", "not valid XML"),
        (b"no xml", "not valid XML"),
        (b"<a>&x;</a>", "not valid XML"),
        (b'<?xml version="1.0" encoding="GBK"?><a/>', "encoding"),
        (b'<?xml version="1.0" encoding="none-such"?><a/>', "encoding"),
        (b"<a>" * 40 + b"</a>" * 40, "nested more than 32 levels deep"),
        (b"<a>" + b"<b/>" * 20_000 + b"</a>", "more than 20,000 elements"),
        (b"<a><b>" + b"x" * 3_000_000 + b"</b></a>", "line 1: <b> has a text of more than 1,048,576 letters"),
    ],
)
def test_invalid_file_is_reported(content: bytes, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_file, "_MOST_ELEMENTS", 20_000)  # reading two million takes 25 s
    with pytest.raises(XmlError, match=problem):
        parse_xml(content)


def test_byte_order_marks_and_stated_encodings_are_read() -> None:
    text = '<?xml version="1.0" encoding="{}"?><a>\u00e9</a>'
    assert parse_xml(b"\xef\xbb\xbf<a>\xc3\xa9</a>").text == "\u00e9"
    assert parse_xml(text.format("utf-16").encode("utf-16")).text == "\u00e9"
    assert parse_xml(text.format("iso-8859-1").encode("latin-1")).text == "\u00e9"
