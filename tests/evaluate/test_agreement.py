"""Protects: two embedding files are compared by the numbers that are stated, as NumPy and scikit-learn compute them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxrfeat import cache
from cxrfeat._evaluate import agreement
from cxrfeat.errors import EmbeddingFileError, HeadError

DIM = 12


@pytest.fixture
def files(tmp_path):
    """Two files of 400 images in other orders, the second with noise, each with two images of its own."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(400, DIM)).astype(np.float32)
    x[:, 3] = 0.5  # a feature that is constant
    y = x + rng.normal(scale=np.linspace(0.01, 0.3, DIM), size=x.shape).astype(np.float32)
    ids = np.array([f"i{k:03d}" for k in range(400)])
    order = rng.permutation(398) + 2
    cache.import_(x[:-2], tmp_path / "a.h5", ids=ids[:-2], backbone="ours").close()
    cache.import_(y[order], tmp_path / "b.h5", ids=ids[order], backbone="theirs").close()
    return tmp_path / "a.h5", tmp_path / "b.h5", ids[2:-2], x[2:-2], y[2:-2]


def test_the_numbers_are_those_of_numpy_and_scikit_learn(files, monkeypatch):
    monkeypatch.setattr(agreement, "BLOCK", 60)
    a, b, _, x, y = files
    found = cache.compare(a, b)
    moving = np.arange(DIM) != 3
    over = np.sqrt(((y - x) ** 2).mean(axis=0))[moving] / x.std(axis=0)[moving]
    cosines = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    near = [NearestNeighbors(n_neighbors=10, metric="cosine").fit(m).kneighbors()[1] for m in (x, y)]
    shared = np.mean([len(set(one) & set(other)) for one, other in zip(*near, strict=True)]) / 10
    measured = found.distances
    assert (found.images, found.left_out, measured.constant, measured.k, measured.queries) == (396, 4, 1, 10, 396)
    got = [measured.over_sd, measured.over_sd_worst, measured.cosine, measured.cosine_least]
    np.testing.assert_allclose(got, [np.median(over), over.max(), np.median(cosines), cosines.min()], rtol=1e-5)
    assert measured.neighbours == pytest.approx(shared, abs=1e-3) and 0.1 < shared < 0.9
    assert "backbone: 'ours' against 'theirs'" in repr(found) and "1 features are constant" in repr(found)
    assert json.loads(json.dumps(found.to_dict()))["distances"]["k"] == 10 and found.heads is None


def test_a_file_is_itself(files):
    a, *_ = files
    found = cache.compare(a, a)
    assert found.distances.over_sd_worst == 0 and found.distances.neighbours == 1 and found.left_out == 0
    assert found.distances.cosine_least == pytest.approx(1)
    assert "the recipes are the same" in found.title()


def test_few_images_and_other_lengths(files, tmp_path):
    a, *_ = files
    for name, ids, dim in (("few", ["i000", "i001", "x"], DIM), ("one", ["i005", "x"], DIM), ("long", ["i000"], 5)):
        cache.import_(np.random.default_rng(1).random((len(ids), dim)), tmp_path / f"{name}.h5", ids=ids, backbone="b")
    assert cache.compare(a, tmp_path / "few.h5").distances.k == 1
    with pytest.raises(EmbeddingFileError, match=r"have 1 images in common; a comparison needs at least 2"):
        cache.compare(a, tmp_path / "one.h5")
    with pytest.raises(EmbeddingFileError, match=r"of length 12 and .* of length 5"):
        cache.compare(a, tmp_path / "long.h5")


def test_heads_are_fitted_on_train_and_compared_on_test(make_study, tmp_path):
    study = make_study(120)
    signal = study.y @ np.random.default_rng(0).normal(size=(2, DIM))
    noise = np.random.default_rng(1).normal(scale=2, size=(120, DIM))
    x, worse = signal + noise, signal + 2 * noise
    for name, values in (("a", x), ("b", worse)):
        cache.import_(values, tmp_path / f"{name}.h5", ids=study.ids, images=study.root, backbone="ours").close()
    found = cache.compare(tmp_path / "a.h5", tmp_path / "b.h5", study=study, replicates=50)
    split = study.table["split"].to_numpy(dtype=str)
    train, test = split == "train", split == "test"
    for row, label in zip(found.heads.rows, range(2), strict=False):
        for key, values in (("auroc_baseline", x), ("auroc", worse)):
            values = values.astype(np.float32).astype(float)
            model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=2000))
            model.fit(values[train], study.y[train, label])
            expected = roc_auc_score(study.y[test, label], model.decision_function(values[test]))
            assert row[key] == pytest.approx(expected, abs=1e-3)
    macro = found.heads.rows[-1]
    low, high = macro["difference_interval"]
    assert low < macro["difference"] < high and "split test" in repr(found)
    whole = study.with_splits(np.full(120, "train"))
    crossed = cache.compare(tmp_path / "a.h5", tmp_path / "b.h5", study=whole, replicates=20)
    assert len(crossed.heads.baseline) == 120 and "all images, in 5 folds by patient" in repr(crossed)
    assert crossed.heads.rows[-1]["auroc_baseline"] > 0.6 and crossed.to_dict()["heads"]["rows"]
    unlabelled = make_study(120, labels=())
    with pytest.raises(HeadError, match="no labels"):
        cache.compare(tmp_path / "a.h5", tmp_path / "b.h5", study=unlabelled)
