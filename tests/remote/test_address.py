"""What an address is, and that its credentials go nowhere."""

import pickle
from pathlib import Path

import pytest

from cxrfeat._remote import clean, clean_text, is_remote, join, place
from cxrfeat._remote.address import full, keys
from cxrfeat.errors import NotFoundError, OutputError, StorageError


def test_paths_of_this_machine_stay_paths(tmp_path):
    for path in ("a/b.png", "/a/b.png", r"C:\a\b.png", "a b:c.png", "odd://", Path("x")):
        if path != "odd://":
            assert place(path) == Path(path)
            assert not is_remote(path)
    assert place("file:///a/b%20c.png") == Path("/a/b c.png")
    assert join(tmp_path, "x.png") == tmp_path / "x.png"
    assert join(tmp_path, "/x.png") == Path("/x.png")


def test_an_address_has_the_parts_of_a_path():
    url = place("S3://bucket/films/a.b.PNG")
    assert (str(url), url.name, url.stem, url.suffix) == ("s3://bucket/films/a.b.PNG", "a.b.PNG", "a.b", ".PNG")
    assert url.parent == place("s3://bucket/films")
    assert str(url.parent / "x/y.png") == "s3://bucket/films/x/y.png"
    assert str(place("s3://bucket") / "x.png") == "s3://bucket/x.png"
    assert str(url.with_name("c.csv")) == "s3://bucket/films/c.csv"
    web = place("https://pacs.example/film%201.png?id=7")
    assert (web.name, web.suffix, str(web)) == ("film 1.png", ".png", "https://pacs.example/film%201.png?id=7")
    assert pickle.loads(pickle.dumps(url)) == url
    with pytest.raises(TypeError):
        Path(url)  # pathlib would make it s3:/bucket


def test_relative_paths_start_at_the_address_and_stay_in_the_bucket():
    root = place("s3://bucket/study")
    assert str(join(root, "films/a.png")) == "s3://bucket/study/films/a.png"
    assert str(join(root, "../films/./a.png")) == "s3://bucket/films/a.png"
    assert str(join(root, "../../../../other/a.png")) == "s3://bucket/other/a.png"
    assert str(join(root, "gs://other/a.png")) == "gs://other/a.png"
    assert join(root, "/data/a.png") == Path("/data/a.png")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://AKIDX:s3cr3t@bucket/a.png", "s3://bucket/a.png"),
        ("https://joe:s3cr3t@host/a.png", "https://host/a.png"),
        ("https://host/a.png?X-Amz-Credential=AKIDX&X-Amz-Signature=s3cr3t", "https://host/a.png"),
        ("https://host/a.png?id=7&token=s3cr3t", "https://host/a.png?id=7"),
        ("https://x.blob.core.windows.net/c/a.png?sv=1&se=2&sig=s3cr3t", "https://x.blob.core.windows.net/c/a.png"),
        ("https://storage.googleapis.com/b/a.png?GoogleAccessId=x&Expires=1&Signature=s3cr3t",
         "https://storage.googleapis.com/b/a.png"),
        ("abfs://films@account.dfs.core.windows.net/a.png", "abfs://films@account.dfs.core.windows.net/a.png"),
    ],
)  # fmt: skip
def test_credentials_are_put_aside_and_still_used(given, shown):
    url = place(given)
    assert str(url) == shown
    assert "s3cr3t" not in f"{url!r} {url.parent} {url.name} {clean(given)} {clean_text(f'GET {given} failed')}"
    if "@bucket" in given:
        assert keys(url) == keys(url.parent / "b.png") == ("AKIDX", "s3cr3t")
    elif "s3cr3t" in given:
        assert full(place(shown)) == given
        assert clean(shown) == shown
    assert pickle.loads(pickle.dumps(url)) == url
    assert b"s3cr3t" not in pickle.dumps(url)


def test_other_schemes_and_empty_ones_are_refused():
    with pytest.raises(StorageError, match=r"addresses of ftp:// are not read; s3://"):
        place("ftp://host/a.png")
    with pytest.raises(NotFoundError, match="names no bucket"):
        place("s3:///a.png")


def test_no_folder_is_made_of_an_address(tmp_path, monkeypatch):
    from cxrfeat import _files as files

    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="is an address"):
        files.write_atomically("s3://bucket/x.csv", b"")
    with pytest.raises(OutputError, match="is an address"):
        files.check_output("s3://bucket/x.csv")
    assert not list(tmp_path.iterdir())
