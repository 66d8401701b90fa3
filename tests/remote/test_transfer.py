"""Requests: what is tried again, what ends the work, and what the store is told when a file is written."""

import os
import signal
import threading

import pytest

from cxrfeat._remote import place, transfer
from cxrfeat.errors import MissingExtraError, NotFoundError, StorageError, UnavailableError

DATA = os.urandom(20_000)


@pytest.fixture
def urls(store):
    """The same object by S3, and by HTTP with a presigned address."""
    store.fs.pipe("films/a/film.png", DATA)
    return [place("s3://films/a/film.png"), place(f"{store.url}/films/a/film.png?X-Amz-Signature=s3cr3t")]


def test_an_object_is_read_whole_or_up_to_a_limit(urls, store):
    for url in urls:
        assert transfer.read(url) == DATA
        assert transfer.read(url, 100) == DATA[:100]
        assert transfer.stat([url])[0].size == len(DATA)
    store.fs.pipe("films/empty", b"")
    assert transfer.read(place("s3://films/empty")) == b""


@pytest.mark.parametrize("faults", [["cut"], [503, 429, 500], ["hang", "cut", 503]])
def test_what_fails_in_passing_is_tried_again(urls, store, faults):
    for url in urls:
        store.faults["film.png"] = list(faults)
        before = store.requests["GET", "/films/a/film.png"]
        assert transfer.read(url) == DATA
        assert store.requests["GET", "/films/a/film.png"] - before == len(faults) + 1


@pytest.mark.parametrize("fault", ["cut", 503])
def test_a_file_that_fails_every_time_is_unavailable(urls, store, fault):
    for url in urls:
        store.always["film.png"] = fault
        with pytest.raises(UnavailableError, match=r"film.png: all attempts failed"):
            transfer.read(url)
    assert store.requests["GET", "/films/a/film.png"] == 2 * transfer.ATTEMPTS


def test_the_pause_before_an_attempt_doubles(urls, store, monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(transfer.asyncio, "sleep", sleep)
    monkeypatch.setattr(transfer, "FIRST_DELAY", 0.2)
    store.always["film.png"] = 429
    with pytest.raises(UnavailableError):
        transfer.read(urls[1])
    assert len(pauses) == transfer.ATTEMPTS - 1
    assert all(0.1 * 2**k <= pause <= 0.2 * 2**k for k, pause in enumerate(pauses))


def test_a_refusal_ends_the_work_at_once(urls, store):
    for url in urls:
        store.always["film.png"] = 403
        before = sum(store.requests.values())
        with pytest.raises(StorageError, match=r"access to .*film.png is denied \(403\)") as caught:
            transfer.read(url)
        assert not isinstance(caught.value, UnavailableError)
        assert sum(store.requests.values()) - before == 1
        with pytest.raises(StorageError, match="is denied"):
            transfer.stat([url])
    store.calm()
    for ask in (transfer.read, lambda url: transfer.stat([url]), lambda url: transfer.listing([url.parent])):
        with pytest.raises(StorageError, match="there is no bucket s3://nowhere"):
            ask(place("s3://nowhere/film.png"))


def test_a_file_that_is_not_there_is_not_asked_for_again(urls, store):
    for url in (place("s3://films/b.png"), place(f"{store.url}/films/b.png?X-Amz-Signature=s3cr3t")):
        with pytest.raises(NotFoundError, match=r"there is no file .*b.png\.$"):
            transfer.read(url)
        assert transfer.stat([url]) == [None]


def test_a_store_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(transfer, "HOPELESS", 3)
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    answers = [transfer.ask(place(f"http://127.0.0.1:9/{k}.png")) for k in range(4)]
    kinds = [type(answer.exception()) for answer in answers]
    assert sorted(kinds, key=lambda kind: kind.__name__) == [StorageError, StorageError, *[UnavailableError] * 2]


def test_folders_with_many_files_are_listed_and_single_ones_asked_for(store):
    names = [f"films/many/{k:02d}.png" for k in range(transfer.MANY + 1)]
    store.fs.pipe({name: name.encode() for name in names})
    store.fs.pipe("films/one/a.png", b"a")
    store.requests.clear()
    urls = [place(f"s3://{name}") for name in (*names, "films/one/a.png", "films/many/none.png", "films/none/a.png")]
    found = transfer.stat(urls)
    assert [stat and stat.size for stat in found] == [17] * len(names) + [1, None, None]
    heads = {path for (method, path) in store.requests if method == "HEAD"}
    assert heads == {"/films/one/a.png", "/films/none/a.png"}
    assert found[0] == transfer.stat(urls[:1])[0]  # a listing and an answer for one say the same
    store.fs.pipe(names[0], b"x" * 17)
    assert found[0] != transfer.stat(urls[:1])[0]
    assert sorted(url.name for url in place("s3://films").below())[-2:] == ["32.png", "a.png"]


def test_many_requests_wait_at_a_time(store):
    store.fs.pipe({f"films/a/{k}": b"x" for k in range(24)})
    store.delay = 0.1
    answers = [transfer.ask(place(f"s3://films/a/{k}")) for k in range(24)]
    assert [answer.result() for answer in answers] == [b"x"] * 24
    assert store.most > 8


@pytest.fixture
def python_takes_ctrl_c():
    """Commands that earlier tests called in this process end it at Ctrl-C; and a background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_does_not_wait_for_an_answer(urls, store, python_takes_ctrl_c):
    store.delay = 1.0
    answer = transfer.ask(urls[0])
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
        transfer._wait(answer)
    assert answer.cancelled()
    assert store.most == 1  # which still waits


def test_a_file_is_written_once_and_never_over_another_writers(store, tmp_path):
    path, url = tmp_path / "a.h5", place("s3://films/a.h5")
    path.write_bytes(DATA)
    first = transfer.upload(path, url, None)
    assert store.fs.cat("films/a.h5") == DATA
    path.write_bytes(DATA[::-1])
    second = transfer.upload(path, url, first)
    assert store.fs.cat("films/a.h5") == DATA[::-1]
    path.write_bytes(b"other")
    for before in (None, first):
        with pytest.raises(StorageError, match=r"was written by someone else meanwhile.*the new file is kept at"):
            transfer.upload(path, url, before)
    assert transfer.stat([url])[0] == second
    with pytest.raises(StorageError, match="addresses are only read"):
        transfer.upload(path, place("https://host/a.h5"), None)


@pytest.mark.parametrize("there", [True, False])
def test_two_writers_at_the_same_time(store, tmp_path, monkeypatch, there):
    path, url = tmp_path / "a.h5", place("s3://films/a.h5")
    path.write_bytes(DATA)
    before = transfer.upload(path, url, None) if there else None
    asked = transfer.stat

    def meanwhile(urls):  # another writer comes between the question and the answer
        found = asked(urls)
        store.fs.pipe("films/a.h5", b"theirs")
        return found

    monkeypatch.setattr(transfer, "stat", meanwhile)
    with pytest.raises(StorageError, match="was written by someone else"):
        transfer.upload(path, url, before)
    assert store.fs.cat("films/a.h5") == b"theirs"


def test_an_upload_whose_answer_is_lost_is_recognised(store, tmp_path):
    path, url = tmp_path / "a.h5", place("s3://films/a.h5")
    path.write_bytes(DATA)
    store.lose = "a.h5"
    assert transfer.upload(path, url, None).size == len(DATA)


def test_the_missing_package_is_named(monkeypatch):
    import fsspec

    def missing(scheme, **options):
        raise ImportError("gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(MissingExtraError, match=r"gs:// needs an optional package: pip install 'cxrfeat\[gcs\]'"):
        transfer.read(place("gs://films/a.png"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("Forbidden: https://storage.googleapis.com/b/o/film.png?token=s3cr3t"), StorageError),  # gcsfs
        (FileNotFoundError("b/film.png"), NotFoundError),
        (type("HttpError", (Exception,), {"code": 503, "__module__": "gcsfs.retry"})("s3cr3t"), UnavailableError),
        (type("HttpResponseError", (Exception,), {"status_code": 403, "__module__": "azure.core"})(), StorageError),
        (type("ServiceRequestError", (Exception,), {"__module__": "azure.core"})("s3cr3t"), UnavailableError),
        (type("DefaultCredentialsError", (Exception,), {"__module__": "google.auth"})(), StorageError),
        (ValueError("Bad Request: s3cr3t"), StorageError),
        (TypeError("a bug"), TypeError),
    ],
)
def test_what_the_errors_of_other_stores_mean(error, kind):
    found = transfer._problem(place("gs://b/film.png"), error)
    assert type(found) is kind
    assert "s3cr3t" not in str(found)
