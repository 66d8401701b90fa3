"""The model card of a run: `README.md` in its folder, laid out as the Hugging Face Hub reads it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cxrfeat import _files as files
from cxrfeat._evaluate import Evaluation
from cxrfeat._report import html_tables, tables
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
    """Write the card into the run's folder, in the place of an earlier one.

    Parameters
    ----------
    run : Run
        An opened run.
    evaluation : Evaluation
        What `evaluate_run` found for it.

    Returns
    -------
    pathlib.Path
        The `README.md`.
    """
    return files.write_atomically(run.path / FILE, text(run, evaluation))


def text(run: Run, evaluation: Evaluation) -> str:
    """Return the card: YAML front matter with the macro metrics, then sections for people."""
    study, scored = run.study(), evaluation.scored
    summary = summarise(study)
    parts = [
        f"---\n{_front_matter(run, evaluation)}---",
        f"# {_plain(run.name)}",
        *([f"> **{tables.RANDOM}** The backbone has learnt nothing, so no number below is a result."] * run.random),
        f"{_plain(run.describe())}. Trained on study {_plain(study.name)}.",
        "## Intended use",
        INTENDED,
        "## Data",
        f"Study {_plain(study.name)}: {summary.images['all']:,} images of {summary.patients['all']:,} patients; "
        f"{summary.leakage()}. Splits are by patient.",
        tables.markdown([{k: _plain(v) for k, v in row.items()} for row in summary.rows()]),
        "## How it was made",
        "\n".join(f"- **{name}:** {_plain(value)}" for name, value in html_tables.made_by(run, evaluation)),
        "## Metrics",
        _plain(f"{scored.caption()}. {tables.accuracy_line(evaluation)} Intervals are 95 %."),
        tables.markdown([{k: _plain(v) for k, v in row.items()} for row in tables.rows_to_read(evaluation)]),
    ]
    if groups := tables.group_rows(evaluation):
        parts += ["### Groups", tables.markdown([{k: _plain(v) for k, v in row.items()} for row in groups])]
    parts += ["## Limits", LIMITS]
    if evaluation.warnings:
        parts += ["### Warnings", "\n".join(f"- {_plain(warning.message)}" for warning in evaluation.warnings)]
    parts += ["## How to use", f"```\ncxrfeat predict --run {_plain(run.name)} IMAGE\n```"]
    return "\n\n".join(parts) + "\n"


def _front_matter(run: Run, evaluation: Evaluation) -> str:
    """YAML with a JSON value on every line: JSON is YAML, and no name can break out of its quotes."""
    macro = evaluation.macro
    metrics: list[dict[str, Any]] = [
        {"type": kind, "name": f"{name}, macro over {len(macro['over'])} labels", "value": round(macro[key], 4)}
        for kind, name, key in (("roc_auc", "AUROC", "auroc"), ("average_precision", "AP", "average_precision"))
        if not math.isnan(macro[key])
    ]
    scored = evaluation.scored
    dataset = {"name": run.study_name, "type": "chest-x-ray", "split": scored.standing.get("split", "")}
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


def _plain(value: Any) -> Any:
    """A text that Markdown takes for nothing but text; other values as they are."""
    if not isinstance(value, str):
        return value
    for character in "\\`*[]<>#":
        value = value.replace(character, f"\\{character}")
    return " ".join(value.split())
