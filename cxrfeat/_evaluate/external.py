"""Runs on studies of other origin: what is left of their performance, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxrfeat import _files as files
from cxrfeat._evaluate import delong
from cxrfeat._evaluate.elsewhere import open_study, scored_on, with_usual_names
from cxrfeat._evaluate.metrics import AUROC, BRIER, ECE, METRICS
from cxrfeat._evaluate.rows import Row
from cxrfeat._evaluate.scored import Evaluable, Scored, scored_run
from cxrfeat._evaluate.transfer import FOLDS, Transfer, compared, share
from cxrfeat._progress import Progress
from cxrfeat._project import remind
from cxrfeat._report import tables
from cxrfeat._run import load_run
from cxrfeat._study import Study
from cxrfeat.errors import EvaluationError

if TYPE_CHECKING:
    from cxrfeat._report.style import Drawing

OWN = "own test split"


@dataclass(frozen=True, repr=False)
class External(tables.Result):
    """What `evaluate` returns for other studies. It prints as tables, in a notebook too.

    Attributes
    ----------
    transfers : list of Transfer
        One for each run and study: `own` and `other` (what was scored), `rows` (one per label, then macro), `left_out`
        (labels that are not compared, and why). A row has, of the other study, what a row of an evaluation has, and for
        every metric NAME_own, NAME_drop (how much worse it is on the other study), NAME_at_own_prevalence (the other
        study weighted to the own prevalence) and NAME_drop_prevalence (the part of the drop that this undoes), with
        intervals under NAME_drop_bootstrap and NAME_drop_prevalence_bootstrap; `mean_probability`; and
        `brier_recalibrated` and `ece_recalibrated`.
    replicates, seed : int
    folder : pathlib.Path or None
        Where the first run is.
    """

    transfers: list[Transfer]
    replicates: int
    seed: int
    folder: Path | None = None

    @property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return list(dict.fromkeys(one.run for one in self.transfers))

    @property
    def studies(self) -> list[str]:
        """Names of the other studies."""
        return list(dict.fromkeys(one.study for one in self.transfers))

    @property
    def labels(self) -> list[str]:
        """Labels that every run was compared on in every study, in the order of the first."""
        first = self.transfers[0].other.labels
        return [label for label in first if all(label in one.other.labels for one in self.transfers)]

    @property
    def random(self) -> bool:
        """Whether a backbone had random weights, so that nothing here is a result."""
        return any(one.other.random for one in self.transfers)

    def headline(self) -> str:
        """The drop of each run on each study, in a sentence each."""
        said = []
        for one in self.transfers:
            row, span = one.rows[-1], tables.span_text(one.rows[-1].get("auroc_drop_bootstrap"))
            between = f", drop {row['auroc_drop']:+.3f}" + (f" (95 % interval {span})" if span != "-" else "")
            run = f"{one.run} on " if len(self.runs) > 1 else ""
            said.append(f"{run}{one.study}: macro AUROC {row['auroc']:.3f}, own {row['auroc_own']:.3f}{between}")
        return "; ".join(said)

    def title(self) -> str:
        """What was evaluated where."""
        what = f"{', '.join(self.runs)} on {', '.join(self.studies)}"
        if len(self.transfers) > 1:
            heads = dict.fromkeys(str(one.other.provenance["head"]) for one in self.transfers)
            what += f" against {OWN}; {'; '.join(heads)}. Macro AUROC over the {len(self.labels)} labels that all have"
        return tables.stamped(what, *(one.other for one in self.transfers))

    def tables(self) -> dict[str, list[Row]]:
        """AUROC, prevalence and calibration of each run on each study; before them train on one, test on all."""
        found = []
        if len(self.transfers) > 1:
            found.append(("", self.matrix()))
        for one in self.transfers:
            name = f"{one.run} on {one.study}"
            found += [
                (f"{name}, {one.other.caption().split(';')[0]}", [_auroc_row(row) for row in one.rows]),
                (f"{name}: macro values, and what prevalence explains of their drop", _parts(one)),
                (f"{name}: calibration, as learnt and recalibrated", [_calibration_row(row) for row in one.rows]),
            ]
        return {title if k else "": rows for k, (title, rows) in enumerate(found)}

    def matrix(self) -> list[Row]:
        """A row for each run, a column for its own test split and each study: macro AUROC with its interval."""
        rows = []
        for run in self.runs:
            row: Row = {"run": run}
            for one in (one for one in self.transfers if one.run == run):
                (own, own_ends), (other, ends) = one.macro(self.labels)
                row.setdefault(OWN, _with_span(own, own_ends))
                row[one.study] = _with_span(other, ends)
            rows.append(row)
        return rows

    def notes(self) -> list[str]:
        still = [m.heading or m.name for m in METRICS if not self._moves(m.name)]
        fixed = f"Prevalence does not change {', '.join(still)}. " if still else ""
        notes = [
            "drop: how much worse than on the run's own test split; thresholds and calibration are as learnt. "
            "Intervals are 95 %, from resampling the patients of both, each by themselves.",
            f"{fixed}by prevalence: the part of the drop that goes when the other study's images are weighted to the "
            "run's own prevalence, label by label (Saerens et al. 2002); its share is given where the drop is certain.",
            f"recalibrated: by Platt scaling on the other study's labels, cross-fitted by patient in {FOLDS} folds. It "
            "is what labels from there would give, not what the run does.",
        ]
        for one in self.transfers:
            reasons: dict[str, list[str]] = {}
            for label, reason in one.left_out.items():
                reasons.setdefault(reason, []).append(label)
            parts = "; ".join(f"{', '.join(labels)} ({reason})" for reason, labels in reasons.items())
            notes += [f"Not compared on {one.study}: {parts}."] * bool(parts)
        return notes

    def _moves(self, name: str) -> bool:
        """Whether a metric's value changes with the prevalence, as far as it has values here."""
        values = np.array([row[f"{name}_drop_prevalence"] for one in self.transfers for row in one.rows[:-1]])
        values = values[~np.isnan(values)]
        return not len(values) or bool((np.abs(values) > 1e-9).any())

    def problems(self) -> list[str]:
        found = []
        for one in self.transfers:
            about = one.other.provenance
            found += [*about.get("not_fair", []), *one.problems, *about.get("pretraining", [])]
            if count := about.get("without_prediction", 0):
                found.append(f"{count:,} images of {one.study} could not be embedded and are left out of every number.")
        return list(dict.fromkeys(found))

    def records(self) -> list[Row]:
        """Every number: one row for each run, study and label."""
        return [
            {"run": one.run, "study": one.study, **tables.ends(row), "random_weights": one.other.random}
            for one in self.transfers
            for row in one.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "cxrfeat-external",
            "format_version": 1,
            "random_weights": self.random,
            "intervals": {"level": delong.LEVEL, "bootstrap_replicates": self.replicates, "seed": self.seed},
            "labels": self.labels,
            "transfers": [
                {
                    "run": one.run,
                    "study": one.study,
                    "own": one.own.facts(),
                    "other": one.other.facts(),
                    "left_out": one.left_out,
                    "labels": one.rows[:-1],
                    "macro": one.rows[-1],
                }
                for one in self.transfers
            ],
            "warnings": self.problems(),
        }

    def plot(self) -> Drawing:
        """Draw a heat map of AUROC; it shows itself in a notebook, and `.save(path)` writes it.

        Of one run it has a row per label and one for macro, of several runs a row per run; a column is a study, the own
        test split first.
        """
        from cxrfeat._report import bars

        if several := len(self.runs) > 1:
            what, names = f"Macro AUROC over {len(self.labels)} labels", self.runs
        else:
            there = {label for one in self.transfers for label in one.other.labels}
            names = [*(label for label in self.transfers[0].own.palette if label in there), "macro"]
            what = f"AUROC of {self.runs[0]}; macro over {len(self.labels)} labels"
        values = pd.DataFrame(index=names, columns=[OWN, *self.studies], dtype=float)
        for one in self.transfers:
            values.loc[one.run if several else "macro", [OWN, one.study]] = [x for x, _ in one.macro(self.labels)]
            for row in () if several else one.rows[:-1]:
                values.loc[row["label"], [OWN, one.study]] = row["auroc_own"], row["auroc"]
        images = dict.fromkeys(f"{one.study}: {one.other.caption().split(';')[0]}" for one in self.transfers)
        heads = dict.fromkeys(f"{one.run}: {one.other.provenance['head']}" for one in self.transfers)
        return bars.heat(values, what, ". ".join([*images, *heads]) + ".", self.random)

    def save(self, folder: str | Path | None = None, figures: bool = True) -> list[Path]:
        """Write external.json, external.csv, external.md and the heat map, and return them.

        Parameters
        ----------
        folder : path, optional
            By default `external` in the first run's folder.
        figures : bool
            Draw the heat map, too.
        """
        folder = Path(folder) if folder is not None else (self.folder or Path()) / "external"
        kinds = {"json": "json", "csv": "csv", "md": "markdown"}
        written = [files.write_atomically(folder / f"external.{end}", self.render(kind)) for end, kind in kinds.items()]
        return [*written, *self.plot().save(folder / "heatmap.png")] if figures else written


def external(
    runs: Sequence[Evaluable],
    on: Iterable[Study | str | Path],
    split: str,
    replicates: int,
    seed: int,
    allow_contaminated: bool,
    progress: Progress,
) -> External:
    """Evaluate runs on other studies; `evaluate` documents it."""
    loaded = []
    for run in runs:
        if isinstance(run, Scored):
            raise EvaluationError("only a run can be evaluated `on` another study: it takes a head and a recipe.")
        loaded.append(load_run(run))
    studies = [open_study(one) for one in on]
    transfers = []
    for one in loaded:
        own = with_usual_names(scored_run(one, split, allow_contaminated))
        for study, part in studies:
            remind(study)
            other, left, doubts = scored_on(one, study, part, allow_contaminated, progress)
            for scored, where in ((own, f"{split} of {own.provenance['study']}"), (other, study.name)):
                for label, defined in zip(scored.labels, scored.defined, strict=True):
                    if not defined:
                        left.setdefault(label, f"one class only, or no prediction, in {where}")
            labels = [label for label in own.labels if label not in left]
            if not labels:
                parts = "; ".join(f"{label}: {reason}" for label, reason in left.items())
                raise EvaluationError(f"run {one.name!r} and study {study.name!r} have no label to compare ({parts}).")
            name = f"{one.name} on {study.name}"
            found = compared(
                own.with_labels(labels), other.with_labels(labels), replicates, seed,
                lambda now, total, _="", name=name: progress(now, total, name),
            )  # fmt: skip
            transfers.append(replace(found, left_out=left, problems=doubts))
    return External(transfers, replicates, seed, loaded[0].path)


def _with_span(value: float, ends: Sequence[float]) -> str:
    span = tables.span_text(ends)
    return AUROC.text(value) + (f" ({span})" if span != "-" else "")


def _auroc_row(row: Row) -> Row:
    return {
        "label": row["label"],
        "n": row["n"],
        "n+": row["positives"],
        "own": row["auroc_own"],
        "AUROC": row["auroc"],
        "95 %": tables.span_text(row.get("auroc_interval")),
        "drop": row["auroc_drop"],
        "drop 95 %": tables.span_text(row.get("auroc_drop_bootstrap")),
    }


def _parts(one: Transfer) -> list[Row]:
    """For each metric that people read its macro value, the drop, and the part of prevalence."""
    row = one.rows[-1]
    return [
        {
            "metric": m.heading,
            "own": row[f"{m.name}_own"],
            "there": row[m.name],
            "there, own prevalence": row[f"{m.name}_at_own_prevalence"],
            "drop": row[f"{m.name}_drop"],
            "drop 95 %": tables.span_text(row.get(f"{m.name}_drop_bootstrap")),
            "by prevalence": row[f"{m.name}_drop_prevalence"],
            "95 %": tables.span_text(row.get(f"{m.name}_drop_prevalence_bootstrap"))
            if abs(row[f"{m.name}_drop_prevalence"]) > 1e-9  # else it does not depend on prevalence
            else "",
            "share": share(row, m),
        }
        for m in METRICS
        if m.heading and not np.isnan([row[f"{m.name}_own"], row[m.name]]).all()  # no threshold: nothing to show
    ]


def _calibration_row(row: Row) -> Row:
    found = {
        "label": row["label"],
        "prevalence own": row["prevalence_own"],
        "there": row["prevalence"],
        "mean p": row["mean_probability"],
    }
    for m in (ECE, BRIER):
        found |= {
            f"{m.heading} own": row[f"{m.name}_own"],
            m.heading: row[m.name],
            f"{m.heading} recalibrated": row[f"{m.name}_recalibrated"],
        }
    return found
