"""Curves of every label of a run, ready to be drawn: ROC, precision and recall, calibration, threshold sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrfeat._evaluate import arrays, delong
from cxrfeat._evaluate.bootstrap import REPLICATES
from cxrfeat._evaluate.metrics import AUROC, AVERAGE_PRECISION, BRIER, ECE, METRICS
from cxrfeat._evaluate.rows import Row, levels, resampled
from cxrfeat._evaluate.scored import Evaluable, Scored, scored_run
from cxrfeat._labels import choose
from cxrfeat._progress import Progress, silent
from cxrfeat._report import tables
from cxrfeat._run import load_run

if TYPE_CHECKING:
    from cxrfeat._report.style import Drawing

SWEEP = np.linspace(0, 1, 201)
POINTS = 100_000
"""Points of a curve at most. Of more distinct scores every n-th is kept, and the caption says so; the areas beside a
curve are always of all scores."""
PER_BIN, MOST_BINS = 20, 10
"""Images of a calibration bin at least, and bins at most."""


@dataclass(frozen=True)
class Curve:
    """The curve of one label: the first column of `points` is across, the others are up.

    `colour` is the number of its colour, the same in every figure of a run; `value` is for the legend, `note` for the
    title of a small panel.
    """

    label: str
    colour: int
    points: dict[str, arrays.Array]
    value: str
    note: str


@dataclass(frozen=True, repr=False)
class Curves(tables.Result):
    """Curves of one kind, with what is said about them. `roc` returns this.

    Attributes
    ----------
    kind : str
        `roc`, `precision_recall`, `calibration` or `thresholds`.
    heading : str
        What the figure is.
    axes : (str, str)
        Names of the two directions.
    curves : list of Curve
        Labels without a curve (a class is absent, or there is no prediction) are not in it.
    rows : list of dict
        One per label, and one for their mean.
    scored : Scored
    summary : str
        The mean over labels.
    method : str
        How intervals and bins were made.
    folder : pathlib.Path or None
        The run's.
    """

    kind: str
    heading: str
    axes: tuple[str, str]
    curves: list[Curve]
    rows: list[Row]
    scored: Scored
    summary: str = ""
    method: str = ""
    marks: dict[str, float] = field(default_factory=dict)
    folder: Path | None = None

    def caption(self) -> str:
        """Return what the figure was computed from, how it was made, and which labels have no curve."""
        drawn = {curve.label for curve in self.curves}
        missing = [label for label in self.scored.labels if label not in drawn]
        why = f"No curve for {', '.join(missing)}: a class is absent, or there is no prediction." if missing else ""
        return " ".join(part for part in (f"{self.scored.caption()}.", self.method, why) if part)

    def title(self) -> str:
        return tables.stamped(self.heading, self.scored)

    def tables(self) -> dict[str, list[Row]]:
        names = {"label": "label", "n": "n", "positives": "n+", "auroc": "AUROC", "auroc_interval": "95 %"}
        read = [{names.get(key, key): value for key, value in tables.flat(row).items()} for row in self.rows]
        return {"": read}

    def records(self) -> list[Row]:
        """Return the rows; the ends of intervals are columns of their own. The points are in `plot().data`."""
        return [tables.ends(row) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return the rows and what they were computed from."""
        return {**self.scored.facts(), "labels": self.rows}

    def plot(self, layout: str = "auto", width: float | None = None, title: str = "") -> Drawing:
        """Draw the curves; the figure shows itself in a notebook, and `.save(path)` writes it.

        `layout` is `panels` (one for each label), `one`, or `auto`: panels for more than six curves. `width` is in
        inches; 3.5 is one column of a paper.
        """
        from cxrfeat._report import curves as drawing

        return drawing.draw(self, layout, width, title)

    def save(self, path: str | Path | None = None, **options: Any) -> list[Path]:
        """Draw with the options of `plot` and write it as PNG, SVG and CSV; by default into the run's `figures/`."""
        folder = (self.folder or Path()) / "figures"
        return self.plot(**options).save(path or folder / f"{self.kind}.png", overwrite=True if path is None else None)


def roc(
    run: Evaluable = None,
    split: str = "test",
    *,
    labels: Sequence[str] = (),
    replicates: int = REPLICATES,
    seed: int = 0,
    allow_contaminated: bool = False,
    progress: Progress = silent,
) -> Curves:
    """Return the ROC curves of a run with their AUROCs and intervals.

    Parameters
    ----------
    run : Run, path or name, optional
        By default the newest run.
    split : str
        Which images.
    labels : sequence of str
        By default all.
    replicates : int
        Replicates of the bootstrap over patients, for the interval of the macro AUROC; 0 leaves it out.
    seed : int
        Seed of the bootstrap.
    allow_contaminated : bool
        As in `evaluate`.
    progress : Progress
        Called after each block of replicates.

    Returns
    -------
    Curves
        It prints as a table; `plot()` draws it, `save()` writes figure and points, `to_frame()` has the AUROCs.

    Raises
    ------
    EvaluationError
        As `evaluate`, or if a label does not exist.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> found = cxr.roc(labels=["Effusion", "Mass"], replicates=200)  # of the newest run
    >>> [row["label"] for row in found.rows]
    ['Effusion', 'Mass', 'macro over 2']
    >>> [path.name for path in found.save("roc.pdf")]
    ['roc.pdf', 'roc.png', 'roc.svg', 'roc.csv']
    """
    source = run if isinstance(run, Scored) else load_run(run)
    scored = scored_run(source, split, allow_contaminated)
    if labels:
        scored = scored.with_labels(choose(labels, scored.labels))
    draws = resampled(scored, replicates, seed, progress, [AUROC])
    macro = draws.interval(AUROC, levels(scored, AUROC))[-2].tolist() if draws else None
    return roc_of(scored, macro, None if isinstance(source, Scored) else source.path)


def roc_of(scored: Scored, macro_interval: Sequence[float] | None = None, folder: Path | None = None) -> Curves:
    """ROC curves of predictions, with an interval of the macro AUROC where one is known."""
    found, rows = [], []
    for j, (row, y, p) in enumerate(_labels(scored)):
        at = delong.over_patients(y, p, scored.patients)
        rows.append({**row, "auroc": at.value, "auroc_interval": [at.low, at.high]})
        fpr, tpr, thresholds = arrays.roc_curve(y, p)
        if fpr.size:
            said = f"{at.value:.3f}" + ("" if np.isnan(at.low) else f" [{at.low:.2f}, {at.high:.2f}]")
            points = {"fpr": fpr, "tpr": tpr, "threshold": thresholds}
            found.append(_curve(scored, j, points, f"{said}  n+ = {row['positives']:,}", said))
    values = [row["auroc"] for row in rows if not np.isnan(row["auroc"])]
    mean = float(np.mean(values)) if values else np.nan
    last: Row = {"label": f"macro over {len(values)}", "n": len(scored), "positives": None, "auroc": mean}
    summary = f"macro AUROC {mean:.3f} over {len(values)} labels" if values else ""
    if values and macro_interval is not None:
        last["auroc_interval"] = list(macro_interval)
        summary += f", 95 % interval over patients {tables.span_text(macro_interval)}"
    axes = ("1 - specificity (false positive rate)", "sensitivity (true positive rate)")
    method = "AUROC with 95 % interval over patients." + _left_out(found)
    return Curves("roc", "ROC curves", axes, found, [*rows, last], scored, summary, method, folder=folder)


def precision_recall_of(scored: Scored) -> Curves:
    """Precision over recall, with average precision beside what a random score has."""
    found, rows = [], []
    for j, (row, y, p) in enumerate(_labels(scored)):
        precision, recall, thresholds = arrays.precision_recall_curve(y, p)
        value, n = AVERAGE_PRECISION(y, p), row["n"]
        chance = AVERAGE_PRECISION.chance(n, row["positives"]) if AVERAGE_PRECISION.chance and n else np.nan
        rows.append({**row, "average_precision": value, "by_chance": chance})
        if recall.size:
            points = {
                "recall": np.r_[0.0, recall],
                "precision": np.r_[precision[0], precision],
                "threshold": np.r_[np.nan, thresholds],
            }
            found.append(_curve(scored, j, points, f"AP {value:.3f}, by chance {chance:.3f}"))
    values = [row["average_precision"] for row in rows if not np.isnan(row["average_precision"])]
    summary = f"macro AP {np.mean(values):.3f} over {len(values)} labels" if values else ""
    method = "By chance: the mean average precision of a random order of these images." + _left_out(found)
    axes = ("recall (sensitivity)", "precision (PPV)")
    return Curves("precision_recall", "Precision and recall", axes, found, rows, scored, summary, method)


def calibration_of(scored: Scored) -> Curves:
    """Share of positives over the mean probability of bins of equally many images, with Wilson intervals."""
    found, rows = [], []
    for j, (row, y, p) in enumerate(_labels(scored)):
        n = len(arrays.known(y, p)[0])
        rows.append({**row, "n": n, "ece": ECE(y, p), "brier": BRIER(y, p)})
        if n:
            bins = min(max(n // PER_BIN, 1), MOST_BINS)
            predicted, observed, count, patients = arrays.calibration_bins(y, p, scored.patients, bins)
            low, high = arrays.wilson(observed, patients)
            points = {"predicted": predicted, "observed": observed, "n": count.astype(float), "low": low, "high": high}
            error = f"ECE {rows[-1]['ece']:.3f}"
            note = f"{error}, n+ {row['positives']:,} of {n:,}"
            found.append(_curve(scored, j, points, f"{error}, Brier {rows[-1]['brier']:.3f}", note))
    method = (
        f"At most {MOST_BINS} bins of equally many images, {PER_BIN} or more in each; bars: 95 % Wilson intervals "
        "over the patients of a bin. ECE: expected calibration error over 15 equal-width bins."
    )
    axes = ("mean probability", "share of positives")
    return Curves("calibration", "Calibration", axes, found, rows, scored, "", method)


def sweep_of(scored: Scored) -> Curves:
    """Metrics that need a threshold, over the threshold."""
    metrics = [m for m in METRICS if m.needs_threshold and m.heading]
    terms = dict.fromkeys(term for m in metrics for term in m.sums)  # most are shared
    found = []
    for j, (row, y, p) in enumerate(_labels(scored)):
        positive, score = arrays.known(y, p)
        if score.size:
            sums = {term: np.array([np.sum(term(positive, score, at), axis=0) for at in SWEEP]) for term in terms}
            values = {m.name: m.value(*(sums[term] for term in m.sums)) for m in metrics}
            found.append(_curve(scored, j, {"threshold": SWEEP, **values}, f"n+ {row['positives']:,}"))
    marks = {label: float(at) for label, at in zip(scored.labels, scored.thresholds, strict=True) if not np.isnan(at)}
    method = f"Line: the stored threshold; thresholds: {scored.provenance.get('thresholds', 'as given')}."
    method = method if marks else "No label has a stored threshold."
    return Curves("thresholds", "Threshold sweep", ("threshold", ""), found, [], scored, "", method, marks)


def confusion_rows(scored: Scored) -> list[Row]:
    """Counts of every label at its stored threshold: `label`, `threshold`, `tp`, `fp`, `fn`, `tn`."""
    rows = []
    for j, (label, threshold) in enumerate(zip(scored.labels, scored.thresholds.tolist(), strict=True)):
        positive, p = arrays.known(*scored.label(j))
        called = p >= threshold
        pairs = {"tp": called & positive, "fp": called & ~positive, "fn": ~called & positive, "tn": ~called & ~positive}
        rows.append({"label": label, "threshold": threshold, **{key: int(of.sum()) for key, of in pairs.items()}})
    return rows


def _labels(scored: Scored) -> Iterator[tuple[Row, arrays.Array, arrays.Array]]:
    """Of each label the first columns of its row, truth and probabilities."""
    for j, (label, positives) in enumerate(zip(scored.labels, scored.positives.tolist(), strict=True)):
        y, p = scored.label(j)
        yield {"label": label, "n": int((~np.isnan(y)).sum()), "positives": positives}, y, p


def _curve(scored: Scored, j: int, points: dict[str, arrays.Array], value: str, note: str = "") -> Curve:
    number = max(map(len, points.values()))
    if number > POINTS:
        kept = np.linspace(0, number - 1, POINTS).astype(np.int64)
        points = {key: values[kept] for key, values in points.items()}
    return Curve(scored.labels[j], scored.colour_of(scored.labels[j]), points, value, note or value)


def _left_out(curves: Sequence[Curve]) -> str:
    """What the caption says if curves do not have all of their points."""
    fewer = any(len(values) == POINTS for curve in curves for values in curve.points.values())
    return f" Of curves with more than {POINTS:,} points so many are kept." if fewer else ""
