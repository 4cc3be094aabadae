"""How long do intervals take? MR^-2 of all subsets on a thousand resamples of the images, after matching.

python -m benchmarks.bootstrap --ground-truth val_gt.json --detections val_dt.json --protocol citypersons
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from hkd.evaluation.bootstrap import RESAMPLES, resample_miss_rates
from hkd.evaluation.comparison import DetectorFile, read_inputs
from hkd.evaluation.matching import match


def main() -> int:
    """Measure and print the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ground-truth", type=Path, required=True)
    parser.add_argument("--detections", type=Path, required=True)
    parser.add_argument("--height-scale", type=float, default=1.0)
    parser.add_argument("--protocol", default="citypersons")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--repeats", type=int, default=9)
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
