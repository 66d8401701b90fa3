"""The model card of a run: `README.md` in its folder, laid out as the Hugging Face Hub reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrfeat import _files as files
from cxrfeat._backbones import pretraining
from cxrfeat._evaluate import Evaluation
from cxrfeat._recipe import Recipe
from cxrfeat._report import tables
from cxrfeat._report.tables import escaped
from cxrfeat._run import Run
from cxrfeat._summary import summarise

FILE = "README.md"

INTENDED = """\
For research: to compare heads and backbones on frozen embeddings, and as a baseline for work on chest X-rays. It takes
a frontal chest X-ray and gives one probability for each of its labels.

**Not a medical device.** It has not been validated in a clinic and must not be used to diagnose, triage or treat
anyone, nor on other films than frontal chest X-rays, nor on populations it was not evaluated on."""

LIMITS = """\
- **Label noise.** Labels of public sets such as ChestX-ray14 were mined from reports by software and are wrong for a
  share of the images that differs by finding: an AUROC measures agreement with those labels.
- **View confounding.** AP films are taken of patients too ill to stand. A head can live off the view, devices and
  positioning; look at the groups above before believing the pooled numbers.
- **Frozen features.** The backbone was trained on photographs and is not adapted: small or faint findings are hard.
- **Another hospital, another prevalence.** Probabilities, thresholds, PPV and NPV do not carry over.
- **Maps of evidence** show what the head used, not where a disease is."""


def write(run: Run, evaluation: Evaluation) -> Path:
    """Write the card, a `README.md`, into the run's folder, in the place of an earlier one."""
    return files.write_atomically(run.path / FILE, text(run, evaluation))


def text(run: Run, evaluation: Evaluation) -> str:
    """Return the card: YAML front matter with the macro metrics, then sections for people."""
    study, scored = run.study(), evaluation.scored
    summary = summarise(study)
    parts = [
        f"---\n{_front_matter(run, evaluation)}---",
        f"# {escaped(run.name)}",
        *([f"> **{tables.RANDOM}** The backbone has learnt nothing, so no number below is a result."] * run.random),
        f"{escaped(run.describe())}. Trained on study {escaped(study.name)}.",
        "## Intended use",
        INTENDED,
        "## Data",
        f"Study {escaped(study.name)}: {summary.images['all']:,} images of {summary.patients['all']:,} patients; "
        f"{summary.leakage()}. Splits are by patient.",
        tables.markdown(summary.rows()),
        "## How it was made",
        "\n".join(f"- **{name}:** {escaped(value)}" for name, value in made_by(run, evaluation)),
        "## Metrics",
        escaped(f"{scored.caption()}. {evaluation.accuracy_line()} Intervals are 95 %."),
        tables.markdown(evaluation.rows_to_read()),
    ]
    if groups := evaluation.group_rows():
        parts += ["### Groups", tables.markdown(groups)]
    parts += ["## Limits", LIMITS]
    if evaluation.warnings:
        parts += ["### Warnings", "\n".join(f"- {escaped(warning.message)}" for warning in evaluation.warnings)]
    parts += ["## How to use", f"```\ncxrfeat predict --run {escaped(run.name)} IMAGE\n```"]
    return "\n\n".join(parts) + "\n"


def _square(recipe: Recipe) -> str:
    """How a film becomes the network's square."""
    size, first = f"{recipe.size} x {recipe.size}", "borders cut off, " if recipe.crop_borders else ""
    how = f"{recipe.interpolation} to {size}"
    if recipe.resize:
        how = f"{recipe.interpolation} to {recipe.resize} pixels a side, {recipe.geometry} to {size}"
    elif recipe.geometry != "stretch":
        how = f"{recipe.geometry} to a square, {how}"
    return f"{first}{how}, grey by {recipe.voi}" if recipe.voi != "file" else f"{first}{how}"


def made_by(run: Run, evaluation: Evaluation) -> list[tuple[str, str]]:
    """What was done to get this run, as pairs of a name and a text."""
    rows = [("Head", f"{run.kind}, {len(run.labels)} labels")]
    for recipe in run.recipes:
        policy = (recipe.augmentation or {}).get("name", "none")
        rows += [
            ("Backbone", recipe.describe()),
            ("Preprocessing", f"{recipe.preprocessing}, {_square(recipe)}"),
            ("Augmentation", f"{policy}, seed {recipe.seed}" if recipe.passes else "none"),
            (
                "Trained on",
                "nothing: random weights" if recipe.random else pretraining.trained_on(recipe) or "not stated",
            ),
            ("Weights file", f"{recipe.weights}, SHA-256 {recipe.weights_sha256}"),
            ("Recipe", f"SHA-256 {recipe.sha256}"),
        ]
    fitted = run.fitted_on
    if fitted.images:
        who = f"{fitted.images:,} images of {fitted.patients:,} patients"
        rows.append(("Fitted on", f"split {', '.join(fitted.splits)}: {who}, {len(fitted.passes)} renderings of each"))
    rows += [
        (name, text)
        for name, text in (("Class weights", run.options.weighting), ("Validation", run.validation))
        if text
    ]
    settings = {**run.options.settings, **run.notes}
    # What the solver notes of every label is for head.json, not for reading.
    short = [f"{key}={value}" for key, value in settings.items() if not isinstance(value, Mapping)]
    if short:
        rows.append(("Settings", ", ".join(short)))
    if (calibration := run.calibration).get("method"):
        rows.append(("Calibration", f"{calibration['method']} on {calibration.get('split') or 'no split'}"))
    rows.append(("Thresholds", str(evaluation.scored.provenance.get("thresholds", "none"))))
    rows.append(("Evaluated on", evaluation.scored.caption()))
    versions = ", ".join(f"{k} {v}" for k, v in run.versions.items())
    rows += [("Seed", str(run.options.seed)), ("Made", run.created)]
    return [*rows, ("Versions", versions)] if versions else rows


def _front_matter(run: Run, evaluation: Evaluation) -> str:
    """YAML with a JSON value on every line: JSON is YAML, and no name can break out of its quotes."""
    macro = evaluation.macro
    metrics: list[dict[str, Any]] = [
        {"type": kind, "name": f"{name}, macro over {len(macro['over'])} labels", "value": round(macro[key], 4)}
        for kind, name, key in (("roc_auc", "AUROC", "auroc"), ("average_precision", "AP", "average_precision"))
        if not math.isnan(macro[key])
    ]
    scored = evaluation.scored
    dataset = {"name": run.study_name, "type": "chest-x-ray", "split": scored.provenance.get("split", "")}
    task = {"type": "image-classification", "name": "multi-label chest X-ray classification"}
    fields: dict[str, Any] = {
        "library_name": "cxrfeat",
        "pipeline_tag": "image-classification",
        "tags": ["chest-x-ray", "multi-label", run.kind, *dict.fromkeys(r.backbone for r in run.recipes)]
        + ["random-weights-not-a-result"] * run.random,
        "metrics": ["roc_auc", "average_precision"],
        "model-index": [
            {"name": run.name, "results": [{"task": task, "dataset": dataset, "metrics": metrics}] if metrics else []}
        ],
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())
