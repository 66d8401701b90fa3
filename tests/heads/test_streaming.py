"""Rows that do not fit into memory give the head that rows in memory give; those on a cluster: tests/test_ray.py."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import cxrfeat as cxr
from cxrfeat import _machine as machine
from cxrfeat._heads import fit_head, load_head
from cxrfeat._heads.solver import path as solver
from cxrfeat._heads.solver.labels import Labels
from cxrfeat._heads.solver.rows import FileRows, MatrixRows, Tally
from cxrfeat._heads.solver.sums import LocalSums
from cxrfeat.errors import HeadError


@pytest.fixture(scope="module")
def rows_on_disk(tmp_path_factory):
    """3,000 rows in an embedding file, labels with unknown ones, and class weights; the second label is rare."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((3000, 5))
    x = np.maximum(latent @ rng.standard_normal((5, 20)) + rng.standard_normal((3000, 20)), 0).astype(np.float32)
    y = (rng.random((3000, 2)) < 1 / (1 + np.exp(1 - latent[:, :2] + [0, 3]))).astype(float)
    y[::7, 0] = np.nan
    path = tmp_path_factory.mktemp("rows") / "a.h5"
    cxr.cache.import_(x, path, ids=[f"i{k:05d}" for k in range(3000)], backbone="ours").close()
    return path, x, y, (np.array([0.9, 0.7]), np.array([0.2, 0.3]))


def reference(x, y, positive, negative):
    """One label by scikit-learn in float64: coefficients and intercept on standardised features."""
    known = ~np.isnan(y)
    standard = StandardScaler().fit(x.astype(np.float64)).transform(x.astype(np.float64))[known]
    model = LogisticRegression(C=0.5, tol=1e-12, max_iter=200, solver="newton-cholesky")
    model.fit(standard, y[known], sample_weight=np.where(y[known] == 1, positive, negative))
    return standard, model.coef_[0], model.intercept_[0]


def test_a_search_from_a_sample_ends_at_scikit_learns_optimum_in_few_passes(in_sweeps, rows_on_disk, monkeypatch):
    monkeypatch.setattr(solver, "SAMPLE_ROWS", 48)
    path, x, y, (positive, negative) = rows_on_disk
    passes = []

    class Counted(FileRows):
        def blocks(self):
            passes.append(1)
            return super().blocks()

    with cxr.EmbeddingFile(path) as file:
        sums = LocalSums(Counted([file], [(0, np.arange(3000)[None])]), Labels.of(y, positive, negative))
        found = solver.solve(sums, np.full(2, 0.5), tol=1e-8)
    assert found.converged.all() and found.sweeps == len(passes) <= 12
    for k in range(2):
        standard, coef, intercept = reference(x, y[:, k], positive[k], negative[k])
        truth = y[~np.isnan(y[:, k]), k]
        weight = np.where(truth == 1, positive[k], negative[k])
        z = standard @ coef + intercept
        best = 0.5 * weight @ (np.logaddexp(0, z) - truth * z) + coef @ coef / 2
        assert found.objective[k] == pytest.approx(best, rel=1e-6)
        assert found.coef[k] * x.std(axis=0) == pytest.approx(coef, rel=1e-2, abs=1e-3 * np.abs(coef).max())


def test_a_sample_has_all_rows_of_a_rare_finding_and_weighs_the_others(rows_on_disk):
    _, x, y, (positive, negative) = rows_on_disk
    sums = LocalSums(MatrixRows(x), Labels.of(y, positive, negative))
    _, (some, labels) = sums.survey(sums.counts().chance(400))
    assert len(some) < 500
    rare = (y[:, 1] == 1).sum()
    assert (labels.y[:, 1] == 1).sum() > 0.6 * min(rare, 100)
    whole = sums.counts()
    part = LocalSums(MatrixRows(some), labels).counts()
    assert part.weight == pytest.approx(whole.weight, rel=0.2)


def test_moments_of_parts_join_to_those_of_the_whole():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(1000, 3, (500, 4)).astype(np.float32), rng.random(500)
    x[:, 3] = 0.1  # constant: its scale is 1
    found = []
    for part in (slice(0, 50), slice(50, 500)):
        tally = Tally(4)
        tally.add(x[part], weight[part])
        found.append(tally.moments())
    mean, scale = found[0].joined(found[1]).standard()
    centre = np.average(x.astype(float), axis=0, weights=weight)
    assert mean == pytest.approx(centre, rel=1e-7)
    spread = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=weight))
    assert scale == pytest.approx(np.append(spread[:3], 1), rel=1e-4)


def test_what_does_not_fit_into_half_of_the_free_memory_streams_unasked(
    study, embeddings, tmp_path, monkeypatch, caplog
):
    whole = fit_head(study, embeddings, out=tmp_path / "whole")
    monkeypatch.setattr(machine, "memory", lambda: 30_000)
    with caplog.at_level("INFO", logger="cxrfeat"):
        parts = fit_head(study, embeddings, out=tmp_path / "parts")
    assert [r.getMessage() for r in caplog.records if "every pass reads them anew" in r.getMessage()]
    assert (load_head(whole).linear[0] == load_head(parts).linear[0]).all()
    monkeypatch.setattr(machine, "memory", lambda: 20_000)
    with pytest.raises(HeadError, match=r"half of what is free \(1e-05 GB\), and this head needs all"):
        fit_head(study, embeddings, "svm", out=tmp_path / "svm")
    with pytest.raises(HeadError, match="more than `memory`"):
        fit_head(study, embeddings, "svm", out=tmp_path / "svm", memory=10_000)


def test_a_search_and_a_stacked_ensemble_stream_too(in_sweeps, study, embeddings, tmp_path):
    options = {"grid": {"C": (0.01, 1.0)}, "ensemble": "stacked"}
    whole, parts = (
        fit_head(study, [embeddings, embeddings], out=tmp_path / str(memory), memory=memory, **options)
        for memory in (None, 1000)
    )
    for one, other in zip(load_head(whole).linear, load_head(parts).linear, strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-6)


def test_a_collection_is_fitted_as_the_one_file_it_could_be(study, embeddings, write_file, tmp_path):
    half = np.arange(len(study)) % 2 == 0
    with cxr.EmbeddingFile(embeddings) as file:
        for name, part in (("a", study.take(half)), ("b", study.take(~half))):
            x = file.to_numpy(part.ids)
            cxr.cache.import_(x, tmp_path / f"{name}.h5", ids=part.ids.tolist(), backbone="ours").close()
        cxr.cache.import_(
            file.to_numpy(study.ids), tmp_path / "one.h5", ids=study.ids.tolist(), backbone="ours"
        ).close()
    cxr.cache.collect([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "both")
    one = load_head(fit_head(study, tmp_path / "one.h5", out=tmp_path / "run-one")).linear
    both = load_head(fit_head(study, tmp_path / "both", out=tmp_path / "run-both", memory=1000)).linear
    assert both[0] == pytest.approx(one[0], rel=1e-6, abs=1e-9)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    places = [tmp_path / name for name in ("max", "current", "stat")]
    for place, text in zip(places, ("5000\n", "4000\n", "anon 10\ninactive_file 1500\n"), strict=True):
        place.write_text(text)
    monkeypatch.setattr(machine, "_CGROUPS", (tuple(map(str, places)),))
    assert machine.memory() == 2500
    places[0].write_text("max\n")
    assert machine.memory() > 1e6
