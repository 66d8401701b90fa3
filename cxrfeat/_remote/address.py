"""Addresses of files, and the credentials that they may carry, which are kept in memory and shown nowhere.

`s3://key:secret@bucket/film.png` and `https://host/film.png?X-Amz-Signature=...` are taken apart where they enter: a
`Url` has the rest, so that no message, table or file can show what it does not have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote

from cxrfeat import _files as files
from cxrfeat.errors import NotFoundError, StorageError

SCHEMES = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
    "https": "https", "http": "https",
}  # fmt: skip
"""The extra of cxrfeat that brings what reads addresses of a scheme."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>|]+")
_SIGNED = re.compile(
    r"x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|.*signature|sig|.*token.*|.*secret.*|.*passw.*|.*credential.*|"
    r"api[-_]?key|key|access[-_]?key.*|auth.*|key-pair-id|policy|expires",
    re.IGNORECASE,
)
_AZURE = {"sv", "ss", "srt", "st", "se", "sr", "sp", "spr", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv"}
"""Parameters beside `sig` in a shared access signature."""

_full: dict[str, str] = {}
"""What was given for an address with a signature."""
_keys: dict[str, tuple[str, str]] = {}
"""User and secret by scheme and host, as given in `scheme://user:secret@host`."""


@dataclass(frozen=True, order=True, slots=True)
class Url:
    """An address as a path: its parts, `/`, and the few questions that are asked of input files.

    It is no `os.PathLike`: what can only be done with a local file fails, and makes no folder called `s3:`.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, other: str | Path) -> Url:
        path, _, query = self.address.partition("?") if self.is_web else (self.address, "", "")
        scheme, _, rest = f"{path.rstrip('/')}/{other}".partition("://")
        return Url(f"{scheme}://{_normal(rest)}" + (f"?{query}" if query else ""))

    @property
    def scheme(self) -> str:
        """`s3`, `gs`, ..., in lower case."""
        return self.address.partition("://")[0].lower()

    @property
    def is_web(self) -> bool:
        """Whether it is read by HTTP alone: no listing, no writing."""
        return SCHEMES[self.scheme] == "https"

    @property
    def host(self) -> str:
        """Scheme and host, or bucket."""
        return "/".join(self.address.split("/", 3)[:3])

    @property
    def _pure(self) -> PurePosixPath:
        path = self.address.partition("?")[0] if self.is_web else self.address
        return PurePosixPath(path.partition("://")[2])

    @property
    def name(self) -> str:
        """The last part; a query is none of it."""
        return unquote(self._pure.name) if self.is_web else self._pure.name

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder."""
        return Url(f"{self.scheme}://{self._pure.parent}")

    def with_name(self, name: str) -> Url:
        """The address of another file in the same folder."""
        return self.parent / name

    def absolute(self) -> Url:
        """Itself, as `resolve` and `expanduser`: an address always says everything."""
        return self

    resolve = expanduser = absolute

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        from cxrfeat._remote import transfer

        return transfer.stat([self])[0] is not None

    def is_dir(self) -> bool:
        """Whether there are objects below; a web server does not say."""
        return bool(self._names())

    def exists(self) -> bool:
        """Whether there is such an object, or objects below."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[Url]:
        """Everything in this folder, in order."""
        return (self / name for name in sorted(self._names()))

    def glob(self, pattern: str) -> Iterator[Url]:
        """Everything in this folder of a name as the pattern says."""
        return (url for url in self.iterdir() if fnmatchcase(url.name, pattern))

    def below(self) -> list[Url]:
        """Every object below, in order; none of a web server, which does not say."""
        from cxrfeat._remote import transfer

        return [] if self.is_web else transfer.below(self)

    def _names(self) -> Collection[str]:
        from cxrfeat._remote import transfer

        return () if self.is_web else transfer.listing([self])[self]


Place: TypeAlias = Path | Url


def is_remote(path: object) -> bool:
    """Whether it is an address, and no path on this machine."""
    return isinstance(path, Url) or (isinstance(path, str) and "://" in path and bool(_ADDRESS.match(path)))


def place(path: str | Path | Url) -> Place:
    """Return the address or the local path that is meant; credentials in an address are put aside.

    A `file://` address is a local path.
    """
    if not isinstance(path, str):
        return path
    found = _ADDRESS.match(path) if "://" in path else None
    if found is None:
        return Path(path)
    scheme = found[1].lower()
    if scheme == "file":
        return Path(unquote(path[found.end() :].removeprefix("localhost")))
    if scheme not in SCHEMES:
        raise StorageError(f"addresses of {scheme}:// are not read; {', '.join(f'{s}://' for s in SCHEMES)} are.")
    if not re.match(r"[^/?#]", path[found.end() :]):
        raise NotFoundError(f"{scheme}:// names no bucket or host.")
    return Url(_put_aside(scheme, path[found.end() :]))


def local(path: str | Place) -> Path:
    """The local file that is meant: the path itself, or an up-to-date copy of what is at an address."""
    found = place(path)
    if isinstance(found, Path):
        return found
    from cxrfeat._remote import copies

    return copies.fetch(found)


def join(root: Place, listed: str) -> Place:
    """The place of a file that a table lists: an address, an absolute path, or relative to `root`."""
    if "://" in listed and _ADDRESS.match(listed):
        return place(listed)
    return Path(listed) if isinstance(root, Url) and listed[:1] == "/" else root / listed


def readers(paths: Iterable[Place], cores: int) -> int:
    """How many threads read files: one a core, and more where they wait for a store."""
    return max(32, cores) if any(isinstance(path, Url) for path in paths) else cores


def sha256(path: Place) -> str:
    """SHA-256 of the bytes of a file, or of an object, hexadecimal."""
    if isinstance(path, Path):
        return files.sha256(path)
    from cxrfeat._remote import transfer

    return hashlib.sha256(transfer.read(path)).hexdigest()


def clean(text: str) -> str:
    """A path as it may be shown and written: of an address, without its credentials; any other as it is."""
    if "://" not in text or not ("@" in text or "?" in text):
        return text
    found = _ADDRESS.match(text)
    return _put_aside(found[1].lower(), text[found.end() :]) if found and found[1].lower() in SCHEMES else text


def clean_text(text: str) -> str:
    """A text as it may be shown and written: every address in it without its credentials."""
    return _IN_TEXT.sub(lambda found: clean(found[0]), text) if "://" in text else text


def full(url: Url) -> str:
    """The address with the signature or the password that it was given with, for whoever sends the request."""
    if url.address in _full:
        return _full[url.address]
    user = _keys.get(url.host) if url.is_web else None
    return f"{url.scheme}://{user[0]}:{user[1]}@{url.address.partition('://')[2]}" if user else url.address


def keys(url: Url) -> tuple[str, str] | None:
    """Key and secret that were given in an address of this bucket."""
    return _keys.get(url.host)


def _put_aside(scheme: str, rest: str) -> str:
    """The address without credentials, which are kept in memory."""
    slash = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    host, path = rest[:slash], rest[slash:]
    user, at, plain = host.rpartition("@")
    # abfs://container@account.dfs.core.windows.net is no password.
    if at and (":" in user or SCHEMES[scheme] != "azure"):
        host, (name, _, secret) = plain, user.partition(":")
        _keys[f"{scheme}://{host}"] = (unquote(name), unquote(secret)) if SCHEMES[scheme] != "https" else (name, secret)
    path, mark, query = path.partition("?")
    parts = query.split("&") if mark else []
    names = [part.partition("=")[0] for part in parts]
    azure = _AZURE if "sig" in names else set()
    left = [part for part, name in zip(parts, names, strict=True) if not (_SIGNED.fullmatch(name) or name in azure)]
    kept = f"{scheme}://{host}{path}" + (f"?{'&'.join(left)}" if left else "")
    if len(left) < len(parts):
        _full[kept] = f"{scheme}://{user + at if host != rest[:slash] else ''}{host}{path}?{query}"
    return kept


def _normal(path: str) -> str:
    """A path without `.` and `..`; nothing leads out of the bucket."""
    if "/." not in path:
        return path
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[max(1, len(parts) - 1) :]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
