"""Measures untrained detectors of a study on this machine, by ``hkd benchmark`` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from hkd.config import DetectorConfig, TrialConfig
from hkd.export.untrained import export_untrained
from hkd.inference.deployed.packages import required_package
from hkd.text.escaping import LinesError
from sweeps.settings.study import StudyConfig
from sweeps.trials.latency.shapes import detectors_to_measure

_RUN_HKD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from hkd.cli import main; sys.exit(main(sys.argv[1:]))"
)
"""Imports the modules of this process, and none of the working folder."""


class LatencyError(LinesError):
    """Latency cannot be measured."""


def check_packages(base: TrialConfig) -> None:
    """Check that detectors can be exported and run on this machine.

    Raises:
        MissingPackageError: naming the extra to install.
    """
    assert base.evaluation.latency is not None
    for package in ("onnx", base.evaluation.latency.runtime):
        required_package(package)


def export_detectors(study: StudyConfig, folder: Path) -> list[Path]:
    """Write the detectors to measure as ONNX files, untrained.

    Raises:
        ExportError: one of them cannot be exported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, files = study.base.data, []
    for number, detector in enumerate(detectors_to_measure(study), start=1):
        file = folder / f"{number:02}-{_described(detector)}.onnx"
        export_untrained(detector, data.image_height, data.image_width, study.base.evaluation, file)
        files.append(file)
    return files


def measure_detectors(study: StudyConfig, out: Path) -> None:
    """Measure the detectors in turn, one image a call, and write ``hkd benchmark``'s file.

    Nothing else should use the cores: no trial runs yet.

    Raises:
        ExportError: one of them cannot be exported.
        LatencyError: the measurement failed.
    """
    latency = study.base.evaluation.latency
    assert latency is not None
    with TemporaryDirectory(prefix="hkd-latency-") as name:
        folder = Path(name)
        files = export_detectors(study, folder)
        options = {"--runtime": latency.runtime, "--threads": latency.num_threads, "--runs": latency.runs}
        texts = [str(each) for option in options.items() for each in option]
        # A process of its own: the runtime's threads and memory end with it, and torch's threads here stay as they are.
        command = [sys.executable, "-P", "-c", _RUN_HKD, json.dumps(sys.path), "benchmark", *map(str, files)]
        command += [*texts, "--network-only", "--json", str(out)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise LatencyError(f"base.evaluation.latency: hkd benchmark failed ({last}); remove its cause, or give a table")


def _described(detector: DetectorConfig) -> str:
    return (
        f"{detector.backbone}-width-{detector.width_multiplier:g}-pyramid-{detector.pyramid_channels}"
        f"-head-{detector.head_channels}"
    )
