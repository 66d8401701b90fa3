"""`cxrfeat predict`: findings of a study's images, or of image files."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Command, UserError
from .options import STUDY, STUDY_NAME, PathOrAddress, given, network_options, run_option
from .output import ended, json_option, print_json, print_table, say, watched

FEW = 3
"""Images that get a table each; more get a line each."""


@click.command(cls=Command)
@click.argument("images", nargs=-1, metavar="[IMAGE]…", type=PathOrAddress())
@run_option
@click.option("--study", type=STUDY_NAME, metavar="STUDY", help=f"{STUDY}. Default: the run's own.")
@click.option(
    "--embeddings", multiple=True, metavar="H5",
    help="Embedding file or collection, one for each that the head has. Default: the study's newest under cache/.",
)  # fmt: skip
@click.option("--tta/--no-tta", default=None, help="Mean over passes. Default: as the run did it.")
@network_options
@click.option("-o", "--out", metavar="FILE", help="CSV or .parquet. Default for a study: predictions.csv in the run.")
@click.option("--overwrite", is_flag=True, help="Replace OUT even if it holds no earlier predictions.")
@json_option
def command(images, study, run, embeddings, out, as_json, **options) -> None:
    """Predict findings for a study with embeddings, or for image files and folders of them.

    Images that cannot be used are listed, the others are predicted, and the exit code is 2.

    \b
    Example:
      cxrfeat predict --run nih-densenet121-logistic --study other
      cxrfeat predict chest.png chest.dcm ward/ --out ward.csv

    Not a medical device.
    """
    from cxrfeat._project import run_path, study_path

    if images and study:
        raise click.UsageError("give images or --study, not both.")
    run = run_path(run)
    table = watched(
        "predict", cxr.predict, run, list(images) or (study and study_path(study)), embeddings=embeddings, out=out,
        save=True, long=bool(images), **given(options),
    )  # fmt: skip
    path, failed = table.attrs.get("path"), table.attrs["failed"]
    count = table["image"].nunique() if images else len(table)
    if as_json and images:
        print_json({"run": run, "predictions": table.to_dict("records"), "failed": failed})
    elif as_json:
        print_json({"run": run, "images": count, "predictions": path})
    elif path:
        ended(path, f"{count:,} images predicted.", "" if images else "cxrfeat evaluate")
    else:
        _print(table)
    if failed:
        raise UserError(f"{len(failed)} of {len(failed) + count} images could not be used; the others are predicted.")


def _print(table) -> None:
    from cxrfeat._predict import shortest_names

    names = shortest_names(table["image"].unique())
    parts = {
        names[image]: rows.sort_values("probability", ascending=False)
        for image, rows in table.groupby("image", sort=False)
    }
    if len(parts) <= FEW:
        for name, rows in parts.items():
            print_table(rows.to_dict("records"), title=name, columns=["label", "probability", "threshold", "called"])
        return
    lines = []
    for name, rows in parts.items():
        called = rows[rows["called"].eq(True)]
        found = ", ".join(f"{row.label} {row.probability:.2f}" for row in called.itertuples())
        lines.append({"image": name, "called": found or "nothing"})
    print_table(lines)
    say("--out writes every probability and threshold.")
