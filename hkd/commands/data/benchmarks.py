"""Published data sets of pedestrians."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.data.options import (
    add_annotations_only,
    add_data_set,
    add_skip_missing,
    print_summary,
    reject_preview_without_images,
)
from hkd.commands.parsing import Commands, non_negative_integer, positive_integer


def add_to(data_sets: Commands[argparse.ArgumentParser]) -> None:
    """Add the published data sets to those of ``hkd data``."""
    _add_pennfudan(data_sets)
    _add_inria(data_sets)
    _add_caltech(data_sets)
    _add_citypersons(data_sets)
    _add_crowdhuman(data_sets)
    _add_eurocity(data_sets)
    _add_kaist(data_sets)


def _add_pennfudan(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "pennfudan",
        "Penn-Fudan: 170 photographs",
        """\
        Convert the Penn-Fudan database and split its images at random into training and validation images. The same
        seed gives the same split.""",
        "folder that contains PNGImages and Annotation",
        "hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan",
    )
    parser.add_argument("--seed", type=non_negative_integer, default=0, help="seed of the split (default: 0)")
    parser.add_argument(
        "--train-images",
        type=positive_integer,
        default=120,
        metavar="N",
        help="number of training images; the others are for validation (default: 120)",
    )
    parser.set_defaults(run=_run_pennfudan)


def _run_pennfudan(options: argparse.Namespace) -> None:
    from hkd.data.sources.pennfudan import convert

    summary = convert(
        options.root,
        options.out,
        seed=options.seed,
        train_images=options.train_images,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_inria(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "inria",
        "INRIA Person: 614 training and 288 test photographs",
        """\
        Convert the official training and test photographs with people. Of the training photographs, a fifth becomes
        validation.json: whole scenes, because photographs of one scene show the same people. The test photographs are
        between those of the training in the same scenes, so that test.json is for a last confirmation.

        If ROOT has train.json and test.json instead, annotations of the same photographs in hkd's format (corrected
        ones, for example), they are divided in the same way.""",
        "folder that contains Train and Test, as INRIAPerson.tar unpacks, or train.json and test.json",
        """\
        hkd data inria --root downloads/INRIAPerson --out data/inria --preview 12
        hkd data inria --root downloads/INRIAPerson --out data/inria --negatives""",
    )
    parser.add_argument(
        "--negatives",
        action="store_true",
        help="also convert the photographs without people, Train/neg and Test/neg, for training and test",
    )
    add_skip_missing(parser)
    parser.set_defaults(run=_run_inria)


def _run_inria(options: argparse.Namespace) -> None:
    from hkd.data.sources.inria.convert import convert

    summary = convert(
        options.root,
        options.out,
        with_negatives=options.negatives,
        skip_missing=options.skip_missing,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_caltech(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "caltech",
        "Caltech-USA: videos",
        """\
        Convert the training sets 00 to 05 and the test sets 06 to 10, as far as they exist, sampled as in the
        benchmark. Frames are extracted from setNN/VNNN.seq to the output folder, or used in place if they are already
        extracted as setNN_VNNN_INNNNN.jpg. Boxes with another label than "person" are ignored.""",
        "folder that contains, in any sub-folder, the annotations (.vbb, or the new ones) and videos (.seq) or frames",
        """\
        hkd data caltech --root downloads/caltech --out data/caltech --preview 12
        hkd data caltech --root downloads/caltech --out data/truth --annotations-only""",
    )
    parser.add_argument(
        "--every", type=positive_integer, default=30, metavar="N", help="use every Nth frame (default: 30)"
    )
    parser.add_argument(
        "--annotations",
        choices=("original", "new"),
        default="original",
        help="original: .vbb files, or texts of frames if there is none; new: the corrected annotations of 2016, text"
        " files or JSON (default: original)",
    )
    add_annotations_only(parser)
    add_skip_missing(parser)
    parser.set_defaults(run=_run_caltech)


def _run_caltech(options: argparse.Namespace) -> None:
    from hkd.data.sources.caltech.convert import convert

    reject_preview_without_images(options)
    summary = convert(
        options.root,
        options.out,
        every=options.every,
        annotations=options.annotations,
        annotations_only=options.annotations_only,
        skip_missing=options.skip_missing,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_citypersons(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "citypersons",
        "CityPersons: official JSON files, .mat files, or val_gt.json",
        """\
        Convert the training and validation images, as far as their annotations exist: anno_train.mat and anno_val.mat,
        else val_gt.json, else the official release, gtBboxCityPersons/{train,val}/CITY/NAME_gtBboxCityPersons.json. All
        give the same result. Riders, sitting persons, other persons, groups and ignore regions are ignored.""",
        "folder that contains the annotations and Cityscapes' leftImg8bit, as their archives unpack",
        """\
        hkd data citypersons --root cityscapes --out data/citypersons --preview 12
        hkd data citypersons --root cityscapes --out truth --annotations-only""",
    )
    add_annotations_only(parser)
    add_skip_missing(parser)
    parser.set_defaults(run=_run_citypersons)


def _run_citypersons(options: argparse.Namespace) -> None:
    from hkd.data.sources.citypersons.convert import convert

    reject_preview_without_images(options)
    summary = convert(
        options.root,
        options.out,
        annotations_only=options.annotations_only,
        skip_missing=options.skip_missing,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_crowdhuman(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "crowdhuman",
        "CrowdHuman: .odgt files",
        """\
        Convert annotation_train.odgt and annotation_val.odgt, as far as they exist. Masks, and boxes that the data set
        marks as ignored, are ignored. Images are found by their names, in the folders of the archives.""",
        "folder that contains the .odgt files and, in any sub-folders, the images of the archives",
        "hkd data crowdhuman --root downloads/CrowdHuman --out data/crowdhuman",
    )
    add_skip_missing(parser)
    parser.set_defaults(run=_run_crowdhuman)


def _run_crowdhuman(options: argparse.Namespace) -> None:
    from hkd.data.sources.crowdhuman import convert

    summary = convert(
        options.root,
        options.out,
        skip_missing=options.skip_missing,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_eurocity(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "eurocity",
        "EuroCity Persons: JSON files",
        """\
        Convert the day and night, training and validation images, as far as they exist. Riders, distant groups, people
        who sit, lie, are behind glass, or are depictions or reflections, and objects without identity are ignored.""",
        "folder that contains day and night, or ECP",
        "hkd data eurocity --root downloads/ECP --out data/eurocity --preview 12",
    )
    add_skip_missing(parser)
    parser.set_defaults(run=_run_eurocity)


def _run_eurocity(options: argparse.Namespace) -> None:
    from hkd.data.sources.eurocity import convert

    summary = convert(
        options.root,
        options.out,
        skip_missing=options.skip_missing,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)


def _add_kaist(data_sets: Commands[argparse.ArgumentParser]) -> None:
    parser = add_data_set(
        data_sets,
        "kaist",
        "KAIST Multispectral: visible or infrared frames",
        """\
        Convert one modality of KAIST's frames: every second of sets 00 to 05 for training (train-all-02) and every
        20th of sets 06 to 11 for testing (test-all-20), or those of your lists. Annotations are the XML or text files
        of the original, sanitized, improved or paired release, or kaist_annotations_test20.json. Boxes with another
        label than "person" are ignored. Levels of occlusion become vis_ratio 1 (none), 0.75 (partial) and 0.25
        (heavy), which the protocol kaist of `hkd evaluate` separates.""",
        "folder that contains, in any sub-folder, setNN/VNNN/{visible,lwir}/INNNNN.jpg and the annotations",
        """\
        hkd data kaist --root kaist-cvpr15 --annotations annotations-xml-15 --out o
        hkd data kaist --root kaist --modality lwir --out data/kaist-lwir --preview 12
        hkd data kaist --root improved --out truth --annotations-only""",
    )
    parser.add_argument(
        "--modality", choices=("visible", "lwir"), default="visible", help="kind of images (default: visible)"
    )
    parser.add_argument(
        "--annotations",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder (or JSON file) in ROOT whose annotations are read; repeatable, and needed only if several annotate"
        " the same frames",
    )
    for name, default in (("train", "every second frame of sets 00 to 05"), ("test", "every 20th of sets 06 to 11")):
        parser.add_argument(
            f"--{name}-list",
            type=Path,
            metavar="FILE",
            help=f"list of the {name} frames, a line each as set00/V000/I00001 (default: {default})",
        )
    add_annotations_only(parser)
    add_skip_missing(parser)
    parser.set_defaults(run=_run_kaist)


def _run_kaist(options: argparse.Namespace) -> None:
    from hkd.data.sources.kaist.convert import convert

    reject_preview_without_images(options)
    summary = convert(
        options.root,
        options.out,
        modality=options.modality,
        annotation_folders=options.annotations,
        train_list=options.train_list,
        test_list=options.test_list,
        annotations_only=options.annotations_only,
        skip_missing=options.skip_missing,
        max_megapixels=options.max_megapixels,
    )
    print_summary(summary, options)
