"""The HTML report: runs on one page that opens from disk, asks no network for anything, warnings first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrfeat import _files as files
from cxrfeat._evaluate import Evaluation, evaluate_run
from cxrfeat._evaluate.bootstrap import REPLICATES
from cxrfeat._evaluate.comparison import Comparison, compare
from cxrfeat._pages import card
from cxrfeat._pages.pictures import Pictures, explain
from cxrfeat._progress import Progress, silent
from cxrfeat._report import forest, html_charts, html_tables, tables
from cxrfeat._report.html import render
from cxrfeat._report.html_charts import Chart
from cxrfeat._report.html_tables import Table
from cxrfeat._run import Run
from cxrfeat._summary import Summary, summarise
from cxrfeat.errors import EvaluationError

IMAGES = 12


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes
    ----------
    path : pathlib.Path
        The page.
    size : int
        Its size in bytes.
    cards : list of pathlib.Path
        The model cards, one beside each run.
    warnings : list of str
        As they stand at the top of the page.
    pictures : int
        Images in its galleries.
    random : bool
        Whether a backbone had random weights, so that no number is a result.
    """

    path: Path
    size: int
    cards: list[Path]
    warnings: list[str]
    pictures: int
    random: bool


@dataclass(frozen=True)
class Section:
    """Everything the page says of one run."""

    key: str
    run: Run
    evaluation: Evaluation
    pictures: Pictures
    warnings: list[str]
    made_by: list[tuple[str, str]]
    metrics: Table
    groups: Table | None
    charts: list[Chart] = field(default_factory=list)
    training: Chart | None = None


@dataclass(frozen=True)
class StudySection:
    """A study that one or several of the runs were trained on."""

    summary: Summary
    sha256: str
    runs: str
    balance: Table


def report(
    runs: Sequence[Run],
    path: str | Path,
    *,
    split: str = "test",
    by: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    images: int = IMAGES,
    anyway: bool = False,
    intersection: bool = False,
    cards: bool = True,
    weights: Sequence[str] = (),
    engine: str = "auto",
    progress: Progress = silent,
) -> Report:
    """Evaluate runs on one split and write the page, and a model card into each run's folder.

    Parameters
    ----------
    runs : sequence of Run
        With several, the others are compared with the first.
    path : path
        The page.
    split, by, replicates, seed, anyway
        See `evaluate.evaluate_run`.
    images : int
        Pictures in the gallery of each run; 0 opens no network.
    intersection : bool
        See `evaluate.comparison.compare`.
    cards : bool
        Whether the model cards are written.
    weights, engine
        See `explain.explainer.Explainer`.
    progress : Progress
        Told of bootstrap replicates and of images.

    Raises
    ------
    EvaluationError
        If no run is named, one cannot be evaluated, or they cannot be compared.
    StudyError, LeakageError, HeadError, NotFoundError
        If a run's files are not there, damaged, or leak.
    """
    if not runs:
        raise EvaluationError("name at least one run to report on.")
    sections = []
    for k, run in enumerate(runs, start=1):
        found = evaluate_run(run, split, by, replicates, seed, anyway, _named(progress, f"{run.name}: bootstrap"))
        pictures = explain(run, images, split, weights, engine, _named(progress, f"{run.name}: maps"))
        sections.append(section(f"run-{k}", run, found, pictures))
    compared = None
    if len(runs) > 1:
        scored = [s.evaluation.scored for s in sections]
        compared = compare(scored, intersection, replicates or 1000, seed, _named(progress, "comparison"))
    text = page(sections, compared)
    written = files.write_atomically(path, text)
    beside = [card.write(s.run, s.evaluation) for s in sections] if cards else []
    told = [f"{s.run.name}: {w}" if len(sections) > 1 else w for s in sections for w in s.warnings]
    shown = sum(len(s.pictures.shown) for s in sections)
    return Report(Path(path), written.stat().st_size, beside, told, shown, any(s.run.random for s in sections))


def section(key: str, run: Run, evaluation: Evaluation, pictures: Pictures | None = None) -> Section:
    """Gather what the page says of one run; `key` is its anchor."""
    pictures = pictures or Pictures()
    scored = evaluation.scored
    charts = [
        html_charts.roc(scored, f"{key}-roc"),
        html_charts.precision_recall(scored, f"{key}-pr"),
        html_charts.reliability(scored, f"{key}-calibration"),
    ]
    group_rows = tables.group_rows(evaluation)
    return Section(
        key,
        run,
        evaluation,
        pictures,
        _warnings(run, evaluation, pictures),
        html_tables.made_by(run, evaluation),
        html_tables.table("Metrics per label", tables.rows_to_read(evaluation), scored.caption()),
        html_tables.table("Groups", group_rows, scored.caption()) if group_rows else None,
        charts,
        html_charts.training(run, f"{key}-training"),
    )


def page(sections: Sequence[Section], compared: Comparison | None = None) -> str:
    """Return the report as one HTML text."""
    charts = [chart for s in sections for chart in (*s.charts, s.training) if chart is not None]
    comparison = None
    if compared is not None:
        title = f"AUROC against {compared.baseline.name}"
        comparison = html_tables.table(title, forest.rows_to_read(compared), compared.caption())
    return render(
        "report.html.j2",
        title=f"Report on {', '.join(s.run.name for s in sections)}",
        random=any(s.run.random for s in sections),
        sections=sections,
        warnings=_grouped(sections),
        studies=_studies(sections),
        compared=compared,
        comparison=comparison,
        accuracy_line=tables.accuracy_line,
        data=html_charts.as_json(charts),
    )


def _warnings(run: Run, evaluation: Evaluation, pictures: Pictures) -> list[str]:
    """What must be read before the numbers: of the run, of the scores, of the pictures."""
    told = []
    if run.unfitted:
        told.append(f"not learnt, since train holds one class only: {', '.join(run.unfitted)}.")
    if not run.converged:
        told.append("the fit did not converge: its numbers may be better with more steps.")
    told += [warning.message for warning in evaluation.warnings]
    if pictures.problems:
        more = f" ({len(pictures.problems)} in all)" if len(pictures.problems) > 1 else ""
        told.append(f"the gallery is not complete{more}: {pictures.problems[0]}")
    return told


def _grouped(sections: Sequence[Section]) -> dict[str, list[Section]]:
    """Every warning once, with the runs it concerns."""
    found: dict[str, list[Section]] = {}
    for s in sections:
        for message in s.warnings:
            found.setdefault(message, []).append(s)
    return found


def _studies(sections: Sequence[Section]) -> list[StudySection]:
    """The studies, each once, with the runs that stand on it."""
    by_hash: dict[str, list[Section]] = {}
    for s in sections:
        by_hash.setdefault(s.run.study().sha256, []).append(s)
    found = []
    for sha256, mine in by_hash.items():
        summary = summarise(mine[0].run.study())
        counts = ", ".join(f"{k} {summary.images[k]:,} of {summary.patients[k]:,} patients" for k in summary.splits)
        balance = html_tables.table("Class balance", summary.rows(), f"positive images; {counts}")
        found.append(StudySection(summary, sha256, ", ".join(s.run.name for s in mine), balance))
    return found


def _named(progress: Progress, name: str) -> Progress:
    return lambda done, total, note="": progress(done, total, f"{name} {note}".strip())
