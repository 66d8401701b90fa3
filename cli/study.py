"""`cxrfeat study`: build, describe and change the table of images."""

from __future__ import annotations

from typing import Any

import click

import cxrfeat as cxr

from .base import Group
from .options import (
    DATASET,
    SEED,
    STUDY_NAME,
    PathOrAddress,
    all_of,
    format_option,
    given,
    shortcuts_option,
    study_argument,
)
from .output import ended, json_option, print_json, print_result, print_table, say, watched

SHARE = click.FloatRange(0, 1, max_open=True)
WHERE = click.option("--where", metavar="COLUMN=VALUE", multiple=True, help="Use only such rows; repeat it for more.")
ONE_PER = click.option(
    "--one-per", type=click.Choice(["patient", "study"]), help="Use one image of each, a frontal one if there is one."
)


# How a split is made.
SHARES = all_of(
    click.option("--val", type=SHARE, help="Share of the images for validation. [default: 0.1]"),
    click.option("--test", type=SHARE, help="Share for test, if there is no official list. [default: 0.2]"),
    click.option("--seed", type=SEED, help="Seed of the split. [default: 0]"),
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace another study of that name.")
# Where a study goes that is made of others.
WRITTEN = all_of(
    click.option("-o", "--out", type=click.Path(dir_okay=False), help="The file. [default: studies/NAME.csv]"),
    click.option("--name", help="The new study's name."),
    OVERWRITE,
    json_option,
)


@click.group(cls=Group)
def command() -> None:
    """Build, describe and change the table of images.

    \b
    Example:
      cxrfeat study build ~/ChestX-ray14 -o studies/nih.csv
      cxrfeat study describe studies/nih.csv --figure nih.png
      cxrfeat study leaks nih
    """


@command.command()
@click.argument("source")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False), help="The study, CSV or .parquet. [default: studies/NAME.csv]"
)
@click.option("--name", help="The study's name. [default: of the folder or file]")
@click.option("--dataset", type=DATASET, help="What SOURCE is.  [default: recognised]")
@click.option(
    "--images", type=PathOrAddress(), help="The image folder, also an address, if it is not beside the table."
)
@click.option("--id", "image_id", metavar="COLUMN", help="The column of image ids. [default: image_id, or path]")
@click.option("--path", metavar="COLUMN", help="The column of image files. [default: path, or the ids]")
@click.option("--patient", metavar="COLUMN", help="The column of patient ids. [default: patient_id]")
@click.option("--label", "labels", metavar="LABEL", multiple=True, help="A label to use; repeat it for more.")
@click.option("--findings", metavar="COLUMN", help="A column that names the findings in one cell.")
@click.option("--separator", help="What separates two findings. [default: |]")
@click.option("--split", metavar="COLUMN", help="A column of train, val and test. [default: split]")
@click.option(
    "--uncertain",
    metavar="[LABEL=]POLICY",
    multiple=True,
    help="What -1 or u means: unknown, positive, negative, or a probability; repeat it for single labels.",
)
@click.option("--soft", is_flag=True, help="-1 is the probability 0.5, for heads that take soft targets.")
@click.option(
    "--unmentioned",
    type=click.Choice(["unknown", "negative"]),
    help="Of CheXpert and MIMIC-CXR: what an empty cell means. [default: unknown]",
)
@click.option(
    "--readers",
    type=click.Choice(["any", "majority", "mean"]),
    help="Of VinDr-CXR: when a finding that not all readers see is present. [default: majority]",
)
@WHERE
@click.option("--drop-duplicates", is_flag=True, help="Of rows with one image id use the first.")
@click.option("--encoding", metavar="NAME", help="Of the table, such as latin-1. [default: recognised]")
@click.option("--keep", metavar="COLUMN", multiple=True, help="One more column to keep; repeat it for more.")
@ONE_PER
@click.option("--resplit", is_flag=True, help="Split again, even if there are official lists or a split column.")
@SHARES
@click.option(
    "--missing",
    type=click.Choice(["error", "skip", "keep"]),
    help="Rows whose image is not on disk: refuse, leave them out, or keep them. [default: error]",
)
@click.option("--anonymise", metavar="SALT", help="Hash the ids of patients and studies, the same way for one SALT.")
@OVERWRITE
@json_option
def build(source: str, out: str | None, overwrite: bool, as_json: bool, **options) -> None:
    """Make a study of SOURCE: a dataset's folder, a table, a folder per class, or a folder of DICOM files.

    Datasets are recognised by their tables; see docs/datasets.md. Any other table is a CSV, Excel or Parquet file with
    one row per image.

    Splits are by patient. Official lists are used if they are beside the table; otherwise every label is spread over
    the splits in proportion. A table needs a column each for image and patient, and either label columns (1, 0, or
    empty for unknown) or one column that names the findings; without labels it can be predicted only. These, view,
    sex, age, follow_up and the columns named with --keep are copied into the study, and no others.

    \b
    Example:
      cxrfeat study build ~/ChestX-ray14 -o studies/nih.csv
      cxrfeat study build CheXpert-v1.0-small --unmentioned negative --where view=AP --where view=PA --name chexpert
      cxrfeat study build ward.csv --path file --patient mrn --label Effusion --label Edema
      cxrfeat study build ward.csv --path file --patient mrn --findings "Finding Labels" --separator ";"
    """
    _save(cxr.read_study(source, build=True, **given(options)), out, overwrite, as_json)


@command.command()
@study_argument
@click.option("--figure", type=click.Path(dir_okay=False), help="Draw the class frequencies into this file.")
@shortcuts_option
@json_option
def describe(study: str | None, figure: str | None, shortcuts: bool, as_json: bool) -> None:
    """Count images, patients and positives per label and split, and check that no patient is in two splits.

    STUDY is a study file, the name of one under studies/, or `sample`. [default: the only one under studies/]

    \b
    Example:
      cxrfeat study describe sample --figure frequencies.png
      cxrfeat study describe studies/nih.csv --no-shortcuts
    """
    found, more = cxr.read_study(study), {}
    if shortcuts:
        scored = watched("looking at files", cxr.shortcuts, found)
        more = {"shortcuts": scored.rows, "warnings": scored.warnings()}
    _print(found.describe(), as_json, **more)
    if shortcuts and not as_json:
        if scored.rows:
            print_table(scored.rows, title=scored.title)
        for sentence in scored.warnings():
            say(f"warning: {sentence}")
    if figure:
        from cxrfeat._report import bars

        bars.class_frequencies(found).save(figure)
        say(f"wrote {figure}")


@command.command()
@click.argument("studies", nargs=-1, required=True, type=STUDY_NAME, metavar="STUDY [OTHER]...")
@click.option("-o", "--out", type=click.Path(file_okay=False), help="Where to write. [default: studies/STUDY.leaks]")
@click.option(
    "--expected-false", type=click.FloatRange(0, min_open=True), metavar="N",
    help="False pairs that may be found on average. [default: 0.05]",
)  # fmt: skip
@click.option("--seed", type=SEED, help="Which images the threshold is read from. [default: 0]")
@format_option
def leaks(studies: tuple[str, ...], out: str | None, kind: str, **options) -> None:
    """Find images that are in STUDY under two patients, or in STUDY and OTHER.

    Copies may be re-encoded, resized, cut by 2 %, changed in brightness, contrast or gamma, or equalised. Writes the
    pairs, a contact sheet of them, and the ids to drop, and records that the study was checked.

    \b
    Example:
      cxrfeat study leaks nih
      cxrfeat study leaks nih rsna
      cxrfeat study subset rsna --drop studies/nih.leaks/drop-rsna.txt --name rsna-clean
    """
    found = watched("reading images", cxr.leaks, *studies, **given(options))
    written = found.save(out)
    print_result(found, kind)
    ended(written, f"pairs: {len(found.pairs):,}; images to drop: {len(found.drop()):,}.", kind=kind)


@command.command("map")
@study_argument
@click.option("--to", metavar="NAME", help="Have the labels of this dataset, as nih, or of this study.")
@click.option("--rename", metavar="OLD=NEW", multiple=True, help="A name for a label; repeat it for more.")
@WRITTEN
def map_labels(study: str | None, out: str | None, overwrite: bool, as_json: bool, **options) -> None:
    """Give labels their usual names, or a study the labels of another.

    A label that the study lacks is derived where a label that is a kind of it is present, or one that it is a kind of
    is absent. Elsewhere it is unknown, never 0.

    \b
    Example:
      cxrfeat study map chexpert --to nih
      cxrfeat study map ward --rename "wet lung=Edema"
    """
    _save(cxr.map_study(study, **given(options)), out, overwrite, as_json)


@command.command()
@click.argument("studies", nargs=-1, required=True, type=STUDY_NAME)
@click.option("--same-patients", is_flag=True, help="A patient id is the same patient in all, a file the same image.")
@click.option("--resplit", is_flag=True, help="Split again by patient; otherwise images keep their split.")
@SHARES
@WRITTEN
def merge(studies: tuple[str, ...], out: str | None, overwrite: bool, as_json: bool, **options) -> None:
    """Put STUDIES together: all images, and all labels under their usual names.

    A label that a study does not have is unknown for its images.

    \b
    Example:
      cxrfeat study merge nih chexpert --name both
      cxrfeat study merge nih-google nih --same-patients --resplit
    """
    _save(cxr.merge_studies(*studies, **given(options)), out, overwrite, as_json)


@command.command()
@study_argument
@WHERE
@click.option("--split", multiple=True, help="Use only this split; repeat it for more.")
@click.option("--label", "labels", metavar="LABEL", multiple=True, help="Use only this label; repeat it for more.")
@ONE_PER
@click.option("--only", type=click.Path(), help="A text file with the ids of the images to use, one in a line.")
@click.option("--drop", type=click.Path(), help="A text file with the ids of images to leave out.")
@WRITTEN
def subset(study: str | None, out: str | None, overwrite: bool, as_json: bool, **options) -> None:
    """Take a part of a study: some rows, some labels. Images keep their split.

    \b
    Example:
      cxrfeat study subset chexpert --where view=PA --one-per patient
      cxrfeat study subset nih --drop duplicates.txt --name nih-clean
    """
    _save(cxr.subset_study(study, **given(options)), out, overwrite, as_json)


@command.command()
@study_argument
@SHARES
@WRITTEN
def resplit(study: str | None, out: str | None, overwrite: bool, as_json: bool, **options) -> None:
    """Split a study again, by patient and with every label in proportion.

    \b
    Example:
      cxrfeat study resplit chexpert --test 0.1 --seed 1
    """
    _save(cxr.resplit_study(study, **given(options)), out, overwrite, as_json)


def _save(study, out: str | None, overwrite: bool, as_json: bool) -> None:
    written = study.save(out, overwrite=overwrite)
    _print(study.describe(), as_json, study=str(written))
    name = written.stem if written.parent.name == "studies" else written
    ended(written, f"{len(study):,} images.", f"cxrfeat extract {name}", "json" if as_json else "table")


def _print(summary, as_json: bool, **more: Any) -> None:
    if as_json:
        return print_json({**more, **summary.to_dict()})
    for title, rows in summary.tables().items():
        print_table(rows, title)
    for note in summary.notes():
        click.echo(note)
