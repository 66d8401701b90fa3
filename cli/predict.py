"""`cxrfeat predict`: findings of a study's images, or of single image files."""

from __future__ import annotations

from pathlib import Path

import click

from cxrfeat._project import embedding_path, run_path

from .base import Command
from .options import STUDY
from .output import json_option, print_json, print_table, say


@click.command(cls=Command)
@click.argument("images", nargs=-1, metavar="[IMAGE]…")
@click.option("--run", "run_folder", metavar="FOLDER", help="Run folder. Default: the newest under runs/.")
@click.option("--study", "study_named", metavar="STUDY", help=f"{STUDY}. Default: the run's own.")
@click.option(
    "--embeddings", "files", multiple=True, metavar="H5",
    help="Embedding file, one for each the head was trained on. Default: the study's newest under cache/.",
)  # fmt: skip
@click.option("--tta/--no-tta", default=None, help="Mean over passes. Default: as the run did it.")
@click.option("--weights", metavar="FILE", help="Where the backbone's weights file lies, if it is one of yours.")
@click.option("--memory", metavar="SIZE", help="Embeddings to hold at once, e.g. 2GB.")
@click.option("--out", metavar="CSV", help="Where to write. Default: predictions.csv in the run, or -STUDY after it.")
@json_option
def command(images, run_folder, study_named, files, tta, weights, memory, out, as_json) -> None:
    """Predict findings for a study with embeddings, or for single images.

    \b
    Example:
      cxrfeat predict --run runs/nih-densenet121-logistic --study other
      cxrfeat predict chest.png chest.dcm --run runs/nih-densenet121-logistic

    Not a medical device.
    """
    from cxrfeat._run import Run

    run = Run.open(run_path(run_folder))
    if images:
        _images(run, [Path(image) for image in images], weights, out, as_json)
    else:
        _study(run, study_named, files, tta, memory, out, as_json)


def _study(run, study_named, files, tta, memory, out, as_json) -> None:
    from cxrfeat import read_study
    from cxrfeat._heads import predict
    from cxrfeat._heads.files import write_predictions
    from cxrfeat._heads.settings import parse_size

    study = read_study(study_named) if study_named else run.study()
    own = study.name == run.info["study"]["name"]
    paths = [Path(file) for file in files] or [embedding_path(None, study.name)]
    table = predict(run, paths, study, tta=tta, memory=parse_size(memory))
    target = Path(out) if out else run.path / ("predictions.csv" if own else f"predictions-{study.name}.csv")
    write_predictions(target, table)
    _warn(run)
    if as_json:
        print_json({"run": str(run.path), "images": len(table), "predictions": str(target)})
    else:
        say(f"{len(table)} images predicted by the {run.describe()}: {target}")


def _images(run, paths, weights, out, as_json) -> None:
    import numpy as np

    from cxrfeat._extract import recompute
    from cxrfeat._heads import load_head
    from cxrfeat._heads.files import prediction_table, write_predictions

    head = load_head(run)
    x = np.concatenate([recompute(recipe, paths, weights) for recipe in run.recipes], axis=1)
    p = head.probabilities(x)
    names = [path.name for path in paths]
    if out:
        write_predictions(Path(out), prediction_table(names, [""] * len(names), head.labels, p))
    _warn(run)
    found = [
        {
            "image": name,
            "label": label,
            "probability": float(value),
            "threshold": run.thresholds[label],
            "called": _called(float(value), run.thresholds[label]),
        }
        for name, row in zip(names, p, strict=True)
        for label, value in zip(head.labels, row, strict=True)
    ]
    if as_json:
        print_json({"run": str(run.path), "predictions": found})
        return
    for name in dict.fromkeys(names):
        rows = [row for row in found if row["image"] == name]
        rows.sort(key=lambda row: -np.nan_to_num(row["probability"], nan=-1.0))
        print_table(rows, title=f"{name}: {run.describe()}", columns=["label", "probability", "threshold", "called"])


def _called(p: float, threshold: float) -> bool | None:
    return None if p != p or threshold != threshold else p >= threshold  # NaN is not equal to itself


def _warn(run) -> None:
    if run.random:
        say("RANDOM backbone weights: no number here is a result.")
