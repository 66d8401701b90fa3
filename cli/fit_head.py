"""`cxrfeat fit-head`: train a head on cached embeddings."""

from __future__ import annotations

from pathlib import Path

import click

from cxrfeat._project import RUNS, embedding_path

from .base import Command
from .options import study_argument
from .output import json_option, print_json, print_table, progress_bar, say

WEIGHTINGS = ("none", "paper", "balanced", "effective-number")
CALIBRATIONS = ("platt", "isotonic", "temperature", "none")


@click.command(cls=Command)
@study_argument
@click.option(
    "--embeddings", "files", multiple=True, metavar="H5",
    help="Embedding file; several are joined. Default: the study's newest under cache/.",
)  # fmt: skip
@click.option(
    "--head", "heads", multiple=True, metavar="KIND",
    help="logistic (default), keras, svm, mlp, random-forest, hist-gradient-boosting, knn, lda, or module:Class. "
    "Several, with --ensemble, are combined.",
)  # fmt: skip
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting of the head, such as C=0.1.")
@click.option("--weighted", is_flag=True, help="Class weights of the reference paper: --weighting paper.")
@click.option("--weighting", type=click.Choice(WEIGHTINGS), help="Scheme of class weights. Default: none.")
@click.option(
    "--passes",
    type=click.Choice(["all", "0"]),
    default="all",
    show_default=True,
    help="Train on all, or 0.",
)
@click.option("--tta", is_flag=True, help="Predict by the mean over passes instead of pass 0.")
@click.option("--calibration", type=click.Choice(CALIBRATIONS), default="platt", show_default=True)
@click.option(
    "--threshold", default="youden", show_default=True, metavar="RULE",
    help="youden, f1, sensitivity=0.9, precision=0.5, or a probability.",
)  # fmt: skip
@click.option("--preset", type=click.Choice(["paper"]), help="paper: Keras head with softmax, weighted, uncalibrated.")
@click.option("--ensemble", type=click.Choice(["mean", "stacked"]), help="One head per file and kind, joined.")
@click.option("--search", is_flag=True, help="Choose settings by patient-wise cross-validation on train.")
@click.option("--grid", "grid_pairs", multiple=True, metavar="KEY=V1,V2", help="Values to search. Implies --search.")
@click.option("--labels", metavar="A,B,…", help="Fit these labels only.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--memory", metavar="SIZE", help="Read embeddings from the file when they exceed this, e.g. 2GB.")
@click.option("--out", metavar="FOLDER", help="Run folder. Default: runs/<study>-<backbone>-<head>[-weighted][-n].")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted Keras head in --out.")
@json_option
def command(
    study, files, heads, pairs, weighted, weighting, passes, tta, calibration, threshold, preset,
    ensemble, search, grid_pairs, labels, seed, memory,
    out, overwrite, resume, as_json,
) -> None:  # fmt: skip
    """Train a multi-label head on cached embeddings.

    STUDY is a study file, a name under studies/, or `sample`; by default the only one there is.

    \b
    Example:
      cxrfeat fit-head sample --weighted
      cxrfeat fit-head --head keras --weighted --set epochs=40 --set hidden=256
    """
    from cxrfeat import read_study
    from cxrfeat._heads.files import default_folder
    from cxrfeat._heads.fit import fit_head
    from cxrfeat._heads.settings import parse, parse_grid, parse_size
    from cxrfeat._store import EmbeddingFile

    heads, weighting, calibration, pairs = _preset(preset, heads, weighting, calibration, pairs)
    if weighted and weighting not in (None, "paper"):
        raise click.UsageError("--weighted means --weighting paper; give one of them.")
    scheme = "paper" if weighted else weighting or "none"
    if resume and out is None:
        raise click.UsageError("--resume needs --out: the run folder to go on with.")
    study = read_study(study, labels=[name.strip() for name in labels.split(",")] if labels else ())
    paths = [Path(file) for file in files] or [embedding_path(None, study.name)]
    kinds = heads or ("logistic",)
    if out is None:
        recipes = []
        for file in paths:
            with EmbeddingFile.open(file) as opened:
                recipes.append(opened.recipe)
        out = default_folder(RUNS, study.name, recipes, kinds, scheme)
    with progress_bar(f"fitting {'+'.join(kinds)}", "steps") as progress:
        run = fit_head(
            study, paths, kinds, out=out, memory=parse_size(memory), resume=resume, overwrite=overwrite,
            progress=progress, settings=parse(pairs), weighting=scheme, passes=passes, tta=tta,
            calibration=calibration, threshold=threshold, seed=seed, ensemble=ensemble or "",
            search=search or bool(grid_pairs), grid=parse_grid(grid_pairs),
            tell=lambda weighting: None if as_json else _weights(weighting),
        )  # fmt: skip
    _tell(run, as_json)


def _preset(preset, heads, weighting, calibration, pairs):
    """The reference paper's head: one softmax over the labels, class-weighted, its outputs left as they are."""
    if preset is None:
        return heads, weighting, calibration, pairs
    if heads not in ((), ("keras",)) or weighting not in (None, "paper"):
        raise click.UsageError("--preset paper is a Keras head with --weighting paper; leave those out.")
    return ("keras",), "paper", "none", ("activation=softmax", *pairs)


def _weights(weighting) -> None:
    print_table(weighting.rows(), title=f"Class weights: {weighting.scheme}", digits=4)


def _tell(run, as_json: bool) -> None:
    info = run.info
    if as_json:
        print_json({"run": str(run.path), **info})
        return
    if table := info["fit"].get("search"):
        scores = ("macro_auroc", "sd", "labels")
        table = [{key: v if key in scores else f"{v}" for key, v in row.items()} for row in table]
        print_table(table, title="Cross-validation on train, whole patients in a fold", digits=4)
    rows = [{"label": label, "threshold": value} for label, value in run.thresholds.items()]
    print_table(rows, title=f"{run.describe()}; threshold {info['thresholds']['method']}", digits=4)
    if run.random:
        say("RANDOM backbone weights: no number of this run is a result.")
    if info["unfitted"]:
        say(f"not fitted, predicted as unknown: {', '.join(info['unfitted'])} (one class only in train).")
    if not info["converged"]:
        say("NOT converged: see `fit` in head.json.")
    say(f"validation: {info['options']['validation']}")
    if (run.path / "history.csv").is_file():
        from cxrfeat._report.figures import losses

        say(f"loss curves: {losses(run, run.path / 'figures' / 'loss.png')[0]}")
    say(f"run: {run.path}")
