"""Downloads from servers on this machine: slow, silent, cut off, redirected, wrong. There is an answer each time."""

import hashlib
import http.server
import socket
import threading
import time

import pytest

from cxrfeat._backbones import download as module
from cxrfeat._backbones.download import DownloadError, download

CONTENT = bytes(range(256)) * 400
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
    """Answers with `content`, by ranges if asked, and as `ways` say of each request in turn."""

    daemon_threads = True

    def __init__(self, content=CONTENT, ranges=True):
        self.content, self.ranges, self.ways, self.seen = content, ranges, [], []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder/net.h5"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers.get("Range")))
        way = server.ways.pop(0) if server.ways else {}
        begin = 0
        if server.ranges and (asked := self.headers.get("Range")):
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
        body = way.get("body", server.content)[begin:]
        if begin and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(way.get("status", 206 if begin else 200))
        for name, value in way.get("headers", {}).items():
            self.send_header(name, value)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "drip" in way:
            for byte in body:
                try:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(way["drip"])
        else:
            self.wfile.write(body[: way.get("cut")])

    def log_message(self, *args):
        return


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(module.MIRROR, raising=False)
    started = Server()
    yield started
    started.shutdown()
    started.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "net.h5"


def left(target):
    return sorted(path.name for path in target.parent.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_once_and_progress_says_how_far(server, target):
    told = []
    for _ in range(2):
        assert download(server.url, target, MD5, lambda done, total, note: told.append((done, total))) == target
    assert target.read_bytes() == CONTENT and left(target) == ["net.h5"]
    assert len(server.seen) == 1 and told[-1] == (len(CONTENT), len(CONTENT))


def test_a_byte_now_and_then_is_given_up(server, target, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 0.3)
    server.ways = [{"drip": 0.05}]
    began = time.monotonic()
    with pytest.raises(DownloadError, match="bytes a second, less than"):
        download(server.url, target, MD5)
    assert time.monotonic() - began < 5
    assert download(server.url, target, MD5).read_bytes() == CONTENT  # what came is kept, the rest is fetched
    assert server.seen[1][1] is not None


def test_a_broken_connection_goes_on_where_it_stopped(server, target):
    server.ways = [{"cut": 1000}, {"cut": 500}]
    assert download(server.url, target, MD5).read_bytes() == CONTENT
    assert [asked for _, asked in server.seen] == [None, "bytes=1000-", "bytes=1500-"]


def test_a_process_that_was_stopped_is_gone_on_with(server, target):
    target.parent.mkdir()
    part = target.with_name(".net.h5.download")
    part.write_bytes(CONTENT[:777])
    assert download(server.url, target, MD5).read_bytes() == CONTENT
    assert server.seen == [("/folder/net.h5", "bytes=777-")] and left(target) == ["net.h5"]


def test_without_a_published_hash_nothing_old_is_gone_on_with(server, target):
    target.parent.mkdir()
    target.with_name(".net.h5.download").write_bytes(b"of another file")
    assert download(server.url, target).read_bytes() == CONTENT
    assert server.seen == [("/folder/net.h5", None)]


@pytest.mark.parametrize("old", [b"x" * 777, CONTENT + b"more", CONTENT])
def test_the_part_of_another_file_is_thrown_away(server, target, old):
    target.parent.mkdir()
    target.with_name(".net.h5.download").write_bytes(old)
    assert download(server.url, target, MD5).read_bytes() == CONTENT
    assert left(target) == ["net.h5"]


def test_a_server_without_ranges_starts_again(server, target):
    server.ranges, server.ways = False, [{"cut": 1000}]
    assert download(server.url, target, MD5).read_bytes() == CONTENT


def test_a_connection_that_always_breaks_is_given_up_and_its_bytes_kept(server, target):
    server.ways = [{"cut": 100}] * 10
    with pytest.raises(DownloadError, match="broke"):
        download(server.url, target, MD5)
    assert left(target) == [".net.h5.download"]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"body": b"other"}, "not the official one"),
        ({"status": 404}, "404"),
        ({"status": 403}, "403"),
        ({"headers": {"Content-Type": "text/html; charset=utf-8"}, "body": b"<html>Log in</html>"}, "web page"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(server, target, way, said):
    server.ways = [way] * 5
    with pytest.raises(DownloadError, match=said):
        download(server.url, target, MD5)
    assert not target.exists() and left(target) == []
    assert len(server.seen) == 1


def test_a_server_in_trouble_is_asked_again(server, target):
    server.ways = [{"status": 503}]
    assert download(server.url, target, MD5).read_bytes() == CONTENT


def test_redirects_are_followed(server, target):
    other = Server()
    server.ways = [{"status": 302, "headers": {"Location": other.url}}]
    assert download(server.url, target, MD5).read_bytes() == CONTENT
    assert len(other.seen) == 1
    other.shutdown()


def test_a_silent_server_is_given_up(target, monkeypatch):
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DownloadError, match="silent"):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/net.h5", target, MD5)


def test_nobody_at_home_is_said_at_once(target, monkeypatch):
    with pytest.raises(DownloadError, match="could not be reached"):
        download("http://127.0.0.1:1/net.h5", target, MD5)
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(1))  # no network: it tries on
    with pytest.raises(DownloadError, match="could not be looked up"):
        download("http://weights.example/net.h5", target, MD5)


def test_a_proxy_of_the_environment_is_used(server, target, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    assert download("http://weights.example/net.h5", target, MD5).read_bytes() == CONTENT
    assert server.seen[0][0] == "http://weights.example/net.h5"  # as a proxy is asked


def test_a_mirror_is_a_url_or_a_folder(server, target, tmp_path, monkeypatch):
    monkeypatch.setenv(module.MIRROR, server.url.rpartition("/")[0] + "/")
    assert download("https://weights.example/a/b/net.h5", target, MD5).read_bytes() == CONTENT
    target.unlink()
    monkeypatch.setenv(module.MIRROR, str(tmp_path / "share"))
    with pytest.raises(DownloadError, match="has no file"):
        download("https://weights.example/net.h5", target, MD5)
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "net.h5").write_bytes(CONTENT)
    assert download("https://weights.example/net.h5", target, MD5).read_bytes() == CONTENT
