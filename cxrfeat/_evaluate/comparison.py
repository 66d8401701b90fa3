"""Runs compared on the same images: paired tests, paired intervals, and one sentence that does not overclaim."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.alignment import align, named_apart
from cxrfeat._evaluate.bootstrap import REPLICATES, Replicates
from cxrfeat._evaluate.metrics import AUROC, METRICS, Metric
from cxrfeat._evaluate.rows import Row, levels, resampled, rows_of
from cxrfeat._evaluate.scored import Evaluable, Scored, scored_run
from cxrfeat._progress import Progress, part, silent
from cxrfeat._report import tables
from cxrfeat._run import load_run

if TYPE_CHECKING:
    from cxrfeat._report.style import Drawing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Comparison(tables.Result):
    """What `compare` returns: runs against the first of them, the baseline. It prints as a table.

    Attributes
    ----------
    scored : list of Scored
        The runs, baseline first, on the same images in the same order.
    metric : Metric
        What is compared.
    rows : list of dict
        For each other run, one row per label and one for `macro`: `run`, `baseline`, `label`, `n`, `positives`, the
        metric's value and NAME_baseline, `difference` (of the run, less the baseline), `difference_interval` (the one
        to report) and `difference_bootstrap`. For AUROC also `difference_delong` (images as independent), the p-values
        `p` (DeLong) and `p_patients` (images of one patient as one cluster, the test of `difference_interval`), and
        both after Holm's correction over all labels and runs, `p_holm` and `p_patients_holm`. Every other metric's
        difference and interval are under NAME_difference and NAME_difference_bootstrap.
    conclusions : list of str
        One sentence per run.
    left_out : int
        Images of any run that are not in all of them.
    replicates, seed : int
    folder : pathlib.Path or None
        Where the first run is.
    each : list of list of dict
        The rows of every run, as those of an evaluation.
    by_run : bool
        Whether it prints with a column for every run.
    """

    scored: list[Scored]
    metric: Metric
    rows: list[Row]
    conclusions: list[str]
    left_out: int
    replicates: int
    seed: int
    folder: Path | None = None
    each: list[list[Row]] = field(default_factory=list)
    by_run: bool = False

    ALPHA: ClassVar[float] = 0.05

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
        first = self.baseline
        images = f"n = {len(first):,} images of {first.patients_of():,} patients"
        left = f" ({self.left_out:,} images that are not in every run left out)" if self.left_out else ""
        where = ", ".join(f"{key} {first.provenance[key]}" for key in ("split", "study") if first.provenance.get(key))
        runs = "; ".join(f"{s.name}: {s.provenance.get('head', 'unknown head')}" for s in self.scored)
        return f"{images}{left}{', ' + where if where else ''}. {runs}"

    def title(self) -> str:
        """The table's title: what it was computed from, and a warning of random weights."""
        name = self.metric.heading or self.metric.name
        what = f"{name} {'by run' if self.by_run else f'against {self.baseline.name}'}; {self.caption()}"
        return tables.stamped(what, *self.scored)

    def tables(self) -> dict[str, list[Row]]:
        """Rows for people; the run's column only where there are several."""
        if self.by_run:
            return {"": [self._side_by_side(rows) for rows in zip(*(rows[:-1] for rows in self.each), strict=True)]}
        several, heading = len(self.scored) > 2, self.metric.heading or self.metric.name
        read = []
        for row in self.rows:
            short: Row = {"run": row["run"]} if several else {}
            short["label"] = row["label"] + (f" over {len(row['over'])}" if "over" in row else "")
            short |= {"n+": row["positives"], "baseline": row[f"{self.metric.name}_baseline"]}
            short |= {heading: row[self.metric.name], "difference": row["difference"]}
            short["95 %"] = tables.span_text(row["difference_interval"])
            if self.metric is AUROC:
                for key, name in (("p", "p DeLong"), ("p_patients", "p patients"), ("p_patients_holm", "p Holm")):
                    short[name] = tables.p_text(row[key])
            read.append(short)
        return {"": read}

    def _side_by_side(self, rows: Sequence[Row]) -> Row:
        """One label of every run: the value with its interval, the best in bold."""
        name, metric = self.metric.name, self.metric
        values = np.array([row[name] for row in rows]) * (-1 if metric.higher_is_better is False else 1)
        best = np.nanmax(values) if not np.isnan(values).all() else np.nan
        short: Row = {"label": rows[0]["label"] + (f" over {len(rows[0]['over'])}" if "over" in rows[0] else "")}
        short["n+"] = rows[0]["positives"]
        for scored, row, value in zip(self.scored, rows, values, strict=True):
            span = tables.span_text(row.get(f"{name}_interval") or row.get(f"{name}_bootstrap"), metric.digits)
            text = metric.text(row[name]) + (f" ({span})" if span != "-" else "")
            short[scored.name] = tables.Bold(text) if value == best else text
        return short

    def notes(self) -> list[str]:
        """The conclusions."""
        bold = (
            "Bold: the best estimate, whether or not the difference is significant. Intervals are 95 %, over patients."
        )
        return [bold, *self.conclusions] if self.by_run else self.conclusions

    def problems(self) -> list[str]:
        """What the backbones have seen in pretraining."""
        return list(dict.fromkeys(said for scored in self.scored for said in scored.provenance.get("pretraining", [])))

    def records(self) -> list[Row]:
        about = {"random_weights": self.random, "n_images": len(self.baseline)}
        return [tables.ends(row) | about for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "cxrfeat-comparison",
            "format_version": 2,
            "metric": self.metric.name,
            "baseline": self.baseline.name,
            "runs": {scored.name: scored.facts() for scored in self.scored},
            "random_weights": self.random,
            "images_left_out": self.left_out,
            "intervals": {"level": delong.LEVEL, "bootstrap_replicates": self.replicates, "seed": self.seed},
            "rows": self.rows,
            "conclusions": self.conclusions,
        }

    def plot(self, title: str = "") -> Drawing:
        """Draw the differences as a forest plot, which shows itself in a notebook; `.save(path)` writes it."""
        from cxrfeat._report import bars

        return bars.forest(self, title)

    def save(self, path: str | Path | None = None) -> list[Path]:
        """Write the forest plot as PNG, SVG and CSV; by default as `compare-A-B.png` beside the first run."""
        name = f"compare-{'-'.join(scored.name for scored in self.scored)}.png"
        return self.plot().save(path or (self.folder or Path()) / name)


def compare(
    run: Evaluable,
    *others: Evaluable,
    split: str = "test",
    metric: str = "auroc",
    table: bool = False,
    intersection: bool = False,
    replicates: int = REPLICATES,
    seed: int = 0,
    allow_contaminated: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Compare runs with the first of them, on the same images: with tests and intervals.

    For AUROC: the paired DeLong test, the same with patients as clusters, Holm's correction over all labels and runs;
    for every metric a paired bootstrap over patients.

    Parameters
    ----------
    run : Run, path or name
        The baseline.
    *others : Run, path or name
        At least one.
    split : str
        Which images.
    metric : str
        What the table, the figure and the conclusion are about; only `auroc` has tests.
    table : bool
        Print a table for a paper: a row for each label, a column for each run, the best in bold, with intervals.
    intersection : bool
        Take the images (and labels) that all runs share, where they differ.
    replicates : int
        Replicates of the paired bootstrap over patients.
    seed : int
        Seed of the bootstrap.
    allow_contaminated : bool
        As in `evaluate`.
    progress : Progress
        Called after each block of replicates.

    Returns
    -------
    Comparison
        It prints as a table; `conclusions` has a sentence for each run, `save()` writes the forest plot.

    Raises
    ------
    EvaluationError
        If there are fewer than two runs, or they were evaluated on other images, labels, patients or truth.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> run = "sample-densenet121-logistic"
    >>> found = cxr.compare(run, run, replicates=200)  # with itself
    >>> print(found.conclusions[0])
    On these ... images of ... patients, there is no significant difference between ... No label differs ...
    """
    runs = [scored_run(one, split, allow_contaminated) for one in (run, *others)]
    aligned, left_out = align(named_apart(runs), intersection)
    draws = [
        resampled(one, replicates, seed, part(progress, k * replicates, replicates * len(aligned), one.name))
        for k, one in enumerate(aligned)
    ]
    rows: list[Row] = []
    chosen = METRICS[metric]
    each = [rows_of(one, mine) for one, mine in zip(aligned, draws, strict=True)]
    for k in range(1, len(aligned)):
        rows += _rows(chosen, (aligned[0], aligned[k]), (each[0], each[k]), (draws[0], draws[k]))
    if chosen is AUROC:
        for kind in ("p", "p_patients"):
            for row, adjusted in zip(rows, delong.holm([row[kind] for row in rows]), strict=True):
                row[f"{kind}_holm"] = float(adjusted)
    if left_out:
        _log.info("%s images are not in every run; %s remain.", f"{left_out:,}", f"{len(aligned[0]):,}")
    folder = None if isinstance(run, Scored) else load_run(run).path.parent
    found = Comparison(aligned, chosen, rows, [], left_out, replicates, seed, folder, each, table)
    found.conclusions.extend(_conclusion(found, scored) for scored in aligned[1:])
    return found


def _rows(
    metric: Metric, both: tuple[Scored, Scored], each: tuple[list[Row], list[Row]], draws: tuple[Replicates, Replicates]
) -> list[Row]:
    """Rows of one run against the baseline: labels, then macro; Holm's correction is not in them yet."""
    (a, b), name = both, metric.name
    gone = draws[1].less(draws[0])
    spans = {m.name: gone.interval(m, levels(a, m)).tolist() for m in METRICS}
    rows: list[Row] = []
    for j, (before, after) in enumerate(zip(*(rows[:-1] for rows in each), strict=True)):
        found = {key: (after[key] - before[key], ends[j]) for key, ends in spans.items()}
        difference, span = found.pop(name)
        row: Row = {"run": b.name, "baseline": a.name} | {key: before[key] for key in ("label", "n", "positives")}
        row |= {f"{name}_baseline": before[name], name: after[name]}
        row |= {"difference": difference, "difference_interval": span, "difference_bootstrap": span}
        row |= _tests(a, b, j) if metric is AUROC else {}
        for key, (value, ends) in found.items():
            row |= {f"{key}_difference": value, f"{key}_difference_bootstrap": ends}
        rows.append(row)
    defined = ~np.isnan([row["difference"] for row in rows[:-1]])
    rows[-1]["over"] = list(a.named(defined))
    return rows


def _tests(a: Scored, b: Scored, j: int) -> Row:
    """Paired tests of label j; none for macro."""
    if j == len(a.labels):
        return {"p": np.nan, "p_patients": np.nan}
    y, before = a.label(j)
    after = b.p[:, j].astype(np.float64)
    plain = delong.paired(y, before, after)
    clustered = delong.paired(y, before, after, a.patients)
    return {
        "z": plain.z,
        "p": plain.p,
        "difference_delong": [plain.low, plain.high],
        "p_patients": clustered.p,
        "difference_interval": [clustered.low, clustered.high],
    }


def _conclusion(found: Comparison, scored: Scored) -> str:
    """What the numbers of one run against the baseline say, and no more."""
    a, b, metric = found.baseline.name, scored.name, found.metric
    mine = [row for row in found.rows if row["run"] == b]
    macro, labels = mine[-1], mine[:-1]
    difference, (low, high) = macro["difference"], macro["difference_interval"]
    # Said from the side of the higher one, so that the difference and its interval are positive where they are sure.
    higher, lower, sign = (b, a, 1) if difference >= 0 else (a, b, -1)
    ends = sorted((sign * low, sign * high))
    size = f"{abs(difference):.3f} (95 % interval over patients {ends[0]:+.3f} to {ends[1]:+.3f})"
    images = f"On these {len(scored):,} images of {scored.patients_of():,} patients"
    over = f"macro {metric.heading or metric.name} over {len(macro['over'])} labels"
    if np.isnan(difference):
        said = f"{images}, {a} and {b} cannot be compared: {metric.undefined or 'the metric is not defined'}"
    elif np.isnan(low):
        said = f"{images}, the {over} of {higher} was {abs(difference):.3f} higher than that of {lower}, without "
        said += "an interval, since no bootstrap was asked for"
    elif ends[0] > 0:
        better, worse = (higher, lower) if metric.higher_is_better is not False else (lower, higher)
        verb = "ranked better" if metric is AUROC else "did better"
        direction = "higher" if better == higher else "lower"
        said = f"{images}, {better} {verb} than {worse}: its {over} was {size} {direction}"
    else:
        said = f"{images}, there is no significant difference between {a} and {b}: the {over} of {higher} was {size} "
        said += "higher, which is no proof that they differ and none that they are equal"
    random = [s.name for s in (found.baseline, scored) if s.random]
    parts = [f"{said}.", _single_labels(found, labels, b), "This is one fit of each head on one test set."]
    return " ".join(
        [p for p in parts if p] + [f"Random weights ({' and '.join(random)}): not a result."] * bool(random)
    )


def _single_labels(found: Comparison, labels: list[Row], name: str) -> str:
    if found.metric is not AUROC:
        return "Only AUROC has tests for single labels."
    certain = [row for row in labels if row["p_patients_holm"] < found.ALPHA]
    tests = sum(not np.isnan(row["p_patients"]) for row in found.rows)
    corrected = f"after Holm's correction over {tests} tests" if tests > 1 else "(one test)"
    if not certain:
        return f"No label differs significantly {corrected}."
    listed = ", ".join(f"{row['label']} ({row['difference']:+.3f} for {name})" for row in certain)
    if len(certain) > 5:
        listed = f"{len(certain)} of {len(labels)} labels"
    return f"Significant {corrected}: {listed}."
