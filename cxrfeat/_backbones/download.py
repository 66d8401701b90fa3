"""Downloading one file: resumed where it stopped, checked, given up where a server is silent or too slow.

The bytes go to a hidden file beside the target, which takes the target's place once its hash is right. What an
interrupted download left is continued by the next one, if a hash will tell whether the two parts fit. Proxies are those
of the environment (`HTTPS_PROXY`, `NO_PROXY`), certificates those of `REQUESTS_CA_BUNDLE`, as requests documents.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock

from cxrfeat import _files as files
from cxrfeat._progress import Progress, silent

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 20.0
"""Seconds to find and reach a server, and without a byte from it, after which a download is given up."""
FLOOR, WINDOW = 2048.0, 30.0
"""Bytes a second that a server must send on average over every so many seconds."""
TRIES = 3
"""How often a connection that breaks is made again within one call."""
MIRROR = "CXRFEAT_MIRROR"
"""Environment variable: a folder, or the first part of a URL, that has the files by their own names."""
_CHUNK = 1 << 20


class DownloadError(Exception):
    """A download that failed; the message is the reason, the end of a sentence."""


class _BrokenError(DownloadError):
    """The connection broke: worth another try, which goes on where it stopped."""


def download(url: str, target: Path, expected: str = "", progress: Progress = silent) -> Path:
    """Download a file unless it is there.

    `expected` is its hash as `md5:...` or `sha256:...`, or how it begins; empty where nobody has published one. A
    second process that wants the same file waits for the first. What goes wrong is a DownloadError; an OSError says
    that the disk failed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_file():
            return target
        part = target.with_name(f".{target.name}.download")
        if not expected:
            part.unlink(missing_ok=True)
        resumed = part.exists()
        _obtain(url, target.name, part, progress)
        if not (found := digest(part, expected)).startswith(expected) and resumed:
            part.unlink()  # the parts of two files
            _obtain(url, target.name, part, progress)
            found = digest(part, expected)
        if not found.startswith(expected):
            part.unlink()
            raise DownloadError(f"the file is not the official one: its hash is {found}, not {expected}")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
        files.sync_folder(target.parent)
    return target


def digest(path: Path, like: str) -> str:
    """Hash of a file in the form of another, `md5:...` or `sha256:...`; empty for an empty one."""
    kind = like.partition(":")[0]
    if not kind:
        return ""
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _obtain(url: str, name: str, part: Path, progress: Progress) -> None:
    mirror = os.environ.get(MIRROR, "")
    if mirror and not mirror.startswith(("http://", "https://")):
        source = Path(mirror) / name
        if not source.is_file():
            raise DownloadError(f"the mirror {mirror} ({MIRROR}) has no file {name}")
        shutil.copyfile(source, part)
        return
    url = f"{mirror.rstrip('/')}/{name}" if mirror else url
    for left in reversed(range(TRIES)):
        try:
            return _receive(url, part, progress)
        except _BrokenError:
            if not left:
                raise


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append what `part` lacks of a URL to it."""
    import requests
    import urllib3

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    host = urlsplit(url).hostname or ""
    try:
        if not requests.utils.get_environ_proxies(url):
            _resolve(host)
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
            if response.status_code == 416:  # there is nothing after what is here: that is the file, or is not of it
                if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                    return
                part.unlink()
                raise _BrokenError(f"{response.url} has less than the {have:,} bytes that are here already")
            begin, total = _answer(url, response, have)
            with part.open("ab") as file:
                file.truncate(begin)
                for chunk in _chunks(response.raw):
                    file.write(chunk)
                    progress(file.tell(), total or file.tell(), "bytes")
                done = file.tell()
            if total and done != total:
                raise _BrokenError(f"the connection broke after {done:,} of {total:,} bytes")
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise DownloadError(f"{host} was silent for {READ_TIMEOUT:.0f} s") from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError, ConnectionResetError) as error:
        raise _BrokenError(f"the connection to {host} broke") from error
    except requests.RequestException as error:
        raise DownloadError(f"{host} could not be reached ({type(error).__name__})") from error


def _resolve(host: str) -> None:
    """Look a name up; without a network the system itself may try for minutes."""
    found: list[Any] = []

    def look_up() -> None:
        with suppress(OSError):
            found.append(socket.getaddrinfo(host, None))

    worker = threading.Thread(target=look_up, daemon=True)
    worker.start()
    worker.join(CONNECT_TIMEOUT)
    if not found:
        raise DownloadError(f"there is no connection: the name {host} could not be looked up")


def _answer(url: str, response: requests.Response, have: int) -> tuple[int, int]:
    """Where the bytes of an answer begin in the file, and the file's size, 0 if the server does not say."""
    size = int(response.headers.get("Content-Length") or 0)
    if response.status_code >= 500:
        raise _BrokenError(f"{response.url} answered {response.status_code} {response.reason}")
    if response.status_code not in (200, 206):
        raise DownloadError(f"{response.url} answered {response.status_code} {response.reason}")
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise DownloadError(f"the server sends its visitors to {response.url}, which is not encrypted")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError(f"{response.url} is a web page and not the file: the login page of a proxy, perhaps")
    if response.status_code == 200:
        return 0, size
    begin = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if begin != str(have):
        raise DownloadError(f"{response.url} sent another part of the file than the one asked for")
    return have, have + size if size else 0


def _chunks(raw: Any) -> Any:
    """Yield bytes as they arrive; a server below the floor is a DownloadError."""
    since, received = time.monotonic(), 0
    while chunk := raw.read1(_CHUNK, decode_content=False):
        yield chunk
        received += len(chunk)
        if (spent := time.monotonic() - since) >= WINDOW:
            if received < FLOOR * spent:
                raise DownloadError(
                    f"the server sends {received / spent:,.0f} bytes a second, less than {FLOOR:,.0f}; the next call "
                    "goes on where this one stopped"
                )
            since, received = time.monotonic(), 0
