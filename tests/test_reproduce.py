"""The paper's experiment on thirty films: what it leaves, whose numbers they are, and that nothing is repeated."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from cxrfeat._report import style
from cxrfeat._reproduce.account import hanley_mcneil
from cxrfeat._reproduce.experiment import reproduce_paper
from cxrfeat._run import Run
from cxrfeat._store import EmbeddingFile
from cxrfeat._summary import summarise
from cxrfeat.errors import CxrfeatError, StudyError, WeightsError

OPTIONS = {"weights": "random:0", "size": 32, "passes": 1, "epochs": 3, "replicates": 50}
WAYS = ("paper", "sigmoid", "literal", "right")
ARMS = ("densenet121", "densenet121-augmented", "resnet50-augmented")


@pytest.fixture(scope="module")
def small_figures() -> Iterator[None]:
    """Draw only the PNGs, which the page shows, and of fewer pixels: they take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "FORMATS", ("png",))
        patch.setattr(Figure, "savefig", partialmethod(Figure.savefig, dpi=70))
        yield


@pytest.fixture(scope="module")
def done(films, graphs, small_networks, small_figures, tmp_path_factory) -> SimpleNamespace:
    """The reproduction, and the page as it was before any test touched the folder."""
    folder = tmp_path_factory.mktemp("paper") / "out"
    result = reproduce_paper(films, folder, **OPTIONS)
    return SimpleNamespace(result=result, folder=folder, study=films, page=result.page.read_text())


def run_of(done, way: str, arm: str) -> Run:
    return Run.open(done.folder / "runs" / f"{way}-{arm}")


def test_four_embedding_files_serve_twelve_heads(done):
    """Arms and ways that differ in the head alone share their file: the network sees no image twice."""
    assert done.result.embedded == 4 * 30 and done.result.fitted == 12
    recipes = []
    for path in (done.folder / "cache").glob("*.h5"):
        with EmbeddingFile.open(path) as file:
            recipe = file.recipe
            recipes.append((recipe.backbone, recipe.preprocessing, recipe.interpolation, recipe.augmentation["flip"]))
    assert sorted(recipes) == [
        ("densenet121", "torch", "area", 0.0), ("densenet121", "unit", "nearest", 0.5),
        ("resnet50", "caffe", "area", 0.0), ("resnet50", "unit", "nearest", 0.5),
    ]  # fmt: skip


def test_the_ways_and_arms_are_what_they_are_called(done):
    expected = {
        "paper": ("softmax", "accuracy", "paper", "none"), "sigmoid": ("sigmoid", "accuracy", "paper", "none"),
        "literal": ("softmax", "accuracy", "paper-literal", "none"), "right": ("sigmoid", None, "paper", "platt"),
    }  # fmt: skip
    for way in WAYS:
        for arm in ARMS:
            options = run_of(done, way, arm).options
            settings = options.settings["activation"], options.settings.get("monitor")
            assert (*settings, options.weighting, options.calibration) == expected[way]
            assert options.passes == ("all" if arm.endswith("augmented") else "0")
    softmax = run_of(done, "paper", ARMS[0]).predictions().to_numpy()
    np.testing.assert_allclose(softmax.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("table", "split", "paper"), [("training", "train", 0.89), ("test", "test", 0.82)])
def test_the_accuracies_are_those_of_the_predictions(done, table, split, paper):
    rows = pd.read_csv(done.folder / "tables" / f"accuracy-{table}.csv")
    truth = done.study.split(split)
    expected = []
    for way in WAYS:
        for arm in ARMS:
            p = run_of(done, way, arm).predictions(split).loc[truth.ids].to_numpy()
            expected.append(((p >= 0.5) == truth.y).mean())
    np.testing.assert_allclose(rows["accuracy"], expected)
    np.testing.assert_allclose(rows["always negative"], (truth.y == 0).mean())
    assert rows["paper"][0] == paper and rows["n"].eq(len(truth)).all()
    p = run_of(done, "paper", ARMS[0]).predictions(split).loc[truth.ids].to_numpy()
    np.testing.assert_allclose(rows["largest output right"][0], (p.argmax(axis=1) == truth.y.argmax(axis=1)).mean())


def test_every_auroc_the_paper_speaks_of_is_compared(done):
    """Of its labels the study has two; the counts at or above a half are those of the study."""
    rows = pd.read_csv(done.folder / "tables" / "auroc-paper.csv", keep_default_na=False)
    assert list(rows["label"]) == [*["labels at 0.5 or above"], "Nodule", *["labels at 0.5 or above"] * 2]
    assert list(rows["paper"]) == ["9 of 14", "slightly above 0.5", "14 of 14", "11 of 14"]
    truth = done.study.split("test")
    p = run_of(done, "right", ARMS[1]).predictions("test").loc[truth.ids, "Nodule"]
    auroc = roc_auc_score(truth.table["Nodule"], p)
    assert rows["The right way"][1].startswith(f"{auroc:.3f} (")


def test_sampling_errors_are_those_of_simulation():
    """Hanley and McNeil's standard error, against the spread of AUROCs of samples drawn as they assume."""
    rng = np.random.default_rng(0)
    positives, images, mean = 30, 400, 0.775 / 0.225  # exponential scores of this mean have an AUROC of 0.775
    y = np.arange(images) < positives
    drawn = [roc_auc_score(y, rng.exponential(np.where(y, mean, 1))) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(0.775, abs=0.01)
    assert hanley_mcneil(0.775, positives, images) == pytest.approx(np.std(drawn), rel=0.1)


def test_the_deviations_from_the_paper_are_on_the_page(done):
    rows = pd.read_csv(done.folder / "tables" / "deviations.csv", keep_default_na=False)
    assert list(rows.columns[:5]) == ["of", "the paper says", "its figures imply", "here", "why"]
    for what in ("class weights", "output", "early stopping", "accuracy", "maps", "resizing"):
        assert (rows["of"] == what).any() and f">{what}<" in done.page


def test_every_picture_and_table_of_the_page_is_there(done):
    names = re.findall(r'src="(figures/[^"]+)"', done.page)
    assert len(names) >= 1 + 2 + 12 + 12 + 7 + 8, "frequencies, figures 1 and 2, losses, ROC, tests, maps"
    assert all((done.folder / name).stat().st_size > 3000 for name in names)
    for number in ("Figure 1:", "Figure 2:", "Figure 3:", "Figure 4:", "Figure 5:", "Figure 6:", "Figures 7 and 8:"):
        assert number in done.page
    for name in done.result.tables:
        assert pd.read_csv(done.folder / "tables" / f"{name}.csv")["random_weights"].all()
    assert "http" not in re.sub(r"http-equiv", "", done.page), "the page asks for nothing outside its folder"


def test_headings_go_down_one_level_at_a_time(done):
    levels = [int(level) for level in re.findall(r"<h([1-6])>", done.page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))


def test_each_arm_is_captioned_with_the_passes_it_was_trained_on(done):
    """The arms share embedding files, so that a caption taken from the file's recipe alone would be wrong."""
    assert "augmented" not in run_of(done, "right", "densenet121").describe()
    assert "pass 0 + 1 augmented" in run_of(done, "right", "densenet121-augmented").describe()


def test_random_weights_leakage_and_the_way_to_read_it_are_said(done):
    assert done.result.random
    for said in (
        "RANDOM WEIGHTS: NOT A RESULT", "say nothing about the paper", "402 images",
        summarise(done.study).leakage(), "always-negative baseline", "add up to one", "1.356",
        "32 px here and 400 px there",
    ):  # fmt: skip
        assert said in done.page, said


def test_a_second_go_finishes_the_head_that_was_interrupted_and_repeats_nothing_else(done, monkeypatch):
    # The page's figures are drawn anew each time, which takes longest and is seen above.
    monkeypatch.setattr(Figure, "savefig", lambda self, part, **_: part.write_bytes(b""))
    cut = run_of(done, "right", ARMS[1])
    before = cut.predictions()
    (cut.path / "head.json").unlink()  # what a kill between the last epoch and the end leaves
    kept = [*(done.folder / "runs").glob("*/head.json"), *(done.folder / "cache").glob("*.h5")]
    kept += [path for way in WAYS[:3] for path in done.folder.glob(f"figures/maps-{way}-*/*.npz")]
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert len(times) == 11 + 4 + 6
    again = reproduce_paper(done.study, done.folder, **OPTIONS)
    assert (again.embedded, again.fitted) == (0, 1)
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    pd.testing.assert_frame_equal(run_of(done, "right", ARMS[1]).predictions(), before)
    assert again.page.read_text() == done.page


def test_what_cannot_be_reproduced_is_refused_before_anything_is_done(films, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(WeightsError, match="needs two"):
        reproduce_paper(films, out, weights="some.h5")
    with pytest.raises(CxrfeatError, match="passes=1"):
        reproduce_paper(films, out, passes=0)
    with pytest.raises(StudyError, match="'test'"):
        reproduce_paper(films.split("train", "val"), out)
    assert not out.exists()


def test_the_command_takes_a_list_of_images_and_names_what_is_not_there(films, tmp_path):
    study = films.save(tmp_path / "films.csv")
    (tmp_path / "list.txt").write_text("film01.png\nfilm99.png\n")
    words = ["reproduce", "paper", str(study), "--list", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2 and "'film99.png'" in result.output
    assert not Path(tmp_path / "out").exists()
