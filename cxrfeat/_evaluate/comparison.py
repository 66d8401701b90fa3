"""Runs compared on the same images: paired tests, paired intervals, and one sentence that does not overclaim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.bootstrap import REPLICATES, Replicates, bootstrap, percentiles, point
from cxrfeat._evaluate.scored import Scored
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import EvaluationError

Row = dict[str, Any]
Array = npt.NDArray[np.float64]

ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """Runs against the first of them, the baseline.

    Attributes
    ----------
    scored : list of Scored
        The runs, baseline first, on the same images in the same order.
    rows : list of dict
        For each other run, one row per label and one for `macro`: `run`, `baseline`, `label`, `n`, `positives`,
        `auroc_baseline`, `auroc`, `difference` (positive: the run is better), its intervals `difference_delong`,
        `difference_delong_patients` and `difference_bootstrap`, the p-values `p` (DeLong) and `p_patients` (images of
        one patient as one cluster), both also after Holm's correction over all labels and runs as `p_holm` and
        `p_patients_holm`, and the same difference of average precision.
    conclusions : list of str
        One sentence per run.
    left_out : int
        Images of any run that are not in all of them.
    replicates, seed : int
    """

    scored: list[Scored]
    rows: list[Row]
    conclusions: list[str]
    left_out: int
    replicates: int
    seed: int

    @property
    def baseline(self) -> Scored:
        """The run that the others are compared with."""
        return self.scored[0]

    @property
    def random(self) -> bool:
        """Whether a run's backbone had random weights, so that nothing here is a result."""
        return any(scored.random for scored in self.scored)

    def caption(self) -> str:
        """One line for figures and titles: the images, and every run with its head, recipe and weights."""
        images = f"n = {len(self.baseline):,} images of {len(np.unique(self.baseline.patients)):,} patients"
        left = f" ({self.left_out:,} images that are not in every run left out)" if self.left_out else ""
        where = ", ".join(
            f"{key} {self.baseline.standing[key]}" for key in ("split", "study") if self.baseline.standing.get(key)
        )
        runs = "; ".join(f"{s.name}: {s.standing.get('head', 'unknown head')}" for s in self.scored)
        return f"{images}{left}{', ' + where if where else ''}. {runs}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it; NaN stays NaN."""
        return {
            "format": "cxrfeat-comparison",
            "format_version": 1,
            "baseline": self.baseline.name,
            "runs": {scored.name: scored.stands_on() for scored in self.scored},
            "random_weights": self.random,
            "images_left_out": self.left_out,
            "intervals": {"level": delong.LEVEL, "bootstrap_replicates": self.replicates, "seed": self.seed},
            "rows": self.rows,
            "conclusions": self.conclusions,
        }


def compare(
    runs: Sequence[Scored],
    intersection: bool = False,
    replicates: int = REPLICATES,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Compare runs with the first of them, on the same images.

    Parameters
    ----------
    runs : sequence of Scored
        At least two; the first is the baseline.
    intersection : bool
        Take the images (and labels) that all runs share, where they differ.
    replicates : int
        Of the paired bootstrap over patients.
    seed : int
        Seed of the bootstrap.
    progress : Progress
        Told of each block of replicates.

    Raises
    ------
    EvaluationError
        If there are fewer than two, or they were evaluated on other images, labels, patients or truth.
    """
    aligned, left_out = align(_named_apart(runs), intersection)
    total = replicates * len(aligned)
    draws: list[Replicates] = []
    for k, scored in enumerate(aligned):
        draws.append(
            bootstrap(
                scored.y, scored.p, scored.patients, scored.thresholds, replicates, seed,
                progress=lambda now, _, __="", k=k, name=scored.name: progress(k * replicates + now, total, name),
            )
        )  # fmt: skip
    rows = []
    for scored, mine in zip(aligned[1:], draws[1:], strict=True):
        rows += _rows(aligned[0], scored, draws[0], mine)
    for kind in ("p", "p_patients"):
        for row, adjusted in zip(rows, delong.holm([row[kind] for row in rows]), strict=True):
            row[f"{kind}_holm"] = float(adjusted)
    found = Comparison(aligned, rows, [], left_out, replicates, seed)
    found.conclusions.extend(_conclusion(found, scored) for scored in aligned[1:])
    return found


def align(runs: Sequence[Scored], intersection: bool = False) -> tuple[list[Scored], int]:
    """Bring runs to the same images and labels, in the order of the first, joined by id and name.

    Returns
    -------
    runs : list of Scored
    left_out : int
        Images that are not in every run.

    Raises
    ------
    EvaluationError
        As `compare`.
    """
    if len(runs) < 2:
        raise EvaluationError("a comparison needs at least two runs.")
    first = runs[0]
    shared, labels, everywhere = set(first.ids), list(first.labels), set(first.ids)
    for other in runs[1:]:
        _same_images(first, other, intersection)
        shared &= set(other.ids)
        everywhere |= set(other.ids)
        labels = [label for label in labels if label in other.labels]
    if not shared or not labels:
        raise EvaluationError("the runs share no " + ("images." if not shared else "labels."))
    ids = [name for name in first.ids if name in shared]
    aligned = [_at(run, ids).with_labels(labels) for run in runs]
    for other in aligned[1:]:
        _same_truth(aligned[0], other)
    return aligned, len(everywhere) - len(shared)


def _at(run: Scored, ids: list[str]) -> Scored:
    return run.take(pd.Index(run.ids).get_indexer(pd.Index(ids)).astype(np.int64))


def _same_images(a: Scored, b: Scored, intersection: bool) -> None:
    only_a, only_b = set(a.ids) - set(b.ids), set(b.ids) - set(a.ids)
    both = len(a) - len(only_a)
    if (only_a or only_b) and not intersection:
        raise EvaluationError(
            f"{a.name} and {b.name} were evaluated on different images: {len(only_a):,} only in {a.name}, "
            f"{len(only_b):,} only in {b.name}, {both:,} in both. `--intersection` compares them on those {both:,}."
        )
    if set(a.labels) != set(b.labels) and not intersection:
        odd = sorted(set(a.labels) ^ set(b.labels))
        raise EvaluationError(
            f"{a.name} and {b.name} do not have the same labels: {', '.join(odd)} only in one of them. "
            "`--intersection` compares them on the labels they share."
        )


def _same_truth(a: Scored, b: Scored) -> None:
    differ = ~((a.y == b.y) | (np.isnan(a.y) & np.isnan(b.y)))
    if differ.any():
        row, column = np.argwhere(differ)[0]
        raise EvaluationError(
            f"{a.name} and {b.name} do not agree on the truth of {int(differ.sum()):,} labels, the first is "
            f"{a.labels[column]} of image {str(a.ids[row])!r} ({a.y[row, column]:g} and {b.y[row, column]:g}). "
            "Fit both on the same study."
        )
    if (a.patients != b.patients).any():
        row = int((a.patients != b.patients).argmax())
        raise EvaluationError(f"{a.name} and {b.name} do not agree on the patient of image {str(a.ids[row])!r}.")


def _named_apart(runs: Sequence[Scored]) -> list[Scored]:
    """Give runs of the same name a number each."""
    names = [run.name or "run" for run in runs]
    return [
        replace(run, name=name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})")
        for k, (run, name) in enumerate(zip(runs, names, strict=True))
    ]


def _rows(a: Scored, b: Scored, draws_a: Replicates, draws_b: Replicates) -> list[Row]:
    """Rows of one run against the baseline: labels, then macro; Holm's correction is not in them yet."""
    values = [point(scored.y, scored.p, scored.thresholds) for scored in (a, b)]
    spans = {m: percentiles(draws_b.draws[m] - draws_a.draws[m]) for m in ("auroc", "average_precision")}
    rows: list[Row] = []
    for j, label in enumerate([*a.labels, "macro"]):
        row: Row = {"run": b.name, "baseline": a.name, "label": label, "n": len(a), "positives": int(a.positives.sum())}
        row["auroc_baseline"], row["auroc"] = (float(v["auroc"][j]) for v in values)
        row["difference"] = row["auroc"] - row["auroc_baseline"]
        row |= {"p": float("nan"), "p_patients": float("nan")}
        if label != "macro":
            row["n"], row["positives"] = int((~np.isnan(a.y[:, j])).sum()), int(a.positives[j])
            plain = delong.paired(a.y[:, j], a.p[:, j], b.p[:, j])
            clustered = delong.paired(a.y[:, j], a.p[:, j], b.p[:, j], a.patients)
            row |= {"z": plain.z, "p": plain.p, "difference_delong": [plain.low, plain.high]}
            row |= {"p_patients": clustered.p, "difference_delong_patients": [clustered.low, clustered.high]}
        row["difference_bootstrap"] = spans["auroc"][j].tolist()
        row["average_precision_difference"] = float(
            values[1]["average_precision"][j] - values[0]["average_precision"][j]
        )
        row["average_precision_difference_bootstrap"] = spans["average_precision"][j].tolist()
        rows.append(row)
    defined = ~np.isnan([row["difference"] for row in rows[:-1]])
    rows[-1]["over"] = [label for label, yes in zip(a.labels, defined, strict=True) if yes]
    return rows


def _conclusion(found: Comparison, scored: Scored) -> str:
    """What the numbers of one run against the baseline say, and no more."""
    a, b = found.baseline.name, scored.name
    mine = [row for row in found.rows if row["run"] == b]
    macro, labels = mine[-1], mine[:-1]
    low, high = macro["difference_bootstrap"]
    # Said from the side of the better one, so that the difference and its interval are positive where they are sure.
    better, worse, sign = (b, a, 1) if macro["difference"] >= 0 else (a, b, -1)
    ends = sorted((sign * low, sign * high))
    size = f"{abs(macro['difference']):.3f} (95 % interval over patients {ends[0]:+.3f} to {ends[1]:+.3f})"
    images = f"On these {len(scored):,} images of {len(np.unique(scored.patients)):,} patients"
    over = f"macro AUROC over {len(macro['over'])} labels"
    if np.isnan(macro["difference"]):
        said = f"{images}, {a} and {b} cannot be compared: no label has both classes"
    elif np.isnan(low):
        said = (
            f"{images}, the {over} of {better} was {abs(macro['difference']):.3f} higher than that of {worse}, without "
        )
        said += "an interval, since no bootstrap was asked for"
    elif ends[0] > 0:
        said = f"{images}, {better} ranked better than {worse}: its {over} was {size} higher"
    else:
        said = f"{images}, {a} and {b} are not told apart: the {over} of {better} was {size} higher, "
        said += "which is no proof that they differ and none that they are equal"
    tested = [row for row in labels if not np.isnan(row["p_patients_holm"])]
    certain = [row for row in tested if row["p_patients_holm"] < ALPHA]
    tests = sum(not np.isnan(row["p_patients"]) for row in found.rows)
    if len(certain) > 5:
        single = f"{len(certain)} of {len(tested)} labels"
    else:
        single = ", ".join(f"{row['label']} ({row['difference']:+.3f} for {b})" for row in certain) or "no single label"
    said += f". After Holm's correction over {tests} tests, a difference holds for {single}."
    said += " This is one fit of each head on one test set."
    random = [s.name for s in (found.baseline, scored) if s.random]
    return said + (f" Random weights ({' and '.join(random)}): not a result." if random else "")
