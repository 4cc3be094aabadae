"""Options of ``sweeps/run.py`` that stand for settings, and durations."""

from __future__ import annotations

import argparse
import json
import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_LONGEST_SECONDS = 366 * 86400.0


def settings_of(options: argparse.Namespace) -> list[str]:
    """``dotted.key=value`` of the options that stand for settings, as ``--set`` would give them."""
    given = {
        "search.num_trials": options.num_trials,
        "search.patience": options.patience,
        "search.warm_start": options.warm_start,
        "resources.max_concurrent_trials": options.max_concurrent,
    }
    # JSON is YAML: a name such as 007 stays text.
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def duration_seconds(text: str) -> float:
    """Seconds of a duration such as ``90m``, ``8h`` or ``1h30m``.

    Raises:
        argparse.ArgumentTypeError: the text is something else.
    """
    compact = text.replace(" ", "")
    parts = _DURATION.findall(compact)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(f"{number}{unit}" for number, unit in parts) != compact or not 0 < seconds <= _LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(
            f'found "{text}"; allowed: numbers with a unit, s, m, h or d, such as 90m, 8h or 1h30m, up to 366d'
        )
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("--num-trials", type=int, metavar="N", help="search.num_trials: proposed trials")
    parser.add_argument(
        "--max-concurrent", type=int, metavar="N", help="resources.max_concurrent_trials: trials at a time"
    )
    parser.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="search.patience: end the search after N proposals in a row that do not enlarge the hypervolume",
    )
    parser.add_argument(
        "--time-budget",
        type=duration_seconds,
        metavar="TIME",
        help="such as 90m, 8h or 1d, from the start of this command: running trials are then interrupted, to be "
        "resumed by --resume, and the results so far are printed",
    )
    parser.add_argument(
        "--warm-start",
        metavar="STUDY",
        help="search.warm_start: the sampler starts with the finished trials of another study, a name in the same "
        "storage_path or a folder, as far as they are trials of this one, too",
    )
