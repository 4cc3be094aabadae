from __future__ import annotations

from hkd.text.escaping import printable


def test_control_characters_and_surrogates_are_escaped() -> None:
    assert printable("\x1b[31mred\n\ud800 \udcff\r\t\x7f") == r"\x1b[31mred\n\ud800 \udcff\r\t\x7f"
    assert printable("a\nb\rc", keep="\n") == "a\nb\\rc"
    # Any script stays.
    assert printable("Fußgänger 检测器 [b]$x$") == "Fußgänger 检测器 [b]$x$"
