"""A run, evaluated: rows per label, macro and micro, groups and warnings, in one object that draws itself."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, overload

import numpy as np

from cxrfeat import _files as files
from cxrfeat import _html as html
from cxrfeat._evaluate import curves, delong, groups, warnings
from cxrfeat._evaluate.bootstrap import REPLICATES
from cxrfeat._evaluate.metrics import ACCURACY, ACCURACY_AT_HALF, ALL_NEGATIVE_ACCURACY, AUROC, METRICS, Metric
from cxrfeat._evaluate.rows import Group, Row, resampled, rows_of
from cxrfeat._evaluate.scored import Evaluable, Scored, scored_run, truth_of
from cxrfeat._progress import Progress, part, silent
from cxrfeat._project import remind
from cxrfeat._report import tables
from cxrfeat._run import Run, load_run
from cxrfeat._shortcuts import ERRORS as SHORTCUT_ERRORS
from cxrfeat._shortcuts import shortcuts as shortcuts_of
from cxrfeat._study import Study
from cxrfeat.errors import EvaluationError

if TYPE_CHECKING:
    from cxrfeat._evaluate.curves import Curves
    from cxrfeat._evaluate.external import External
    from cxrfeat._report.style import Drawing

_log = logging.getLogger(__name__)

On: TypeAlias = Study | str | Path | Sequence[Study | str | Path]

NEAR_SHORTCUT = 0.05
"""A model whose AUROC is no more than this above that of shortcuts is warned of."""


@dataclass(frozen=True, repr=False)
class Evaluation(tables.Result):
    """What `evaluate` returns. It prints as a table, in a notebook too.

    Attributes
    ----------
    scored : Scored
        What was evaluated.
    rows : list of dict
        One per label, then `macro` and `micro`: `label`, `n`, `positives`, `patients`, `positive_patients`,
        `negative_patients`, `prevalence`, `threshold`, every metric and its bootstrap interval under NAME_bootstrap,
        `auroc_interval` (the one to report: over patients, also with few of them), `auroc_delong` (images as
        independent), and under NAME_chance what a random score has on average, for metrics that know it. Intervals that
        too few patients would make too narrow are NaN. Macro has `over`, the labels it runs over.
    groups : list of Group
    alone : dict
        For each column grouped by: AUROC of every label from its prevalence in the group in training, and nothing else.
    warnings : list of Warning
    replicates, seed : int
    run : Run or None
        The run whose predictions these are.
    """

    scored: Scored
    rows: list[Row]
    groups: list[Group] = field(default_factory=list)
    alone: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[warnings.Warning] = field(default_factory=list)
    replicates: int = 0
    seed: int = 0
    run: Run | None = None

    CURVES: ClassVar[tuple[str, ...]] = ("roc", "precision_recall", "calibration", "thresholds")

    @property
    def macro(self) -> Row:
        """The mean over labels."""
        return self.rows[-2]

    @property
    def micro(self) -> Row:
        """All labels pooled."""
        return self.rows[-1]

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of correct labels over images and labels (equation 1 of the reference paper), and its baseline."""
        return {
            "at_thresholds": self.micro[ACCURACY.name],
            "at_half": self.micro[ACCURACY_AT_HALF.name],
            "all_negative_baseline": self.micro[ALL_NEGATIVE_ACCURACY.name],
        }

    def accuracy_line(self) -> str:
        """The reference paper's accuracy beside its baseline, in a sentence."""
        found, chosen = self.accuracy, self.scored.provenance.get("thresholds", "given")
        at_thresholds = f", {found['at_thresholds']:.3f} at the stored thresholds ({chosen})"
        return (
            f"accuracy (correct labels over images and labels): {found['at_half']:.3f} at 0.5"
            f"{at_thresholds if np.isfinite(found['at_thresholds']) else ''}; "
            f"always-negative baseline: {found['all_negative_baseline']:.3f}."
        )

    def headline(self) -> str:
        """The result in a line: macro AUROC with its interval, labels, images, split."""
        macro = self.macro
        span = tables.span_text(macro.get("auroc_interval"))
        between = f" (95 % interval over patients {span})" if span != "-" else ""
        return f"Macro AUROC {tables.cell(macro['auroc'])}{between} over {len(macro['over'])} labels"

    def title(self) -> str:
        return tables.stamped("Metrics per label", self.scored)

    def tables(self) -> dict[str, list[Row]]:
        """Rows for people: the labels, and the groups."""
        found = {"": self.rows_to_read()}
        if self.groups:
            found["By group; `group alone` is the macro AUROC of knowing only the group"] = self.group_rows()
        return found

    def notes(self) -> list[str]:
        draws = f"; those of macro, micro and groups by {self.replicates:,} bootstrap replicates"
        draws = draws if self.replicates else ""
        return [self.accuracy_line(), f"Intervals are 95 %, over patients{draws}."]

    def problems(self) -> list[str]:
        return [warning.message for warning in self.warnings]

    def rows_to_read(self, rows: Sequence[Row] | None = None) -> list[Row]:
        """Rows of this evaluation or of one of its groups, under the headings that people read."""
        rows = self.rows if rows is None else rows
        metrics = [m for m in METRICS if m.heading]
        several = len({row["n"] for row in rows[:-2]}) > 1  # the title has n where it is the same for all
        found = []
        for row in rows:
            short: Row = {"label": row["label"] + (f" over {len(row['over'])}" if "over" in row else "")}
            short |= {"n": row["n"]} if several else {}
            short["n+"] = row["positives"]
            for metric in metrics:
                short |= self._cells(metric, row)
                if metric is AUROC and "auroc_shortcuts" in self.macro:
                    short["not looking"] = row.get("auroc_shortcuts", np.nan)
                if metric.chance is not None and metric is not AUROC:
                    short |= {"chance": row[f"{metric.name}_chance"]}
            found.append(short)
        return found

    def _cells(self, metric: Metric, row: Row) -> Row:
        value = row[metric.name]
        found = {metric.heading: value if metric.digits == 3 else metric.text(value)}
        if metric is AUROC:
            found["95 %"] = tables.span_text(row.get("auroc_interval"))
        elif metric.show_interval and self.replicates:
            found[f"{metric.heading} 95 %"] = tables.span_text(row[f"{metric.name}_bootstrap"], metric.digits)
        return found

    def group_rows(self) -> list[Row]:
        """One row per group: images, patients, macro values, labels they run over, AUROC of the group alone."""
        rows = []
        for group in self.groups:
            macro = group.rows[-2]
            alone = np.array(list(self.alone[group.column].values()))
            row = {"group": f"{group.column} {group.name}", "n": group.images, "patients": macro["patients"]}
            for metric in METRICS:
                if metric.heading and (metric.show_interval or metric.name == "average_precision"):
                    cells = self._cells(metric, macro)
                    row |= {f"macro {k}" if k == metric.heading else k: v for k, v in cells.items()}
            row |= {"over": len(macro["over"]), "prev.": macro["prevalence"]}
            rows.append(row | {"group alone": float(np.nanmean(alone)) if not np.isnan(alone).all() else np.nan})
        return rows

    def records(self) -> list[Row]:
        """Every row of the evaluation and its groups with every number, for CSV and data frames."""
        rows = [{"group": "", **row} for row in self.rows]
        for group in self.groups:
            rows += [{"group": f"{group.column}={group.name}", **row} for row in group.rows]
        facts = self.scored.facts()
        about = {key: facts.get(key) for key in ("run", "split", "study", "head", "random_weights")}
        return [{**tables.ends(row), **about} for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it: NaN is None. `sha256` is the hash of the rest."""
        content = {
            "format": "cxrfeat-metrics",
            "format_version": 2,
            "provenance": self.scored.facts(),
            "intervals": {"level": delong.LEVEL, "bootstrap_replicates": self.replicates, "seed": self.seed},
            "accuracy": self.accuracy,
            "labels": self.rows[:-2],
            "macro": self.macro,
            "micro": self.micro,
            "groups": [
                {"column": g.column, "group": g.name, "n": g.images, "labels": g.rows[:-2], "macro": g.rows[-2]}
                for g in self.groups
            ],
            "auroc_of_the_group_alone": self.alone,
            "warnings": [asdict(warning) for warning in self.warnings],
        }
        found = html.plain(content)
        return {**found, "sha256": files.own_hash(found)}

    def curves(self, kind: str) -> Curves:
        """Return one of `CURVES`: "roc", "precision_recall", "calibration" or "thresholds"."""
        if kind == "roc":
            return curves.roc_of(self.scored, self.macro.get("auroc_interval"))
        return {
            "precision_recall": curves.precision_recall_of,
            "calibration": curves.calibration_of,
            "thresholds": curves.sweep_of,
        }[kind](self.scored)

    def figures(self) -> list[str]:
        """Return the kinds of figures that it and its run have the numbers for."""
        trained = self.run is not None and (self.run.path / "history.csv").is_file()
        called = not np.isnan(self.scored.thresholds).all()
        return ["labels", *self.CURVES, *["confusion"] * called, *["loss"] * trained]

    def plot(self, kind: str = "labels") -> Drawing:
        """Draw a figure; it shows itself in a notebook, and `.save(path)` writes it.

        `kind` is `labels` (AUROC and average precision with intervals), `roc`, `precision_recall`, `calibration`,
        `thresholds`, `confusion` or `loss`.
        """
        from cxrfeat._report import bars
        from cxrfeat._report import curves as drawing

        if kind not in self.figures():
            raise EvaluationError(
                f"there is no figure {kind!r} of this run; choose one of {', '.join(self.figures())}."
            )
        if kind in self.CURVES:
            return self.curves(kind).plot()
        if kind == "confusion":
            return bars.confusion(self.scored, curves.confusion_rows(self.scored))
        return drawing.loss(self.run) if kind == "loss" and self.run else bars.labels(self)

    def save(self, folder: str | Path | None = None, figures: bool = True) -> list[Path]:
        """Write metrics.json, metrics.csv and `figures/` into a folder (by default the run's) and return them."""
        folder = Path(folder) if folder is not None else (self.run.path if self.run else Path())
        written = [
            files.write_atomically(folder / "metrics.json", self.render("json")),
            files.write_atomically(folder / "metrics.csv", self.render("csv")),
        ]
        if figures:
            for kind in self.figures():
                self.plot(kind).save(folder / "figures" / f"{kind}.png", overwrite=True)
            written.append(folder / "figures")
        return written


@overload
def evaluate(run: Evaluable = None, split: str = "test", *, on: None = None, **options: Any) -> Evaluation: ...
@overload
def evaluate(
    run: Evaluable | Sequence[Evaluable] = None, split: str = "test", *, on: On, **options: Any
) -> External: ...
def evaluate(  # type: ignore[misc]
    run: Evaluable | Sequence[Evaluable] = None,
    split: str = "test",
    *,
    on: On | None = None,
    by: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    allow_contaminated: bool = False,
    shortcuts: bool = True,
    progress: Progress = silent,
) -> Evaluation | External:
    """Evaluate a run's predictions of one split, or of other studies: every metric of every label, with intervals.

    With `on`, the other studies are embedded by the run's recipe where they are not, labels are joined by name, and the
    run is taken as it is, thresholds and calibration included. The result sets its numbers beside those on the own
    split: the drop with its interval, the part of it that prevalence explains, and calibration before and after
    recalibrating.

    Parameters
    ----------
    run : Run, path or name, optional
        By default the newest run. With `on` there may be several: train on one, test on all.
    split : str
        Which images of the run's own study.
    on : Study, path or str, or several of them, optional
        Other studies, anything that `read_study` reads. All images count; `NAME:test` is a study's test split.
    by : iterable of str, optional
        Columns of the study to group by; `images_per_patient` always exists. By default `view`, if the study has it.
    replicates : int
        Replicates of the bootstrap over patients; 0 leaves its intervals out.
    seed : int
        Seed of the bootstrap.
    allow_contaminated : bool
        Evaluate a split that was used for fitting or for choosing thresholds; every output then says so.
    shortcuts : bool
        Show beside each AUROC what the properties of the files would score, see `shortcuts`, and warn if that comes
        near. It opens up to 1,000 images of the split, and is left out where none can be read.
    progress : Progress
        Called after each block of replicates, over all images and all groups.

    Returns
    -------
    Evaluation or External
        It prints as a table; `to_frame()`, `plot()`, `render("latex")` and `save()` give its other forms. `External`
        with `on`: `rows` of each of its `transfers` have the numbers.

    Raises
    ------
    EvaluationError
        If the predictions are not probabilities of this split, the split was used in fitting, or a column to group by
        is missing or has too many values.
    LeakageError
        If a patient is in two splits, or another study has images or patients that the run was fitted on.
    NotFoundError
        If there is no run, or it has no predictions.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> found = cxr.evaluate(by=["view"], replicates=200)  # the newest run
    >>> print(found.headline())
    Macro AUROC ... (95 % interval over patients ... to ...) over 14 labels
    >>> table = found.to_frame()
    >>> [path.name for path in found.save(figures=False)]
    ['metrics.json', 'metrics.csv']
    >>> other = cxr.read_study("sample").split("test")
    >>> cxr.evaluate(on=other, replicates=200).studies
    ['sample:test']
    """
    runs = [run] if run is None or isinstance(run, Run | Scored | str | Path) else list(run)
    if on is not None:
        from cxrfeat._evaluate.external import external  # not above: it brings the networks' engines

        if by:
            raise EvaluationError("`by` groups the images of one split; leave it out with `on`.")
        studies = [on] if isinstance(on, Study | str | Path) else list(on)
        return external(runs, studies, split, replicates, seed, allow_contaminated, progress)
    if len(runs) != 1:
        raise EvaluationError("several runs are evaluated `on` other studies; `compare` compares them on their own.")
    source, training = None if isinstance(runs[0], Scored) else load_run(runs[0]), None
    scored = scored_run(source or runs[0], split, allow_contaminated)
    if source:
        study = source.study()
        remind(study)
        fitted = [s for s in source.fitted_on.splits if s in study.splits]
        training = study.split(*fitted) if fitted else None
    fitted_truth = truth_of(training) if training else None
    columns = tuple(groups.default(scored) if by is None else dict.fromkeys(by))
    masks = {column: groups.group(scored, column) for column in columns}
    stages = itertools.count()
    total = replicates * (1 + sum(map(len, masks.values())))

    def summarise(some: Scored, note: str) -> list[Row]:
        seen = part(progress, next(stages) * replicates, total, note)
        return rows_of(some, resampled(some, replicates, seed, seen))

    rows = summarise(scored, "all images")
    found, alone, problems = [], {}, warnings.of_scores(scored, fitted_truth)
    for column, parts in masks.items():
        mine = []
        for name, mask in parts.items():
            some = scored.take(mask)
            mine.append(Group(column, name, len(some), summarise(some, f"{column} {name}"), some.named(some.few)))
        seen = (fitted_truth, groups.names_of(training, column)) if training else ()
        scores = groups.auroc_alone(scored.truth, groups.names_of(scored, column), *seen)
        alone[column] = dict(zip(scored.labels, scores, strict=True))
        problems += warnings.of_groups(column, rows, mine)
        found += mine
    if shortcuts and source is not None:
        problems += _without_looking(rows, source.study().join(scored.ids), seed)
    return Evaluation(scored, rows, found, alone, problems, replicates, seed, source)


def _without_looking(rows: list[Row], study: Study, seed: int) -> list[warnings.Warning]:
    """Add what shortcuts score to the rows of labels and macro; a warning for each label where that comes near."""
    by_label = {row["label"]: row for row in shortcuts_of(study, seed=seed).rows}
    if not by_label:
        _log.info("the images are not readable from here: what their size, format and brightness score is left out.")
        return []
    found = []
    for row in rows[:-2]:
        one = by_label[row["label"]]
        row["auroc_shortcuts"] = one["best"]
        tells = one["best"] - SHORTCUT_ERRORS * one["standard_error"] > 0.5
        if tells and row["auroc"] - one["best"] < NEAR_SHORTCUT:
            message = (
                f"{row['label']}: size, format, brightness or view alone score AUROC {one['best']:.3f}, the "
                f"model {row['auroc']:.3f}: it may have learnt nothing else."
            )
            found.append(warnings.Warning("shortcut", message, (row["label"],)))
    known = [row["auroc_shortcuts"] for row in rows[:-2] if row["label"] in rows[-2]["over"]]
    rows[-2]["auroc_shortcuts"] = float(np.mean(known)) if known else np.nan  # NaN unless every label has one
    return found
