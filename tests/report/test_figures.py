"""Figures: drawn without text over text, stamped where weights were random, with their data beside them."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cxrfeat._evaluate import evaluate_run, metrics, scored_run
from cxrfeat._report import figures, style
from cxrfeat._run import Run

ONE_RUN = ("roc", "precision_recall", "reliability", "sweep", "confusions")


@pytest.fixture
def caught(monkeypatch):
    """Figures as they are when they are saved."""
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda self, part, **_: (found.append(self), part.write_bytes(b"x")))
    return found


@pytest.fixture
def run(make_run):
    run = make_run("a", weights="random:3")
    (run / "history.csv").write_text("epoch,loss,val_loss\n1,0.9,0.95\n2,0.6,0.7\n")
    return Run.open(run)


def texts(figure):
    """Texts that are drawn, with their boxes; ticks beyond the axes have texts, too, but are not drawn."""
    figure.canvas.draw()
    renderer, frame = figure.canvas.get_renderer(), figure.get_tightbbox()
    inside = Bbox(frame.get_points() * figure.dpi).padded(2)
    found = [(t.get_text(), t.get_window_extent(renderer)) for t in figure.findobj(Text) if t.get_visible()]
    return [
        (text, box) for text, box in found if text.strip() and inside.containsx(box.x0) and inside.containsx(box.x1)
    ]


def overlapping(figure):
    boxes = [(text, box.shrunk(0.98, 0.9)) for text, box in texts(figure)]
    return [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if a != b and box.overlaps(other)]


@pytest.mark.parametrize("name", [*ONE_RUN, "labels", "losses", "class_frequencies"])
def test_no_text_lies_over_other_text_and_random_weights_are_stamped(caught, run, tmp_path, name):
    draw(name, run, tmp_path / "figure.png")
    assert not overlapping(caught[0]) and len(texts(caught[0])) > 5
    said = " ".join(text for text, _ in texts(caught[0])).replace("\n", " ")
    assert "made-up" in said
    if name != "class_frequencies":  # labels alone know of no weights
        assert style.RANDOM in said and "RANDOM weights (random:3)" in said


def test_curves_fit_a_papers_column(caught, run, tmp_path):
    figures.roc(scored_run(run), tmp_path / "roc.png", width=style.COLUMN)
    assert not overlapping(caught[0]) and caught[0].get_tightbbox().width < 1.05 * style.COLUMN


@pytest.mark.parametrize("name", ["roc", "labels"])
def test_real_weights_are_not_stamped(caught, make_run, tmp_path, name):
    draw(name, Run.open(make_run("b")), tmp_path / "figure.png")
    assert style.RANDOM not in " ".join(text for text, _ in texts(caught[0]))


def test_the_data_beside_a_figure_are_the_numbers_drawn(caught, run, tmp_path):
    scored = scored_run(run)
    figures.roc(scored, tmp_path / "roc.png")
    points = pd.read_csv(tmp_path / "roc.csv")
    for j, label in enumerate(scored.labels[:3]):
        mine = points[points["label"] == label]
        wanted = metrics.auroc(scored.y[:, j], scored.p[:, j])
        assert np.trapezoid(mine["tpr"], mine["fpr"]) == pytest.approx(wanted, abs=1e-5)
    figures.confusions(scored, tmp_path / "confusion.png")
    counts = pd.read_csv(tmp_path / "confusion.csv").set_index("label")
    assert (counts[["tp", "fp", "fn", "tn"]].sum(axis=1) == len(scored)).all()
    figures.class_frequencies(run.study(), tmp_path / "frequencies.png")
    table = pd.read_csv(tmp_path / "frequencies.csv")
    assert table["positives"].sum() == np.nansum(run.study().y)


def test_fourteen_curves_are_told_apart():
    looks = {(s["color"], str(s["linestyle"])) for s in map(style.line_style, range(14))}
    assert len(looks) == 14


def test_an_ending_adds_a_format_and_equal_data_give_equal_files(run, tmp_path):
    scored = scored_run(run).with_labels(run.labels[:2])
    written = figures.roc(scored, tmp_path / "one.pdf")
    assert [file.name for file in written] == ["one.pdf", "one.png", "one.svg", "one.csv"]
    again = figures.roc(scored, tmp_path / "two.pdf")
    for a, b in zip(written, again, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.suffix


def test_a_run_without_history_has_no_loss_curve(make_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"history\.csv is missing"):
        figures.losses(Run.open(make_run("b")), tmp_path / "loss.png")


def draw(name, run, path):
    if name == "class_frequencies":
        return figures.class_frequencies(run.study(), path)
    if name == "labels":
        return figures.labels(evaluate_run(run, replicates=20, by=[]), path)
    return getattr(figures, name)(run if name == "losses" else scored_run(run), path)
