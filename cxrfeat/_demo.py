"""The whole job on the embedded sample, from the table of images to a panel of maps.

Everything is written into one folder, laid out as a project of the user's own (`studies/`, `cache/`, `runs/`), so that
every other command can be tried there afterwards. What is done already is not done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrfeat import _html
from cxrfeat import _sample as sample
from cxrfeat._progress import Progress, silent
from cxrfeat._run import Run
from cxrfeat._summary import summarise

_log = logging.getLogger(__name__)

BACKBONE, PASSES = "densenet121", 2
REPLICATES = 500
PANELS = 3


@dataclass(repr=False)
class Demo:
    """What the demo made.

    Attributes
    ----------
    folder : pathlib.Path
        Where everything is.
    random : bool
        Whether the backbone had random weights, so that no number is a result.
    macro_auroc : float
        Over the labels for which it is defined, on the test split.
    accuracy, all_negative : float
        Correct labels over images times labels at 0.5, and the same for the always-negative baseline.
    rows : list of dict
        One row per label: positives, AUROC, its interval; the macro average last.
    made : dict of str to pathlib.Path
        The files written, by what they are.
    """

    folder: Path
    random: bool = False
    macro_auroc: float = float("nan")
    accuracy: float = float("nan")
    all_negative: float = float("nan")
    rows: list[dict[str, Any]] = field(default_factory=list)
    made: dict[str, Path] = field(default_factory=dict)

    def __repr__(self) -> str:
        warning = ", RANDOM weights: not a result" if self.random else ""
        return f"<Demo in {self.folder}: macro AUROC {self.macro_auroc:.3f}{warning}>"

    def _repr_html_(self) -> str:
        return _html.page(repr(self)[1:-1], self.made, self.rows)


def demo(
    out: str | Path = "cxrfeat-demo",
    *,
    weights: str = "auto",
    passes: int = PASSES,
    engine: str = "auto",
    progress: Callable[[str], AbstractContextManager[Progress]] = lambda title: nullcontext(silent),
) -> Demo:
    """Run both stages on the embedded sample: study, embeddings, head, evaluation, maps.

    Parameters
    ----------
    out : path
        The folder to write into; what an earlier, even an interrupted demo left there is used.
    weights, passes, engine
        As for `extract`. With `auto`, random weights are used where ImageNet's are not available.
    progress : callable
        Given a title, returns a context manager for the progress of a long step.

    Returns
    -------
    Demo

    Raises
    ------
    CxrfeatError
        As the steps do.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> done = cxr.demo(".", weights="random:0", passes=0)
    >>> done.random, sorted(done.made)[0]
    (True, 'Grad-CAM of ...')
    """
    done = Demo(Path(out))
    _table(done)
    embeddings = _embeddings(done, weights, passes, engine, progress)
    run = _head(done, embeddings, progress)
    _evaluation(done, run, progress)
    _maps(done, run, engine, progress)
    return done


def _table(demo: Demo) -> None:
    study = sample.study()
    summary = summarise(study)
    _log.info(f"1/5 study: {summary.images['all']} images of {summary.patients['all']} patients; {summary.leakage()}.")
    from cxrfeat._report import bars

    demo.made["study"] = study.save(demo.folder / "studies" / f"{sample.NAME}.csv")
    demo.made["class frequencies"] = demo.folder / "class-frequencies.png"
    bars.class_frequencies(study).save(demo.made["class frequencies"])


def _embeddings(demo: Demo, weights: str, passes: int, engine: str, progress: Callable[..., Any]) -> Path:
    from cxrfeat._extract import extract

    _log.info(f"2/5 embeddings: {BACKBONE}, pass 0 and {passes} augmented passes.")
    with progress("extract") as bar:
        done = extract(
            sample.study(), cache=demo.folder / "cache", backbone=BACKBONE, weights=weights, passes=passes,
            engine=engine, progress=bar,
        )  # fmt: skip
    _log.info(f"    {done.describe()}")
    demo.random = done.recipe.random
    demo.made["embeddings"] = done.path
    return done.path


def _head(demo: Demo, embeddings: Path, progress: Callable[..., Any]) -> Run:
    from cxrfeat._heads import fit_head

    _log.info("3/5 head: logistic, with the class weights of the reference paper.")
    out = demo.folder / "runs" / f"{sample.NAME}-{BACKBONE}-logistic-weighted"
    demo.made["run"] = out
    if (run := Run.earlier(out, embeddings, sample.study())) is not None:
        _log.info("    the head is fitted already.")
        return run
    with progress("fit head") as bar:
        return fit_head(
            sample.study(), embeddings, "logistic", weighting="paper", out=out, overwrite=True, progress=bar
        )


def _evaluation(demo: Demo, run: Run, progress: Callable[..., Any]) -> None:
    from cxrfeat._evaluate import evaluate

    _log.info("4/5 evaluation on the test split.")
    with progress("bootstrap") as bar:
        found = evaluate(run, replicates=REPLICATES, progress=bar)
    found.save(figures=False)
    curves = found.curves("roc")
    curves.save(run.path / "figures" / "roc.png")
    demo.rows = curves.rows
    demo.macro_auroc = float(found.macro["auroc"])
    demo.accuracy = found.accuracy["at_half"]
    demo.all_negative = found.accuracy["all_negative_baseline"]
    demo.made["ROC curves"] = run.path / "figures" / "roc.png"
    demo.made["metrics"] = run.path / "metrics.csv"


def _maps(demo: Demo, run: Run, engine: str, progress: Callable[..., Any]) -> None:
    from cxrfeat._explain.maps import explain

    _log.info(f"5/5 Grad-CAM: the {PANELS} clearest true positives, the 4 most probable findings of each.")
    with progress("explain") as bar:
        done = explain(run, limit=PANELS, engine=engine, out=True, progress=bar)
    for row in done.rows:
        demo.made[f"Grad-CAM of {row['image_id']}"] = Path(row["figure"])
