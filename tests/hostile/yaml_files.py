"""YAML that a stranger may have written: the content by what is hostile in it."""

from __future__ import annotations


def _nested(levels: int, width: int, inside: str) -> str:
    lines = ["a0: &a0 {x: 1, y: [1, 2, 3]}"]
    lines += [
        f"a{level}: &a{level} {inside.format(', '.join([f'*a{level - 1}'] * width))}" for level in range(1, levels)
    ]
    return "\n".join(lines)


_CONTENTS: dict[str, str | bytes] = {
    "billion laughs": _nested(9, 9, "[{}]"),
    "billion laughs of halves": _nested(40, 2, "[{}]"),
    "merge keys": _nested(12, 4, "{{<<: [{}]}}"),
    "long text by aliases": f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 100)}]",
    "deep aliases": _nested(60, 1, "[{}]"),
    "list in itself": "data: &a [*a]",
    "mapping in itself": "data: &a {data: *a}",
    "merges itself": "data: &a {<<: *a}",
    "deep lists": "data: " + "[" * 100_000,
    "deep mappings": "data: " + "{data: " * 50_000,
    "deep sequences": "- " * 100_000,
    "question marks": "? " * 100_000,
    "unknown keys": "\n".join(f"k{i}: 1" for i in range(2_000)),
    "repeated keys": "data: {}\n" * 2_000,
    "long key": f"? {'k' * 100_000}\n: 1",
    "long file": b"#" * (1 << 20) + b"\n",
    "huge integer": "data: " + "9" * 100_000,
    "hundred digits": "data: " + "9" * 100,
    "object": "data: !!python/object/apply:os.system ['touch executed']",
    "name": "data: !!python/name:os.system",
    "module": "!!python/module:this",
    "new object": "data: !!python/object/new:subprocess.Popen [['touch', 'executed']]",
    "timestamp": "data: !!timestamp 2024-01-01",
    "binary": "data: !!binary aGVsbG8=",
    "set": "data: !!set {x, y}",
    "ordered mapping": "data: !!omap [x: 1]",
    "long tag": f"data: !{'x' * 100_000} 1",
    "null character": b"data: \0",
    "escaped null character": 'data: "\\0"',
    "half a surrogate": 'data: "\\ud800"',
    "control characters": b"data: \x1b[2J",
    "Latin-1": "data: é".encode("latin-1"),
    "UTF-32": "data: {}".encode("utf-32"),
    "undefined alias": "data: *nothing",
    "two documents": "data: {}\n---\ndata: {}",
    "infinity": "data: .inf",
    "number beyond floats": "data: 1e400",
    "scalar": "data",
    "list": "[data]",
    "key that is a list": "[data]: {}",
    "key that is null": "~: {}",
    "yes": "data: yes",
    "sexagesimal": "data: 1:30:30",
    "binary file": bytes(range(256)),
    "archive": b"PK\x03\x04" + bytes(100),
}
BOMBS = {name: text.encode() if isinstance(text, str) else text for name, text in _CONTENTS.items()}
