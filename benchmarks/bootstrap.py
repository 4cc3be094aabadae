"""Time confidence intervals: MR^-2 of all subsets on bootstrap resamples of the images, without reading and matching.

Prints the median over several repetitions.

    python benchmarks/bootstrap.py --ground-truth val_gt.json --detections val_dt.json --protocol citypersons
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

if not __package__:
    # Run as a file of a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hkd.evaluation.bootstrap import RESAMPLES, resample_miss_rates
from hkd.evaluation.comparison import DetectorFile, read_inputs
from hkd.evaluation.matching import match


def main() -> int:
    """Measure, and print the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="GT", help="annotation file (JSON)")
    parser.add_argument("--detections", type=Path, required=True, metavar="DT", help="COCO results, or a text format")
    parser.add_argument(
        "--height-scale", type=float, default=1.0, help="factor on detected heights (default: %(default)s)"
    )
    parser.add_argument("--protocol", default="citypersons", help="name or YAML file (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="resamples (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="repetitions of the measurement (default: %(default)s)")
    options = parser.parse_args()
    detector = DetectorFile("detections", options.detections, options.height_scale)
    inputs = read_inputs(options.ground_truth, [detector], options.protocol)
    matches = match(inputs.ground_truth, inputs.detectors[0][1], inputs.protocol)
    seconds = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        resample_miss_rates(matches, inputs.protocol, resamples=options.resamples)
        seconds.append(time.perf_counter() - start)
    num_subsets, num_images = matches.counted_per_image.shape
    print(
        f"{num_images:,} images, {len(matches.order):,} detections, {num_subsets} subsets, {options.resamples:,} "
        f"resamples: median {statistics.median(seconds):.3f} s of {options.repeats}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
