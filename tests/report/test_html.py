"""The HTML report: self-contained, everything escaped, accessible, and small enough to be mailed."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse

import cv2
import numpy as np
import pytest

from cxrfeat import _pages as pages
from cxrfeat import _sample as sample
from cxrfeat._evaluate import evaluate
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._images.decode import read_grey
from cxrfeat._pages import pictures as page_pictures
from cxrfeat._report import html
from cxrfeat._run import Run
from cxrfeat.errors import EvaluationError, HeadError

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&{{7*7}}"


class Page(HTMLParser):
    """Tags with their attributes and the text in between, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def hostile_run(make_run, name="evil", **kwargs) -> Run:
    """A run whose study and one of whose labels are named to break out of the page."""
    path = make_run(name, study={"name": HOSTILE, "sha256": "0"}, **kwargs)
    for file in ("head.json", "study.csv", "predictions.csv"):
        text = (path / file).read_text()
        label = {"head.json": HOSTILE.replace('"', '\\"')}.get(file, '"' + HOSTILE.replace('"', '""') + '"')
        (path / file).write_text(text.replace("Effusion", label))
    return Run.open(path)


@pytest.fixture(scope="module")
def page(run_writer, tmp_path_factory) -> Page:
    folder = tmp_path_factory.mktemp("page")
    run = hostile_run(lambda name, **kwargs: run_writer(folder / name, **kwargs), weights="random:0")
    (run.path / "history.csv").write_text("epoch,loss,val_loss\n1,0.7,0.8\n2,0.5,0.7\n3,0.4,0.75\n")
    other = Run.open(run_writer(folder / "other", strength=1.5))
    first = Run.open(run_writer(folder / "plain"))
    pages.report([first, other], folder / "two.html", replicates=20, images=0)
    pages.report([run], folder / "one.html", replicates=20, images=0)
    return Page((folder / "one.html").read_text() + (folder / "two.html").read_text())


def test_hostile_names_stay_text(page):
    assert not [attributes for attributes in page.all("img") if attributes.get("src") == "x"]
    assert len(page.all("script")) == 4, "two pages, each with its data and its one script"
    text = "".join(page.words)
    assert HOSTILE in text and "49" not in re.findall(r"\{\{7\*7\}\}|>'\"&49", text)
    data = page.words[next(i for i, w in enumerate(page.words) if w.startswith("{"))]
    assert "<" not in data, "the data block cannot close its own element"


def test_nothing_points_outside(page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:")), f"<{tag} {name}={address!r}>"
    policy = page.all("meta")[1]["content"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "unsafe-eval" not in policy
    style = (html.TEMPLATES / "report.css").read_text()
    assert not re.findall(r"url\(|@import", style) and not urlparse(style).netloc


def test_headings_go_down_one_level_at_a_time_and_controls_have_names(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 2, "one first heading on each of the two pages"
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"
    assert all("aria-label" in attributes for attributes in page.all("svg") if attributes.get("role"))


def test_ids_are_unique_and_links_lead_somewhere(make_run, tmp_path):
    runs = [Run.open(make_run(name, seed=0)) for name in ("a", "b")]
    pages.report(runs, tmp_path / "r.html", replicates=0, images=0)
    page = Page((tmp_path / "r.html").read_text())
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert max(Counter(ids).values()) == 1
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)


def test_warnings_come_first_and_random_weights_before_them(make_run, tmp_path):
    run = Run.open(make_run("a", weights="random:0", unfitted=["Hernia"], converged=False))
    report = pages.report([run], tmp_path / "r.html", replicates=0, images=0)
    text = (tmp_path / "r.html").read_text()
    order = ["RANDOM WEIGHTS: NOT A RESULT", "Macro AUROC", "Not a medical device", "did not converge"]
    order += ["leakage check: passed", "Metrics per label", "ROC curves", "What was done"]
    assert sorted(order, key=text.index) == order
    assert report.random and any("not learnt" in warning for warning in report.warnings)
    sound = pages.report([Run.open(make_run("b"))], tmp_path / "s.html", replicates=0, images=0)
    assert not sound.random and "RANDOM" not in (tmp_path / "s.html").read_text()


def test_the_page_is_whole_without_its_script(make_run, tmp_path):
    """Curves are drawn as paths: what the script adds is reading and switching, never the content."""
    pages.report([Run.open(make_run("a"))], tmp_path / "r.html", replicates=0, images=0)
    page = Page((tmp_path / "r.html").read_text())
    drawn = [a["d"] for a in page.all("path") if a["d"].startswith("M") and a["d"] != "M0 4H26"]
    used = {a["href"][1:] for a in page.all("use")}
    assert len(used) == 13 + 13 and used <= {a.get("id") for a in page.all("path")}, "a panel for each ROC and PR curve"
    assert len(drawn) == 13 + 13 + 14, "ROC and PR of the 13 labels with positives, calibration of all 14"
    assert all("nan" not in d.lower() for d in drawn)


def test_a_roc_curve_is_that_of_the_run(make_run):
    run = Run.open(make_run("a"))
    found = pages.section("k", run, evaluate(run, replicates=0))
    chart = found.charts[0]
    rows = np.array([row[:2] for row in chart.series[3].rows])
    area = np.trapezoid(rows[:, 1], rows[:, 0])
    assert area == pytest.approx(found.evaluation.rows[3]["auroc"], abs=2e-3)
    assert chart.x(0) < chart.x(1) and chart.y(1) < chart.y(0), "the SVG's y grows downwards"


def explanation(k: int = 0, enlarge: float = 1.0) -> Explanation:
    path = sample.study().paths()[k]
    grey = cv2.resize(read_grey(path), None, fx=enlarge, fy=enlarge)
    maps = np.random.default_rng(k).normal(size=(3, 7, 7)).astype(np.float32)
    maps[2] = -1  # without evidence
    grid = Grid("densenet121", maps, np.array([[146.0, 0, 66], [0, 146.0, 66]]))
    p = np.array([0.9, 0.5, 0.2])
    boxes = (("Mass", 100.0, 200.0, 300.0, 150.0),)
    return Explanation(
        path.name, ("Mass", "Nodule", "Hernia"), p, p, "cam", (grid,), grey.shape, grey=grey, boxes=boxes
    )


def test_a_picture_is_a_film_with_its_maps_apart():
    found = page_pictures.picture(explanation())
    assert found.uri.startswith("data:image/jpeg;base64,") and (found.height, found.width) == explanation().image_shape
    assert [layer.label for layer in found.layers] == ["Mass", "Nodule", "Hernia"]
    assert found.layers[0].uri.startswith("data:image/webp;base64,")
    assert found.layers[2].uri is None and "no positive evidence" in found.layers[2].about
    assert found.boxes == [("Mass", 100.0, 200.0, 300.0, 150.0)]
    large = page_pictures.picture(explanation(enlarge=2.56))
    assert (large.height, large.width) == (512, 512), "1024 pixels are more than a gallery shows"
    np.testing.assert_allclose(large.boxes[0][1:], [50, 100, 150, 75])


def test_thirty_pictures_stay_under_six_megabytes(make_run, tmp_path):
    run = Run.open(make_run("a"))
    pictures = page_pictures.Pictures([page_pictures.picture(explanation(k, enlarge=2.56)) for k in range(30)], "cam")
    text = pages.page([pages.section("run-1", run, evaluate(run, replicates=0), pictures)])
    assert 500_000 < len(text.encode()) < 6_000_000


def test_a_gallery_that_cannot_be_made_is_told_and_stops_nothing(make_run, tmp_path):
    run = Run.open(make_run("a"))  # its images and head do not exist
    report = pages.report([run], tmp_path / "r.html", replicates=0, images=4)
    assert report.pictures == 0 and any("gallery is not complete" in warning for warning in report.warnings)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme):
    """WCAG 2.1: 4.5 for text, 3 for graphics; the formula is that of its definition of relative luminance."""
    style = (html.TEMPLATES / "report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", light if scheme == "light" else dark))

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(colours[a]), luminance(colours[b])))
        return (high + 0.05) / (low + 0.05)

    texts = [("ink", "paper"), ("soft", "paper"), ("link", "paper"), ("good", "warn"), ("link", "warn")]
    for text in [*texts, ("ink", "warn"), ("ink", "panel"), ("alarm-ink", "alarm")]:
        assert contrast(*text) >= 4.5, text
    for k in range(7):
        assert contrast(f"c{k}", "paper") >= 3, k


def test_a_run_that_is_no_run_or_none_at_all_is_refused(tmp_path, make_run):
    run = Run.open(make_run("a"))
    with pytest.raises((EvaluationError, HeadError), match=r"fitted on|no predictions"):
        pages.report([run], tmp_path / "r.html", split="train", images=0)
    assert not Path(tmp_path / "r.html").exists()
