"""`cxrfeat fit-head`: train a head on cached embeddings."""

from __future__ import annotations

import click

import cxrfeat as cxr
from cxrfeat._heads.registry import CALIBRATIONS, ENSEMBLES, HEADS, PASSES, PRESETS, WEIGHTINGS

from .base import Command
from .options import BACKBONE, HEAD_NAME, SEED, study_argument
from .output import ended, json_option, print_json, print_table, say, watched


@click.command(cls=Command, interrupted="No run was replaced. A Keras head continues with --resume.")
@study_argument
@click.option(
    "--embeddings", multiple=True, metavar="H5",
    help="Embedding file or collection; several are joined. Default: the study's newest under cache/.",
)  # fmt: skip
@click.option(
    "--backbone", multiple=True, type=BACKBONE, metavar="NAME", help="The study's newest embeddings of this backbone."
)
@click.option(
    "--head", multiple=True, metavar="KIND", type=HEAD_NAME,
    help=f"{', '.join(HEADS.names)}, or module:Class of a scikit-learn classifier. Default: logistic. Several need "
    "--ensemble.",
)  # fmt: skip
@click.option("--preset", type=click.Choice([*PRESETS]), help="paper: Keras head with softmax, weighted, uncalibrated.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the head, such as C=0.1.")
@click.option("--weighted", is_flag=True, help="Class weights of the reference paper: --weighting paper.")
@click.option("--weighting", type=click.Choice(WEIGHTINGS), help="Scheme of class weights. Default: none.")
@click.option("--passes", type=click.Choice(PASSES), default="all", help="Passes to train on.")
@click.option("--tta", is_flag=True, help="Predict by the mean over passes instead of pass 0.")
@click.option("--calibration", type=click.Choice(CALIBRATIONS), help="Default: platt.")
@click.option(
    "--threshold", default="youden", metavar="RULE",
    help="youden, f1, sensitivity=0.9, precision=0.5, or a probability.",
)  # fmt: skip
@click.option("--ensemble", type=click.Choice(ENSEMBLES), help="One head per file and kind, joined.")
@click.option("--search", is_flag=True, help="Choose settings by patient-wise cross-validation on train.")
@click.option("--grid", multiple=True, metavar="KEY=V1,V2", help="Values to search. Implies --search.")
@click.option("--labels", metavar="A,B,…", help="Fit these labels only.")
@click.option("--seed", type=SEED, default=0)
@click.option(
    "--memory", metavar="SIZE",
    help="Read embeddings from the file in every pass when they exceed this, e.g. 2GB. Default: half of what is free.",
)  # fmt: skip
@click.option(
    "--ray", is_flag=False, flag_value="", metavar="[ADDRESS]",
    help="Fit on a Ray cluster: at this address, else at RAY_ADDRESS or on this machine. Logistic head only.",
)  # fmt: skip
@click.option("--out", metavar="FOLDER", help="Run folder. Default: runs/<study>-<backbone>-<head>[-weighted][-n].")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option("--resume", is_flag=True, help="Continue the interrupted Keras head in --out.")
@json_option
def command(study, settings, weighted, grid, labels, memory, ray, as_json, **options) -> None:
    """Train a multi-label head on cached embeddings.

    STUDY is a study file, a name under studies/, or `sample`; by default that of the newest embeddings.

    \b
    Example:
      cxrfeat fit-head sample --weighted
      cxrfeat fit-head --head keras --weighted --set epochs=40 --set hidden=256
    """
    from cxrfeat._heads.settings import parse, parse_grid, parse_size

    if weighted and options["weighting"] not in (None, "paper"):
        raise click.UsageError("--weighted means --weighting paper; give one of them.")
    if options["resume"] and options["out"] is None:
        raise click.UsageError("--resume needs --out: the run folder to continue.")
    options["weighting"] = "paper" if weighted else options["weighting"]
    chosen = [name.strip() for name in labels.split(",")] if labels else []
    run = watched(
        "fit head", cxr.fit_head, study, unit="steps", labels=chosen, settings=parse(settings), grid=parse_grid(grid),
        memory=parse_size(memory), ray=ray or ray is not None, **options,
    )  # fmt: skip
    if as_json:
        print_json({"run": str(run.path), **run.to_dict()})
    else:
        _show(run)


def _show(run) -> None:
    if run.options.weighting != "none":
        print_table(run.class_weights, title=f"Class weights: {run.options.weighting}", digits=4)
    if table := run.notes.get("search"):
        scores = ("macro_auroc", "sd", "labels")
        table = [{key: v if key in scores else f"{v}" for key, v in row.items()} for row in table]
        print_table(table, title="Cross-validation on train, whole patients in a fold", digits=4)
    rows = [{"label": label, "threshold": value} for label, value in run.thresholds.items()]
    for row in rows if run.decision.reasons else ():
        row["none, since"] = run.decision.reasons.get(row["label"], "")
    print_table(rows, title=f"{run.describe()}; thresholds: {run.decision.rule}", digits=4)
    if run.random:
        say("RANDOM backbone weights: no number of this run is a result.")
    if run.unfitted:
        say(f"not fitted, predicted as unknown: {', '.join(run.unfitted)} (one class only in train).")
    if not run.converged:
        say("NOT converged: see `notes` in head.json.")
    say(f"validation: {run.validation}")
    if (run.path / "history.csv").is_file():
        from cxrfeat._report.curves import loss

        say(f"loss curves: {loss(run).save(run.path / 'figures' / 'loss.png')[0]}")
    ended(run.path, f"{len(run.labels) - len(run.unfitted)} labels fitted.", "cxrfeat evaluate")
