"""Extraction of films in a bucket: the rows of local files, whatever the store does meanwhile."""

import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import cxrfeat as cxr
from cxrfeat._extract import ahead, extraction, images, pipeline
from cxrfeat._project import embedding_paths
from cxrfeat._recipe import Recipe
from cxrfeat._remote import copies, place, transfer
from cxrfeat._study import Study
from cxrfeat.errors import ImageError, StorageError

N = 12
RECIPE = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 32)


class Pixels:
    """An engine that computes next to nothing, so that the store is what takes time."""

    name, batch, streams = "pixels", 2, 2

    def run(self, images):
        return (np.resize(images.reshape(len(images), -1).astype(np.float32), (len(images), 1024)),)


@pytest.fixture
def films(store, film, tmp_path, monkeypatch):
    """The same films here and in a bucket, as two studies."""
    for module in (extraction, images):
        monkeypatch.setattr(module, "weights_of", lambda *a: None)
    monkeypatch.setattr(extraction.engines, "open_engine", lambda *a, **k: Pixels())
    ids = [f"i{k:02d}" for k in range(N)]
    (tmp_path / "here").mkdir()
    for k, i in enumerate(ids):
        (tmp_path / f"here/{i}.png").write_bytes(film(k))
    store.fs.pipe({f"films/x/{i}.png": film(k) for k, i in enumerate(ids)})
    store.requests.clear()
    table = pd.DataFrame({"image_id": ids, "path": [f"{i}.png" for i in ids], "patient_id": ids, "split": "train"})
    table["Mass"] = [0.0, 1.0] * (N // 2)
    return Study(table, ("Mass",), "here", tmp_path / "here"), Study(table, ("Mass",), "there", place("s3://films/x"))


@pytest.fixture
def run(tmp_path):
    def go(study, **options):
        return cxr.extract(study, **{"cache": tmp_path / "cache", "recipe": RECIPE, **options})

    return go


def rows(path):
    with cxr.EmbeddingFile(path) as file:
        return dict(zip(file.image_ids.tolist(), file.to_numpy(), strict=True))


def assert_same(one, other):
    one, other = rows(one), rows(other)
    assert list(one) == list(other)
    for image_id, values in one.items():
        np.testing.assert_array_equal(values, other[image_id])


def gets(store):
    return Counter({path: n for (verb, path), n in store.requests.items() if verb == "GET" and path.endswith("png")})


def test_the_rows_are_those_of_local_files_and_every_film_is_read_once(films, run, store):
    here, there = films
    done = run(there)
    assert done.extracted == N
    assert gets(store) == dict.fromkeys((f"/films/x/{i}.png" for i in there.ids), 1)
    assert_same(done.path, run(here).path)
    store.requests.clear()
    assert run(there).extracted == 0
    assert not gets(store)
    assert all(method == "HEAD" for method, _ in store.requests)


def test_faults_on_the_way_change_nothing(films, run, store):
    here, there = films
    for k, faults in enumerate([["cut"], [503], ["cut", 500, 429], ["hang"]]):
        store.faults[f"i{k:02d}.png"] = [200, *faults][1:]
    extraction_of_faulty = run(there)
    assert not extraction_of_faulty.failed
    assert_same(extraction_of_faulty.path, run(here).path)


def test_films_are_asked_for_before_a_worker_needs_them(films, run, store, monkeypatch, tmp_path):
    monkeypatch.setattr(ahead, "FILMS", 8)
    store.delay = 0.02
    run(films[1], workers=1)
    assert store.most >= 6
    store.most, store.delay = 0, 0.02
    monkeypatch.setattr(ahead, "BYTES", 0)  # none but those that a worker waits for
    run(films[1].with_splits(["test"] * N), workers=1, out=tmp_path / "again.h5")
    assert store.most <= 3


def test_a_film_that_cannot_be_read_now_is_tried_again_and_is_not_damaged(films, run, store, caplog):
    there = films[1]
    run(there.take(np.arange(2)))
    store.always["GET /films/x/i07.png"] = 503
    store.fs.pipe("films/x/i09.png", b"no picture")
    done = run(there)
    assert done.failed["i07"] == "cannot be read now: s3://films/x/i07.png: all attempts failed (status 503)."
    assert "cannot be decoded" in done.failed["i09"]
    assert "1 images could not be read now" in caplog.text
    with cxr.EmbeddingFile(done.path) as file:
        assert [image_id for image_id, *_ in file.failed] == ["i09"]
        assert len(file) == N - 2
    store.calm()
    again = run(there)
    assert (again.extracted, list(again.failed)) == (1, ["i09"])
    assert sum(gets(store).values()) == 1


def test_an_object_that_changed_is_noticed(films, run, store, film):
    there = films[1]
    before = rows(run(there).path)
    changed = film(99)
    store.fs.pipe("films/x/i03.png", changed)
    store.fs.pipe("films/x/i04.png", film(4))  # written again, the same
    store.requests.clear()
    done = run(there)
    assert done.changed == ["i03"]
    assert set(gets(store)) <= {"/films/x/i03.png", "/films/x/i04.png"}
    after = rows(done.path)
    assert [i for i in after if not np.array_equal(after[i], before[i])] == ["i03"]


def test_a_refusal_stops_at_once_and_keeps_what_is_done(films, run, store, tmp_path):
    there = films[1]
    store.always["GET /films/x/i10.png"] = 403
    with pytest.raises(StorageError, match=r"access to s3://films/x/i10.png is denied \(403\)"):
        run(there, workers=1)
    store.calm()
    store.requests.clear()
    done = run(there)
    assert done.extracted < N
    assert sum(gets(store).values()) == done.extracted
    with pytest.raises(
        ImageError, match="of the 12 images of study 'there' are not on disk, the first is s3://films/y"
    ):
        run(Study(there.table, there.labels, "there", place("s3://films/y")), out=tmp_path / "none.h5")


def test_a_file_is_published_at_an_address_and_read_there(films, run, store, caplog):
    here, there = films
    url = "s3://films/out/a.h5"
    store.always["PUT /films/out/a.h5"] = 503
    with pytest.raises(StorageError, match=r"s3://films/out/a.h5: all attempts failed"):
        run(there, out=url)
    store.calm()
    done = run(there, out=url)  # what was computed is here, and is only written
    assert (done.extracted, done.address) == (0, url)
    assert store.requests["PUT", "/films/out/a.h5"] == 1
    assert not gets(store)
    assert store.fs.cat("films/out/a.h5") == done.path.read_bytes()
    assert_same(url, run(here).path)
    assert embedding_paths(url, there) == [done.path]
    run(there, out=url)
    assert store.requests["PUT", "/films/out/a.h5"] == 1  # nothing new
    assert cxr.cache.verify(url).ok


def test_another_machine_goes_on_from_the_object(films, run, store, monkeypatch, tmp_path, film):
    there, url, own = films[1], "s3://films/out/b.h5", copies._folder
    run(there.take(np.arange(6)), out=url)
    monkeypatch.setattr(copies, "_folder", lambda: tmp_path / "other-machine")
    # Its image manifest stays on the machine that made it: here the six films are hashed, and not embedded.
    assert run(there, out=url).extracted == N - 6
    monkeypatch.setattr(copies, "_folder", own)
    assert len(rows(url)) == N  # the first machine's copy is out of date, and is copied again


def test_a_file_that_another_writer_replaced_is_left_as_it_is(films, run, store, monkeypatch):
    there, url = films[1], "s3://films/out/c.h5"
    first = run(there.take(np.arange(6)), out=url)
    put = transfer.upload

    def late(path, to, before):
        store.fs.pipe("films/out/c.h5", b"theirs")
        return put(path, to, before)

    monkeypatch.setattr(transfer, "upload", late)
    with pytest.raises(StorageError, match="was written by someone else meanwhile, and is left as it is"):
        run(there, out=url)
    assert store.fs.cat("films/out/c.h5") == b"theirs"
    assert len(rows(first.path)) == N  # nothing computed is lost
    with pytest.raises(StorageError, match="were both written since they were the same"):
        run(there, out=url)


def test_credentials_are_in_no_log_error_or_file(films, store, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(copies, "_folder", lambda: tmp_path / "user-cache")
    sign = "X-Amz-Credential=AKIDX&X-Amz-Signature=s3cr3t"
    table = films[1].table.assign(path=[f"{store.url}/films/x/{i}.png?{sign}" for i in films[1].ids])
    table.loc[0, "path"] = "s3://AKIDX:s3cr3t@films/x/i00.png"
    table.loc[1, "path"] = f"{store.url}/films/x/none.png?{sign}"
    store.fs.pipe("films/x/i02.png", b"no picture")
    store.always["GET /films/x/i03.png"] = 503
    study = Study(table, ("Mass",), "signed", tmp_path)
    study.save()
    out = "s3://AKIDX:s3cr3t@films/out/d.h5"
    done = cxr.extract(study, RECIPE, out=out, max_failures=3)
    assert set(done.failed) == {"i01", "i02", "i03"}
    shown = [repr(done), done._repr_html_(), str(done.failed), caplog.text]
    store.always["x/i04.png"] = 403
    for ask in (lambda: cxr.embed(table["path"][4], done.recipe), lambda: cxr.extract(study, done.recipe, out="e.h5")):
        with pytest.raises(StorageError) as caught:
            ask()
        shown.append(str(caught.value))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > N
    for data in [*(text.encode() for text in shown), *(path.read_bytes() for path in files), done.path.read_bytes()]:
        assert b"s3cr3t" not in data
        assert b"AKIDX" not in data


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["extract", "s3://films/t.csv", "--weights", "random:0"], "error: there is no file s3://films/t.csv."),
        (["study", "build", "s3://k:s3cr3t@nowhere/t.csv"], "error: there is no bucket s3://nowhere."),
        (["study", "describe", "ftp://host/t.csv"], "error: addresses of ftp:// are not read"),
        (["cache", "info", "s3://films/a.h5"], "error: there is no file s3://films/a.h5."),
        (["roc", "--out", "s3://films/a.png"], "films/a.png is an address, and a file or folder of this machine"),
        (["study", "build", "sample", "-o", "s3://k:s3cr3t@films/t.csv"], "s3://films/t.csv is an address"),
    ],
)
def test_commands_end_in_a_sentence(store, words, said, capsys):
    from cxrfeat_cli.main import cli

    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    shown = "".join(capsys.readouterr())
    assert ended.value.code == 2
    assert said in shown
    assert "s3cr3t" not in shown
    assert "Traceback" not in shown


def test_a_pipeline_that_is_closed_gives_up_what_was_asked_for(films, store, monkeypatch):
    monkeypatch.setattr(ahead, "FILMS", 2)
    study = films[1]
    items = [pipeline.Item(i, path) for i, path in zip(study.ids, study.paths(), strict=True)]
    blocks = pipeline.run(items, RECIPE, Pixels(), workers=1)
    next(blocks)
    store.always["GET"] = "hang"
    blocks.close()
    assert len(gets(store)) < N
