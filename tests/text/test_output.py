from __future__ import annotations

import io
import logging
import pickle
import sys
import time
import warnings
from collections.abc import Callable

import pytest
from rich.console import Console

from hkd.text.escaping import LinesError
from hkd.text.output import (
    LONGEST_LINE,
    ArgumentParser,
    error_text,
    log_as_we_do,
    print_error,
    print_line,
    print_lines,
    print_on,
    tamed_libraries,
)

HOSTILE = "\x1b[31mred\x9b \u202eevil\u200b\r"
ESCAPED = r"\x1b[31mred\x9b \u202eevil\u200b\r"


def test_line_is_escaped_and_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(f"a{HOSTILE}\nerror: b")
    print_lines(f"a{HOSTILE}\nb")
    assert capsys.readouterr().out == f"a{ESCAPED}\\nerror: b\na{ESCAPED}\nb\n"


def test_error_has_neither_controls_nor_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(f"cannot open http://me:hunter2@host: {HOSTILE} b c", "http://me:b c@host")
    assert capsys.readouterr().err == f"cannot open http://***@host: {ESCAPED} ***\n"


@pytest.mark.parametrize("print_text", [print_line, print_lines, print_error])
def test_lines_of_megabytes_are_shortened(
    print_text: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    print_text("start " + "x" * 20_000_000 + " end")
    assert time.monotonic() - start < 10  # minutes, if all of it was searched for credentials
    shown = "".join(capsys.readouterr())
    assert len(shown) < LONGEST_LINE + 100
    assert "letters ..." in shown
    assert shown.startswith("start ")
    assert shown.endswith(" end\n")


def test_console_prints_no_markup() -> None:
    out = io.StringIO()
    print_on(Console(file=out, width=20, force_terminal=True), f"[red]{HOSTILE}[/red] [/x] and a line that is long")
    assert out.getvalue() == f"[red]{ESCAPED}[/red] [/x] and a line that is long\n"


def test_error_of_arguments_is_escaped_also_of_sub_commands(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="x")
    parser.add_subparsers().add_parser("y")
    for arguments in (["y", HOSTILE], ["y", "--password=hunter2"], [HOSTILE]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(arguments)
        assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert shown.count("evil") == 2
    assert all(line.isprintable() for line in shown.split("\n"))


def test_warning_of_own_package_is_one_line_and_that_of_a_library_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "warnoptions", [])
        with tamed_libraries(["ours"]):
            for module in ("ours.part", "library", "torch.cuda"):
                warnings.warn_explicit(f"{module} {HOSTILE}\n http://me:hunter2@h", UserWarning, "f", 1, module, {})
            warnings.warn_explicit("deprecated", DeprecationWarning, "f", 1, "ours.part", {})
    # White space, also the return at the end of the hostile text, becomes one blank.
    escaped = ESCAPED.removesuffix(r"\r")
    # torch falls back to the CPU without a GPU, and only its warning states why.
    assert capsys.readouterr().err == "".join(
        f"warning: {module} {escaped} http://***@h\n" for module in ("ours.part", "torch.cuda")
    )
    assert warnings.showwarning is before


def test_records_of_libraries_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    raw = logging.StreamHandler(io.StringIO())
    library = logging.getLogger("library_of_test")
    library.addHandler(raw)
    library.propagate = False
    root, before = logging.getLogger(), logging.lastResort
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(root, "handlers", [])
        with tamed_libraries([]):
            log_as_we_do("library_of_test")
            library.error("%s token=hunter2", HOSTILE)
            library.warning("not an error")
            logging.getLogger("other_of_test").warning("retry %s", HOSTILE)
    assert raw.stream.getvalue() == ""
    assert capsys.readouterr().err == f"{ESCAPED} token=***\nretry {ESCAPED}\n"
    assert logging.lastResort is before


def test_traceback_has_neither_controls_nor_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        try:
            raise OSError(f"http://me:hunter2@host {HOSTILE}")
        except OSError as error:
            raise ValueError("password=hunter2") from error

    with tamed_libraries([]):
        pass
    with pytest.raises(ValueError, match="password") as caught:
        fail()
    sys.excepthook(caught.type, caught.value, caught.tb)
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert "The above exception was the direct cause" in shown
    assert "ValueError: password=***" in shown
    assert f"OSError: http://***@host {ESCAPED}" in shown


def test_only_errors_that_escape_their_lines_have_several() -> None:
    assert error_text(ValueError(f"a{HOSTILE}\nerror: b")) == f"a{ESCAPED}\\nerror: b"
    assert error_text(LinesError("a\nb", HOSTILE)) == f"a\\nb\n{ESCAPED}"
    # As errors of workers are.
    assert error_text(pickle.loads(pickle.dumps(LinesError("a\nb", "c")))) == "a\\nb\nc"
