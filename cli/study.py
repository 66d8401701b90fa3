"""`cxrfeat study`: build and describe the table of images."""

from __future__ import annotations

from pathlib import Path

import click

from cxrfeat._project import STUDIES, study_path

from .base import Group
from .options import study_argument
from .output import json_option, print_json, print_table, say

SHARE = click.FloatRange(0, 1, max_open=True)


@click.group(cls=Group)
def command() -> None:
    """Build and describe the table of images.

    \b
    Example:
      cxrfeat study build ~/ChestX-ray14 -o studies/nih.csv
      cxrfeat study describe studies/nih.csv --figure nih.png
    """


@command.command()
@click.argument("source")
@click.option("-o", "--out", type=click.Path(dir_okay=False), help="The study to write. [default: studies/NAME.csv]")
@click.option("--name", help="The study's name. [default: of the folder or file]")
@click.option("--images", type=click.Path(), help="The image folder, where it is not beside the table.")
@click.option("--id", "image_id", metavar="COLUMN", help="CSV: the column of image ids. [default: image_id, or path]")
@click.option("--path", metavar="COLUMN", help="CSV: the column of image files. [default: path, or the ids]")
@click.option("--patient", metavar="COLUMN", help="CSV: the column of patient ids. [default: patient_id]")
@click.option("--label", "labels", metavar="COLUMN", multiple=True, help="CSV: a label column; repeat it for more.")
@click.option("--findings", "findings_column", metavar="COLUMN", help="CSV: a column that names findings in one cell.")
@click.option("--separator", help="CSV: what stands between two findings.  [default: |]")
@click.option("--split", metavar="COLUMN", help="CSV: a column of train, val and test. [default: split]")
@click.option("--resplit", is_flag=True, help="Split anew, even where lists or a column say how.")
@click.option("--val", type=SHARE, default=0.1, show_default=True, help="Share of the images for validation.")
@click.option("--test", type=SHARE, default=0.2, show_default=True, help="Share for test, where no list says it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split.")
@click.option("--skip-missing", is_flag=True, help="Leave out rows whose image is not on disk.")
@json_option
def build(source: str, out: str | None, as_json: bool, **options) -> None:
    """Make a study of SOURCE: a ChestX-ray14 release folder, its label table, or any CSV.

    Splits are by patient. The official lists are used where they lie beside the table; otherwise the labels are
    spread over the splits in proportion. A CSV needs a column each for image and patient, and either label columns
    (1, 0, or empty for unknown) or one column that names the findings.

    \b
    Example:
      cxrfeat study build ~/ChestX-ray14 -o studies/nih.csv
      cxrfeat study build ward.csv --path file --patient mrn --label Effusion --label Edema
      cxrfeat study build ward.csv --path file --patient mrn --findings "Finding Labels" --separator ";"
    """
    from cxrfeat import _datasets as datasets
    from cxrfeat import _sample as sample
    from cxrfeat._summary import summarise
    from cxrfeat.errors import StudyError

    keys = ("image_id", "path", "patient", "labels", "findings_column", "separator", "split")
    columns = {key: value for key in keys if (value := options.pop(key))}
    place = sample.folder() if source == sample.NAME else Path(source)
    if source == sample.NAME:
        options["name"] = sample.NAME
    study = datasets.read(place, columns=columns, tell=say, **options)
    target = Path(out) if out else STUDIES / f"{study.name}.csv"
    if target.resolve() == place.resolve():
        raise StudyError(f"{target} is the table the study is made from; give another name with -o.")
    study.save(target)
    summary = summarise(study)
    if as_json:
        print_json({"study": str(target), **summary.to_dict()})
    else:
        _print(summary)
    say(f"wrote {target}")


@command.command()
@study_argument
@click.option("--figure", type=click.Path(dir_okay=False), help="Draw the class frequencies into this file.")
@json_option
def describe(study: str | None, figure: str | None, as_json: bool) -> None:
    """Count images, patients and positives per label and split, and check that no patient stands on two sides.

    STUDY is a study file, the name of one under studies/, or `sample`. [default: the only one under studies/]

    \b
    Example:
      cxrfeat study describe sample --figure frequencies.png
      cxrfeat study describe studies/nih.csv --json
    """
    from cxrfeat._study import read_study
    from cxrfeat._summary import summarise

    found = read_study(study_path(study))
    summary = summarise(found)
    if as_json:
        print_json(summary.to_dict())
    else:
        _print(summary)
    if figure:
        from cxrfeat._report import figures

        figures.class_frequencies(found, figure)
        say(f"wrote {figure}")


def _print(summary) -> None:
    sides = ("all", *summary.splits)
    rows = [{"split": s, "images": summary.images[s], "patients": summary.patients[s]} for s in sides]
    print_table(rows, title=f"study {summary.name}")
    print_table(summary.rows(), title="images with each label")
    for label, count in summary.unknown.items():
        click.echo(f"{label}: unknown for {count:,} images")
    click.echo(summary.leakage())
