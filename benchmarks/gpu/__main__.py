"""Measure everything that needs a GPU: at most 8 minutes on one card, resumable by section.

Each section runs in a process of its own and writes OUT/<section>.json. A second call with the same settings measures
only what is missing, was not run or failed. Sections that need a CUDA device state so where there is none.

    python -m benchmarks.gpu --list                        # the sections
    python -m benchmarks.gpu                               # all of them
    python -m benchmarks.gpu --sections step cuda_graph    # some of them
    python -m benchmarks.gpu --report                      # what OUT holds, as Markdown; measures nothing

Needs torch 2.11 or later and torchvision, and of hkd's other dependencies numpy, pydantic, pyyaml, pillow and filelock;
the sections memory and out_of_memory also safetensors and pycocotools.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.packages import PackageError, check_packages
from benchmarks.gpu.records import Record, RecordError, read_result, record_path, section_text
from benchmarks.gpu.sections import MINUTES, SECTIONS, Section, Settings
from benchmarks.options import add_workload
from hkd.commands.parsing import positive_integer, positive_number
from hkd.text.escaping import printable

_ROOT = Path(__file__).parents[2]
_LEAST_SECONDS = 10.0
"""Time that a section needs at least: importing torch alone takes seconds."""


class SettingsError(ValueError):
    """The folder holds results of other settings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure or report the chosen sections."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        _print_list()
        return 0
    settings = Settings(
        arguments.device,
        arguments.batch_size,
        arguments.height,
        arguments.width,
        arguments.rounds,
        arguments.processes,
        arguments.seconds,
    )
    chosen = [section for name, section in SECTIONS.items() if name in arguments.sections]
    try:
        check_packages()
        if not arguments.report:
            _measure_missing(chosen, arguments.out, settings, arguments.minutes)
        return _report(chosen, arguments.out, is_report=arguments.report)
    except (PackageError, RecordError, SettingsError) as error:
        return _refuse(error)


def _measure_missing(chosen: Sequence[Section], folder: Path, settings: Settings, minutes: float) -> None:
    records = {section.name: read_result(folder, section.name) for section in SECTIONS.values()}
    _check_settings({name: record.settings for name, record in records.items() if record}, settings.recorded(), folder)
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * minutes
    for section in chosen:
        record = records[section.name]
        if record is not None and record.status == "measured":
            print(f"{section.name}: measured before, in {folder}", file=sys.stderr)
            continue
        _run(section, folder, settings, deadline - time.monotonic(), minutes)


def _check_settings(found: dict[str, dict[str, object]], expected: dict[str, object], folder: Path) -> None:
    different = [
        f"{section}: {key} {own.get(key)} instead of {value}"
        for section, own in found.items()
        for key, value in expected.items()
        if own.get(key) != value
    ]
    if different:
        raise SettingsError(
            f"{folder} holds results of other settings ({'; '.join(different)}); choose another --out, the same "
            "settings, or delete these files"
        )


def _run(section: Section, folder: Path, settings: Settings, seconds_left: float, minutes: float) -> None:
    """Run a section in a process of its own, which writes its record; write one where it does not."""
    limit = min(section.limit_seconds * minutes / MINUTES, seconds_left)
    if limit < _LEAST_SECONDS:
        reason = f"none of the {minutes:g} minutes (--minutes) was left; the same command measures it"
        Record(section.name, settings.recorded(), "not run", reason).write(folder)
        return
    record_path(folder, section.name).unlink(missing_ok=True)
    print(f"{section.name}: at most {limit:.0f} s", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.gpu.section", section.name, str(folder.absolute())]
    started = time.monotonic()
    with subprocess.Popen([*command, json.dumps(asdict(settings))], cwd=_ROOT, start_new_session=True) as process:
        try:
            status = process.wait(limit)
            reason = f"its process ended with exit status {status}; its error is above"
        except subprocess.TimeoutExpired:
            reason = f"it took longer than its limit of {limit:.0f} s"
        finally:
            _end_group(process)
    if not record_path(folder, section.name).exists():
        Record(section.name, settings.recorded(), "failed", reason, time.monotonic() - started).write(folder)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a section's process and those that it started (loaders' workers, several trainings)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _report(chosen: Sequence[Section], folder: Path, *, is_report: bool) -> int:
    """Print all chosen sections; the exit status is 1 if one failed."""
    records = {section.name: read_result(folder, section.name) for section in chosen}
    heads = list(dict.fromkeys(f"{r.machine}.\n\n{r.workload}." for r in records.values() if r and r.machine))
    for head in heads:
        print(printable(head, keep="\n"))
    if len(heads) > 1:
        print("\nThese results are of several machines.")
    for section in chosen:
        print("\n" + printable(section_text(section.title, records[section.name]), keep="\n"))
    failed = [name for name, record in records.items() if record is not None and record.status == "failed"]
    if failed and not is_report:
        print(f"\nFailed: {', '.join(failed)}; the same command measures them again", file=sys.stderr)
    return 1 if failed else 0


def _print_list() -> None:
    for section in SECTIONS.values():
        needs = ["a CUDA device"] if section.cuda_reason else []
        needs += section.packages.values()
        print(f"{section.name}: {section.title}; at most {section.limit_seconds} s", end="")
        print(f"; needs {', '.join(needs)}" if needs else "")


def _refuse(error: Exception) -> int:
    print(f"error: {printable(str(error))}.", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections (default: all)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gpu_benchmark"), help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="list the sections, and measure nothing")
    parser.add_argument("--report", action="store_true", help="print the results in OUT, and measure nothing")
    parser.add_argument(
        "--minutes",
        type=positive_number,
        default=MINUTES,
        help="time of all sections, which scales the limit of each (default: %(default)g)",
    )
    default = Settings()
    add_workload(parser)
    parser.add_argument(
        "--rounds", type=positive_integer, default=default.rounds, help="rounds of one step (default: %(default)s)"
    )
    parser.add_argument(
        "--processes",
        type=positive_integer,
        default=default.processes,
        help="most processes that train at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=positive_number,
        default=default.seconds,
        help="time for which each number of processes trains (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
