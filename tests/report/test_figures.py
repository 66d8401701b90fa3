"""Figures: drawn without text over text, stamped where weights were random, with their data beside them."""

import dataclasses
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cxrfeat._evaluate import evaluate, roc, scored_run
from cxrfeat._evaluate.curves import confusion_rows
from cxrfeat._evaluate.metrics import AUROC
from cxrfeat._report import bars, curves, html, html_charts, style
from cxrfeat._run import Run
from cxrfeat.errors import EvaluationError

KINDS = ("labels", "roc", "precision_recall", "calibration", "thresholds", "confusion", "loss")


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


def overlapping(found):
    boxes = [(text, box.shrunk(0.98, 0.9)) for text, box in found]
    return [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if a != b and box.overlaps(other)]


@pytest.mark.parametrize("name", [*KINDS, "class_frequencies"])
def test_no_text_lies_over_other_text_and_random_weights_are_stamped(caught, run, tmp_path, name):
    draw(name, run, tmp_path / "figure.png")
    found = texts(caught[0])
    assert not overlapping(found) and len(found) > 5
    said = " ".join(text for text, _ in found).replace("\n", " ")
    assert "made-up" in said
    if name != "class_frequencies":  # labels alone know of no weights
        assert style.RANDOM in said and "RANDOM weights (random:3)" in said


def test_curves_fit_a_papers_column(caught, run, tmp_path):
    roc(run, replicates=0).save(tmp_path / "roc.png", layout="one", width=style.COLUMN)
    assert not overlapping(texts(caught[0])) and caught[0].get_tightbbox().width < 1.05 * style.COLUMN


@pytest.mark.parametrize("name", ["roc", "labels"])
def test_real_weights_are_not_stamped(caught, make_run, tmp_path, name):
    draw(name, Run.open(make_run("b")), tmp_path / "figure.png")
    assert style.RANDOM not in " ".join(text for text, _ in texts(caught[0]))


def test_the_data_beside_a_figure_are_the_numbers_drawn(caught, run, tmp_path):
    scored = scored_run(run)
    roc(run, replicates=0).save(tmp_path / "roc.png")
    points = pd.read_csv(tmp_path / "roc.csv")
    for j, label in enumerate(scored.labels[:3]):
        mine = points[points["label"] == label]
        wanted = AUROC(scored.y[:, j], scored.p[:, j])
        assert np.trapezoid(mine["tpr"], mine["fpr"]) == pytest.approx(wanted, abs=1e-5)
    bars.confusion(scored, confusion_rows(scored)).save(tmp_path / "confusion.png")
    counts = pd.read_csv(tmp_path / "confusion.csv").set_index("label")
    assert (counts[["tp", "fp", "fn", "tn"]].sum(axis=1) == len(scored)).all()
    bars.class_frequencies(run.study()).save(tmp_path / "frequencies.png")
    table = pd.read_csv(tmp_path / "frequencies.csv")
    assert table["positives"].sum() == np.nansum(run.study().y)


def test_fourteen_curves_are_told_apart():
    looks = {(s["color"], str(s["linestyle"])) for s in map(style.line_style, range(14))}
    assert len(looks) == 14


def test_an_ending_adds_a_format_and_equal_data_give_equal_files(run, tmp_path):
    written = roc(run, labels=run.labels[:2], replicates=0).save(tmp_path / "one.pdf")
    assert [file.name for file in written] == ["one.pdf", "one.png", "one.svg", "one.csv"]
    again = roc(run, labels=run.labels[:2], replicates=0).save(tmp_path / "two.pdf")
    for a, b in zip(written, again, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.suffix


def test_a_run_without_history_has_no_loss_curve(make_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"history\.csv is missing"):
        curves.loss(Run.open(make_run("b")))


def test_few_curves_share_axes_and_many_have_panels(caught, run, tmp_path):
    roc(run, replicates=0).save(tmp_path / "many.png")
    roc(run, labels=run.labels[:6], replicates=0).save(tmp_path / "few.png")
    roc(run, replicates=50).save(tmp_path / "one.png", layout="one")
    assert [len(figure.axes) for figure in caught] == [13, 13, 1, 1, 1, 1]  # PNG and SVG; one label has no positive
    said = " ".join(text for text, _ in texts(caught[4])).replace("\n", " ")
    assert "macro AUROC" in said and "95 % interval over patients" in said


def test_a_label_has_one_colour_in_every_figure_of_a_run(caught, run, tmp_path):
    """Also where it is drawn alone, and in the HTML report, whose classes c0 to c6 are the same colours."""
    found = roc(run, labels=[run.labels[3]], replicates=0)
    found.save(tmp_path / "alone.png")
    colour = style.COLOURS[3]
    assert colour in {line.get_color() for line in caught[0].axes[0].lines}
    css = (Path(html.__file__).parent / "templates" / "report.css").read_text().lower()
    assert re.findall(r"--c\d: (#\w{6})", css)[:7] == [c.lower() for c in style.COLOURS]
    chart = html_charts.chart(found, "k")
    assert [series.colour for series in chart.series] == [3]


def draw(name, run, path):
    if name == "class_frequencies":
        return bars.class_frequencies(run.study()).save(path)
    return evaluate(run, replicates=20, by=[]).plot(name).save(path)


def test_an_unknown_figure_is_refused_with_the_ones_there_are(run):
    found = evaluate(run, replicates=0, by=[])
    assert tuple(found.figures()) == KINDS
    with pytest.raises(EvaluationError, match="no figure 'pie' of this run; choose one of labels, roc"):
        found.plot("pie")


def test_without_a_threshold_there_is_no_confusion_to_draw(caught, run, tmp_path):
    found = evaluate(dataclasses.replace(scored_run(run), thresholds=np.full(len(run.labels), np.nan)), replicates=0)
    assert tuple(found.figures()) == tuple(kind for kind in KINDS if kind not in ("confusion", "loss"))
    found.save(tmp_path)
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert "roc" in drawn and "confusion" not in drawn
    assert "No label has a stored threshold" in found.curves("thresholds").method
    with pytest.raises(EvaluationError, match="no figure 'confusion' of this run"):
        found.plot("confusion")
