"""The HTML report: runs on one page that opens from disk and loads nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrfeat import _files as files
from cxrfeat._evaluate import Comparison, Evaluation, compare, evaluate
from cxrfeat._evaluate.bootstrap import REPLICATES
from cxrfeat._pages import card
from cxrfeat._pages.pictures import Pictures, explain
from cxrfeat._progress import Progress, silent
from cxrfeat._report import html, html_charts
from cxrfeat._report.html import Table
from cxrfeat._report.html_charts import Chart
from cxrfeat._run import Run, load_run
from cxrfeat._summary import Summary, summarise

IMAGES = 12


@dataclass(frozen=True)
class Report:
    """What was written: the page, its size in bytes, the model cards, the warnings at its top, the number of pictures.

    `random` says whether a backbone had random weights, so that no number is a result.
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


def report(
    runs: Run | str | Path | Sequence[Run | str | Path] = (),
    out: str | Path = "report.html",
    *,
    split: str = "test",
    by: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    images: int = IMAGES,
    allow_contaminated: bool = False,
    intersection: bool = False,
    cards: bool = True,
    weights: Sequence[str] = (),
    engine: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Report:
    """Write a self-contained HTML report on one or several runs, and a model card into each run's folder.

    Parameters
    ----------
    runs : Run, path or name, or a sequence of them
        By default the newest run. With several, the others are compared with the first.
    out : path
        The page.
    split, by, replicates, seed, allow_contaminated
        See `evaluate`.
    images : int
        Pictures with maps, for each run; 0 opens no network.
    intersection : bool
        See `compare`.
    cards : bool
        Whether the model cards are written.
    weights, engine
        See `explain`.
    overwrite : bool
        Replace a file of another kind in `out`; an earlier page is replaced without.
    progress : Progress
        Called after each block of bootstrap replicates and each image.

    Returns
    -------
    Report
        With the `path` of the page.

    Raises
    ------
    EvaluationError
        If a run cannot be evaluated, or they cannot be compared.
    StudyError, LeakageError, HeadError, NotFoundError
        If a run's files are missing, damaged, or leak.
    OutputError
        If `out` is a file of another kind, without `overwrite`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> made = cxr.report(images=0, replicates=200)  # on the newest run, without maps
    >>> made.path.name, made.cards[0].name
    ('report.html', 'README.md')
    """
    files.check_output(out, begins=(b"<!DOCTYPE html", b"\n<!DOCTYPE html"), overwrite=overwrite)
    several = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    all_runs = [load_run(run) for run in several] or [load_run(None)]
    sections = []
    for k, run in enumerate(all_runs, start=1):
        found = evaluate(
            run, split, by=by, replicates=replicates, seed=seed, allow_contaminated=allow_contaminated,
            progress=_named(progress, f"{run.name}: bootstrap"),
        )  # fmt: skip
        pictures = explain(run, images, split, weights, engine, _named(progress, f"{run.name}: maps"))
        sections.append(section(f"run-{k}", run, found, pictures))
    compared = None
    if len(sections) > 1:
        scored = [s.evaluation.scored for s in sections]
        compared = compare(
            *scored, intersection=intersection, replicates=replicates or 1000, seed=seed,
            progress=_named(progress, "comparison"),
        )  # fmt: skip
    written = files.write_atomically(out, page(sections, compared))
    beside = [card.write(s.run, s.evaluation) for s in sections] if cards else []
    problems = [f"{s.run.name}: {w}" if len(sections) > 1 else w for s in sections for w in s.warnings]
    shown = sum(len(s.pictures.shown) for s in sections)
    return Report(Path(out), written.stat().st_size, beside, problems, shown, any(s.run.random for s in sections))


def section(key: str, run: Run, evaluation: Evaluation, pictures: Pictures | None = None) -> Section:
    """Gather what the page says of one run; `key` is its anchor."""
    pictures = pictures or Pictures()
    caption, groups = evaluation.scored.caption(), evaluation.group_rows()
    kinds = ("roc", "precision_recall", "calibration")
    return Section(
        key,
        run,
        evaluation,
        pictures,
        _warnings(run, evaluation, pictures),
        card.made_by(run, evaluation),
        html.table("Metrics per label", evaluation.rows_to_read(), caption),
        html.table("Groups", groups, caption) if groups else None,
        [html_charts.chart(evaluation.curves(kind), f"{key}-{kind.replace('_', '-')}") for kind in kinds],
        html_charts.training(run, f"{key}-training"),
    )


def page(sections: Sequence[Section], compared: Comparison | None = None) -> str:
    """Return the report as one HTML text."""
    charts = [chart for s in sections for chart in (*s.charts, s.training) if chart is not None]
    comparison = None
    if compared is not None:
        title = f"AUROC against {compared.baseline.name}"
        (rows,) = compared.tables().values()
        comparison = html.table(title, rows, compared.caption())
    return html.render(
        "report.html.j2",
        title=f"Report on {', '.join(s.run.name for s in sections)}",
        random=any(s.run.random for s in sections),
        sections=sections,
        warnings=_grouped(sections),
        studies=_studies(sections),
        compared=compared,
        comparison=comparison,
        data=html_charts.as_json(charts),
    )


def _warnings(run: Run, evaluation: Evaluation, pictures: Pictures) -> list[str]:
    """What must be read before the numbers: of the run, of the scores, of the pictures."""
    found = []
    if run.unfitted:
        found.append(f"not learnt, since train holds one class only: {', '.join(run.unfitted)}.")
    if not run.converged:
        found.append("the fit did not converge: its numbers may be better with more steps.")
    found += [warning.message for warning in evaluation.warnings]
    if pictures.problems:
        more = f" ({len(pictures.problems)} in all)" if len(pictures.problems) > 1 else ""
        found.append(f"the gallery is not complete{more}: {pictures.problems[0]}")
    return found


def _grouped(sections: Sequence[Section]) -> dict[str, list[Section]]:
    """Every warning once, with the runs it concerns."""
    found: dict[str, list[Section]] = {}
    for s in sections:
        for message in s.warnings:
            found.setdefault(message, []).append(s)
    return found


def _studies(sections: Sequence[Section]) -> list[tuple[Summary, str, str, Table]]:
    """The studies that runs were trained on, each once: summary, hash, names of the runs, class balance."""
    by_hash: dict[str, list[Section]] = {}
    for s in sections:
        by_hash.setdefault(s.run.study().sha256, []).append(s)
    found = []
    for sha256, mine in by_hash.items():
        summary = summarise(mine[0].run.study())
        counts = ", ".join(f"{k} {summary.images[k]:,} of {summary.patients[k]:,} patients" for k in summary.splits)
        balance = html.table("Class balance", summary.rows(), f"positive images; {counts}")
        found.append((summary, sha256, ", ".join(s.run.name for s in mine), balance))
    return found


def _named(progress: Progress, name: str) -> Progress:
    return lambda done, total, note="": progress(done, total, f"{name} {note}".strip())
