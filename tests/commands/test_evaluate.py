from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hkd import cli
from hkd.commands import evaluate as command
from hkd.evaluation.bootstrap import compare, intervals, resample_miss_rates
from hkd.evaluation.evaluator import EvaluationResult, evaluate
from hkd.evaluation.matching import match
from hkd.evaluation.protocols import CITYPERSONS
from hkd.evaluation.reporting import curve_plot
from tests.evaluation.coco_files import coco, crowded_scene, detection, parse, person

BOX = [10.0, 20.0, 41.0, 100.0]
FRAME, LINE = "set06_V000_I00029.jpg", "30,1,2,3,4,0.5\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with one image of one person of 100 pixels, whom good.json finds and blind.json does not."""
    monkeypatch.chdir(tmp_path)
    Path("gt.json").write_text(json.dumps(coco(1, [person(1, BOX, vis_ratio=0.9)])))
    Path("good.json").write_text(json.dumps([detection(1, BOX, 0.9)]))
    Path("blind.json").write_text("[]")
    return tmp_path


def hkd_evaluate(arguments: str) -> int:
    return cli.main(["evaluate", "--ground-truth", "gt.json", *arguments.split()])


def test_one_detector_is_printed_as_table_in_per_cent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hkd_evaluate("--detections good.json --resamples 20 --seed 3") == 0
    captured = capsys.readouterr()
    # The one person is found with no false positive: nothing is missed. A person of 100 pixels is not among the small
    # (50 to 75 pixels), and not heavily occluded. One image: all resamples are the same.
    assert captured.out.splitlines() == [
        "citypersons: 1 images, good: 1 detections",
        "subset      height (px)  visibility   boxes  MR^-2 (%)  95 % interval",
        "reasonable  [50, inf)    [0.65, inf)      1       0.00   0.00 to 0.00",
        "small       [50, 75]     [0.65, inf)      0          -              -",
        "heavy       [50, inf)    [0.2, 0.65]      0          -              -",
        "all         [20, inf)    [0.2, inf)       1       0.00   0.00 to 0.00",
        "",
        "COCO AP 100.00 %, AP50 100.00 % (over the 1 boxes that are not ignored)",
        "",
        "intervals: percentile bootstrap over images, 20 resamples, seed 3",
        # At all nine points no one is missed.
        (
            "MR^-2 is undetermined where no one is missed at some FPPI points, because one of them makes the geometric "
            "mean 0 or nearly so: reasonable (9 of 9), all (9 of 9). Evaluate on more than 1 images, or compare by AP."
        ),
        "- no value: no ground-truth box counts",
    ]
    assert captured.err == ""


def test_named_categories_are_evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = coco(1, [person(1, BOX), person(1, [200, 20, 41, 100], category_id=2)])
    truth["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "rider"}]
    Path("gt.json").write_text(json.dumps(truth))
    # The rider is not there, or ignored: one of one person is found. As a person, the rider is missed: half are found.
    for options, boxes, rate in (("", 1, "0.00"), ("--ignore-category Rider", 1, "0.00"), ("--person rider", 1, None)):
        code = hkd_evaluate(f"--detections good.json --resamples 0 {options}")
        captured = capsys.readouterr()
        if rate is None:
            # The detections are of category 1, which is another one then.
            assert (code, '1 "person"' in captured.err) == (2, True)
        else:
            assert f"reasonable  [50, inf)    [0.65, inf)      {boxes}       {rate}" in captured.out
    assert hkd_evaluate("--detections good.json --resamples 0 --person rider --person person") == 0
    # One of two is found, at no false positive: the miss rate is 0.5 everywhere.
    assert "reasonable  [50, inf)    [0.65, inf)      2      50.00" in capsys.readouterr().out


def test_detectors_are_compared_with_the_first_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hkd_evaluate("--detections good.json none=blind.json --detections again=good.json --resamples 10") == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert blocks[0].splitlines()[:5] == [
        "citypersons: 1 images",
        "subset      height (px)  visibility   boxes  detector  MR^-2 (%)     95 % interval",
        "reasonable  [50, inf)    [0.65, inf)      1  good           0.00      0.00 to 0.00",
        "                                             none         100.00  100.00 to 100.00",
        "                                             again          0.00      0.00 to 0.00",
    ]
    assert blocks[1].splitlines() == [
        "COCO AP, over the 1 boxes that are not ignored",
        "detector  detections  AP (%)  AP50 (%)",
        "good               1  100.00    100.00",
        "none               0    0.00      0.00",
        "again              1  100.00    100.00",
    ]
    assert blocks[2].splitlines()[:4] == [
        "MR^-2 minus that of good, on the same resamples (below 0: better)",
        "subset      detector  difference (points)       95 % interval  better in (% of resamples)",
        "reasonable  none                  +100.00  +100.00 to +100.00                         0.0",
        "            again                   +0.00      +0.00 to +0.00                        50.0",
    ]


def test_json_contains_every_number(folder: Path) -> None:
    ground_truth, first = crowded_scene(seed=1, num_images=30, people=4, detections=12)
    second = first[::2]
    for name, content in (("gt", ground_truth), ("a", first), ("b", second)):
        Path(f"{name}.json").write_text(json.dumps(content))
    assert hkd_evaluate("--detections a.json b.json --resamples 50 --seed 4 --json made/all.json") == 0
    written = json.loads(Path("made/all.json").read_text())
    described = {key: written[key] for key in ("protocol", "ground_truth", "resamples", "seed", "confidence")}
    assert described == {
        "protocol": "citypersons",
        "ground_truth": "gt.json",
        "resamples": 50,
        "seed": 4,
        "confidence": 0.95,
    }
    rates = []
    for detector, found in zip(written["detectors"], (first, second), strict=True):
        expected = evaluate(ground_truth, found, CITYPERSONS)
        assert EvaluationResult.from_json(json.dumps(detector["result"])).to_json() == expected.to_json()
        matches = match(*parse(ground_truth, found), CITYPERSONS)
        rates.append(resample_miss_rates(matches, CITYPERSONS, resamples=50, seed=4))
        assert [(i["low"], i["high"]) for i in detector["intervals"]] == [(i.low, i.high) for i in intervals(rates[-1])]
    (pair,) = written["comparisons"]
    assert (pair["first"], pair["second"]) == ("a", "b")
    by_hand = compare(rates[0], rates[1])
    assert [each["difference"] for each in pair["subsets"]] == [each.difference for each in by_hand]
    assert [each["probability_second_better"] for each in pair["subsets"]] == [
        each.probability_second_better for each in by_hand
    ]


def test_zero_resamples_print_no_intervals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hkd_evaluate("--detections good.json blind.json --resamples 0 --json out.json") == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert not any("interval" in block or "resamples" in block for block in blocks)
    # The differences need none.
    assert blocks[2].splitlines()[:4] == [
        "MR^-2 minus that of good (below 0: better)",
        "subset      detector  difference (points)",
        "reasonable  blind                 +100.00",
        "small       blind                       -",
    ]
    written = json.loads(Path("out.json").read_text())
    (pair,) = written["comparisons"]
    assert [each["difference"] for each in pair["subsets"]] == [1.0, None, None, 1.0]
    assert [(each["low"], each["probability_second_better"]) for each in pair["subsets"]] == [(None, None)] * 4
    assert [detector["intervals"] for detector in written["detectors"]] == [[], []]


def test_number_of_resamples_without_ground_truth_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The person is in one of two images: a quarter of the resamples has the other alone.
    Path("gt.json").write_text(json.dumps(coco(2, [person(1, BOX)])))
    assert hkd_evaluate("--detections good.json --resamples 400 --json out.json") == 0
    (detector,) = json.loads(Path("out.json").read_text())["detectors"]
    without = detector["intervals"][0]["resamples_without_value"]
    assert 60 < without < 140
    lines = capsys.readouterr().out.splitlines()
    assert f"reasonable: no ground truth counts in {without} resamples, which are left out" in lines
    # A subset that has no value at all has one line for it, not two.
    assert not any(line.startswith("small: ") for line in lines)


def test_heights_are_scaled_per_detector_or_for_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 128 pixels high about the same centre: an overlap of 100 / 128 is enough, but the box of 256 is not.
    Path("tall.json").write_text(json.dumps([detection(1, [10, 6, 41, 128], 0.9)]))
    Path("taller.json").write_text(json.dumps([detection(1, [10, -58, 41, 256], 0.9)]))
    arguments = "--detections tall.json taller.json --resamples 0 --json out.json"
    for scales, expected in (
        ("", [0.0, 1.0]),
        ("--height-scale taller=0.4", [0.0, 0.0]),
        ("--height-scale 0.35", [1.0, 0.0]),  # 44.8 and 89.6 pixels high
        ("--height-scale tall=1 0.35", [0.0, 0.0]),
        ("--height-scale 0.35 tall=1", [0.0, 0.0]),
    ):
        assert hkd_evaluate(f"{arguments} {scales}") == 0
        written = json.loads(Path("out.json").read_text())["detectors"]
        rates = [detector["result"]["subsets"][0]["log_average_miss_rate"] for detector in written]
        assert rates == expected, scales
    assert [detector["height_scale"] for detector in written] == [1.0, 0.35]
    assert "taller: heights are scaled by 0.35" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("ending", curve_plot.FORMATS)
def test_curves_are_plotted(folder: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, str, list[str]]] = []

    def draw(curves: list[curve_plot.NamedCurve], title: str, file_format: str) -> bytes:
        drawn.append((title, file_format, [curve.name for curve in curves]))
        return b"drawn"

    monkeypatch.setattr(curve_plot, "draw_curves", draw)
    plot = Path(f"made/curve.{ending}")
    assert hkd_evaluate(f"--detections good.json blind.json --resamples 0 --plot {plot}") == 0
    assert hkd_evaluate(f"--detections good.json --resamples 0 --plot {plot} --subset all") == 0
    assert plot.read_bytes() == b"drawn"
    assert drawn == [("citypersons: reasonable", ending, ["good", "blind"]), ("citypersons: all", ending, ["good"])]


def test_plot_suffixes_are_the_formats_of_curve_plot() -> None:
    assert tuple(suffix.removeprefix(".") for suffix in command.PLOT_SUFFIXES) == curve_plot.FORMATS


def test_protocol_is_read_from_yaml_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("subsets: [{name: tall, height: [100, null]}]\n")
    assert hkd_evaluate("--detections good.json --protocol mine.yaml --plot c.png --subset tall --resamples 0") == 0
    assert capsys.readouterr().out.startswith("mine: 1 images")


def test_name_with_rich_markup_is_printed_literally(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hkd_evaluate("--detections [/b]=good.json --resamples 1") == 0
    assert ", [/b]: 1 detections" in capsys.readouterr().out


def test_control_characters_in_names_and_labels_are_escaped(folder: Path) -> None:
    # A lone surrogate in JSON, a byte that is not UTF-8 in a name, escape sequences and line breaks in both.
    people = [person(1, BOX, label=label) for label in ("\ud800person", "\x1b[31mred\nX")]
    Path("gt.json").write_text(json.dumps(coco(1, [*people, person(1, BOX)])))
    name = b"\xff\x1b[2J$x"
    Path("plain.json").write_text("[]")
    arguments = [b"--ground-truth", b"gt.json", b"--detections", name + b"=plain.json", b"--protocol", b"caltech"]
    ended = subprocess.run(
        [sys.executable, b"-m", b"hkd", b"evaluate", *arguments, b"--json", b"out.json", b"--plot", b"out.png"],
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"\x1b" not in ended.stdout
    lines = ended.stdout.decode().splitlines()
    assert lines[0] == r"caltech: 1 images, \udcff\x1b[2J$x: 0 detections"
    dropped = "Neither counted nor ignored, as caltech does not list their class: "
    assert rf"{dropped}1 \x1b[31mred\nX, 1 \ud800person." in lines
    # Error messages are escaped, too.
    ended = subprocess.run(
        [sys.executable, b"-m", b"hkd", b"evaluate", b"--ground-truth", b"gt.json", b"--detections", name],
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(rb"hkd evaluate: \udcff\x1b[2J$x: cannot be read")


def test_name_longer_than_any_file_name_is_accepted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hkd_evaluate(f"--detections {'n' * 300}=good.json --resamples 0") == 0
    assert f", {'n' * 300}: 1 detections" in capsys.readouterr().out


def test_existing_file_with_equals_sign_is_a_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t=0.5.json").write_bytes(Path("good.json").read_bytes())
    assert hkd_evaluate("--detections t=0.5.json --resamples 0") == 0
    assert ", t=0.5: 1 detections" in capsys.readouterr().out


def test_all_invalid_options_are_reported_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--detections =x.json a=b.json a=c.json --height-scale b=2 a=x a=0 1_0 2 a=1 3 a=4"
    assert hkd_evaluate(f"{arguments} --json gt.json --plot curve.gif") == 2
    expected = [
        ["hkd evaluate: ", "--detections", '"=x.json"', "name"],
        ["--detections", "b.json", "c.json", '"a"', "NAME=PATH"],
        ["--height-scale", '"b=2"', "detectors: a"],
        ["--height-scale", '"a=x"', "number > 0"],
        ["--height-scale", '"a=0"', "number > 0"],
        ["--height-scale", '"1_0"', "number > 0"],
        ["--height-scale", '"3"', "all detectors", "give one"],
        ["--height-scale", '"a=4"', '"a"', "give one"],
        ["gt.json", "overwritten", "--json"],
        ["--plot", "curve.gif", ".png, .pdf, .svg"],
    ]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(expected)
    for line, facts in zip(lines, expected, strict=True):
        assert [fact for fact in facts if fact not in line] == [], line


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ("--json good.json", ["good.json: ", "overwritten", "--json"]),
        ("--json .", [".: is a folder", "--json"]),
        ("--json a.png --plot ./a.png", ["a.png: ", "--json", "give --plot another file"]),
        ("--subset all", ["--subset", "--plot FILE"]),
        ("--plot a.png --subset tiny", ["'citypersons'", "'tiny'", "reasonable, small,"]),
        ("--plot a.png --subset heavy", ["heavy", "no curve", "--subset"]),
        # The subset is checked before --json is written.
        ("--plot a.png --subset heavy --json b.json", ["heavy"]),
        ("--json gt.json/a.json", ["gt.json/a.json: cannot be written (", "--json"]),
    ],
)
def test_output_problem_is_reported_before_anything_is_written(
    folder: Path, arguments: str, facts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert hkd_evaluate(f"--detections good.json --resamples 0 {arguments}") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("hkd evaluate: ")
    assert [fact for fact in facts if fact not in captured.err] == []
    assert captured.out == ""
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("out", ["res/set06/V000.txt", "res/new.json", "elsewhere/set06/V000.txt"])
def test_output_inside_input_folder_is_rejected(folder: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("gt.json").write_text(json.dumps({"images": [{"id": 1, "file_name": FRAME}], "annotations": []}))
    Path("res/set06").mkdir(parents=True)
    Path("res/set06/V000.txt").write_text(LINE)
    Path("elsewhere").symlink_to("res")
    assert hkd_evaluate(f"--detections res --resamples 0 --json {out}") == 2
    message = capsys.readouterr().err
    assert message.startswith(f"hkd evaluate: {out}: ")
    assert "inside an input folder" in message
    assert "--json" in message
    assert Path("res/set06/V000.txt").read_text() == LINE
    # A file beside the folder is accepted.
    assert hkd_evaluate("--detections res --resamples 0 --json res.json") == 0
    # A folder with the name of a protocol is not an input.
    assert hkd_evaluate("--detections res --resamples 0 --json citypersons/res.json") == 0
    assert hkd_evaluate("--detections res --resamples 0 --json citypersons/res.json") == 0


@pytest.mark.parametrize("number", ["-1", "x", "1000001", "1_0", "\u0663", "1.0", "9" * 5000])
def test_invalid_number_of_resamples_is_rejected(folder: Path, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        hkd_evaluate(f"--detections good.json --resamples {number}")
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f'--resamples: found "{number[:60]}' in message
    assert "allowed: integer from 0 to 1000000" in message
    assert len(message) < 2_000


def test_all_invalid_files_are_reported_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("gt.json").write_text("{")
    Path("nan.json").write_text('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": NaN}]')
    assert hkd_evaluate("--detections missing.json nan.json --protocol kitti") == 2
    message = capsys.readouterr().err
    assert message.startswith("hkd evaluate: ")
    assert all(word in message for word in ("gt.json: ", "missing.json: ", "nan.json: ", "'kitti'"))


def test_spinner_prints_nothing_to_redirected_stderr(folder: Path) -> None:
    arguments = ["--ground-truth", "gt.json", "--detections", "good.json", "--resamples", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "hkd", "evaluate", *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("citypersons: 1 images, good: 1 detections\n")
