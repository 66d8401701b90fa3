"""Reading, listing and writing objects through fsspec: many requests at a time, with retries.

All requests run in fsspec's own event loop, so that hundreds may wait for their answers while the workers compute. What
fails in passing (no connection, a body that was cut off, 429, 5xx) is tried again with exponential back-off and jitter.
A refusal (401, 403, a bucket that is not there) ends the work at once. Messages are our own: those of the packages may
quote an address with its signature.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cxrfeat._remote.address import SCHEMES, Url, full, keys
from cxrfeat.errors import CxrfeatError, MissingExtraError, NotFoundError, StorageError, UnavailableError

IN_FLIGHT = 128
"""Requests that wait for an answer at a time."""
ATTEMPTS = 6
OWN_RETRIES = {"gcs": 2, "azure": 2}
"""Attempts where a package tries again by itself, which cannot be switched off."""
FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
"""Seconds before the second attempt, doubled before each further one, less up to a half by chance; and the most."""
SILENCE = 30.0
"""Seconds without a byte after which an attempt has failed."""
HOPELESS = 32
"""Files of a bucket given up one after the other, after which the others are not tried."""
MANY = 32
"""Files wanted of a folder, from which on the folder is listed."""

_PASSING = {408, 425, 429}
_TRANSPORT = ("aiohttp", "aiobotocore", "azure", "botocore", "google", "http", "requests", "urllib3", "gcsfs", "ssl")
_LOGS = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs", "urllib3")
_given_up: Counter[str] = Counter()
_T = TypeVar("_T")


class Stat(NamedTuple):
    """What a store says of an object: bytes (-1 if it does not say), and a text that changes with the content."""

    size: int
    tag: str


def ask(url: Url, limit: int | None = None) -> Future[bytes]:
    """Start to read an object, at most its first `limit` bytes; a NotFoundError if there is none."""

    async def read(fs: Any, path: str) -> bytes:
        if url.is_web:
            return await _get(fs, path, limit)
        try:
            return await fs._cat_file(path, start=0, end=limit or 1 << 40)  # without it, s3fs asks first
        except Exception as error:
            if _status(error) == 416:  # the range of an empty object
                return b""
            raise

    return _begin(url, read)


def read(url: Url, limit: int | None = None) -> bytes:
    """Read an object, at most its first `limit` bytes; a NotFoundError if there is none."""
    return _wait(ask(url, limit))


def stat(urls: Sequence[Url]) -> list[Stat | None]:
    """Ask for every object; None where there is none. A folder of which many are wanted is listed instead."""
    wanted = Counter(url.parent for url in urls if not url.is_web)
    try:
        listed = listing([folder for folder, count in wanted.items() if count > MANY])
    except UnavailableError:
        raise
    except StorageError:  # who may read objects need not have the right to list them
        listed = {}

    async def one(url: Url) -> Stat | None:
        if url.parent in listed:
            return listed[url.parent].get(url.name)
        try:
            return _stat(await _tried(url, lambda fs, path: fs._info(path)))
        except NotFoundError:
            return None

    return _all(one, urls)


def listing(folders: Sequence[Url]) -> dict[Url, dict[str, Stat | None]]:
    """What is in each folder by its name, None for a folder; nothing where there is no such folder."""

    async def names(folder: Url) -> dict[str, Stat | None]:
        try:
            found = await _tried(folder, lambda fs, path: fs._ls(path, detail=True))
        except NotFoundError:
            return {}
        return {info["name"].rstrip("/").rpartition("/")[2]: _stat(info) for info in found}

    return dict(zip(folders, _all(names, folders), strict=True))


def below(folder: Url) -> list[Url]:
    """Every object below a folder, in order."""
    try:
        paths = _wait(_begin(folder, lambda fs, path: fs._find(path)))
    except NotFoundError:
        return []
    return sorted(Url(f"{folder.host}/{path.partition('/')[2]}") for path in paths)


def download(url: Url, to: Path) -> None:
    """Copy an object to a local file, whole."""

    async def get(fs: Any, path: str) -> None:
        expected = (await fs._info(path)).get("size")
        await fs._get_file(path, str(to))
        if expected is not None and to.stat().st_size != expected:
            raise ConnectionError("the body was cut off")

    _wait(_begin(url, get))


def upload(path: Path, url: Url, before: Stat | None) -> Stat:
    """Write a local file to an address that holds what it held `before`, and return what the store says of it then.

    Another object there is a StorageError, and stays. Stores that know conditions (S3, GCS, Azure for new objects, S3
    for replaced ones of less than 100 MB) compare and write in one step; others are asked just before.
    """
    taken = f"{url} was written by someone else meanwhile, and is left as it is; the new file is kept at {path}."
    if url.is_web:
        raise StorageError(
            f"{url} cannot be written: https:// addresses are only read. Name one of s3://, gs:// or az://."
        )
    if stat([url])[0] != before:
        raise StorageError(taken)
    condition: dict[str, Any] = {"mode": "create"} if before is None else {}
    if before is not None and SCHEMES[url.scheme] == "s3":
        condition = {"IfMatch": f'"{before.tag}"'}

    async def put(fs: Any, key: str) -> None:
        try:
            await fs._put_file(str(path), key, **condition)
        except Exception as error:
            if not (isinstance(error, FileExistsError) or _status(error) in (409, 412)):
                raise
            # An earlier attempt of ours, whose answer was lost, counts as someone else for the store.
            found = _stat(await fs._info(key))
            if found is None or found.tag != _md5(path):
                raise StorageError(taken) from None

    size = path.stat().st_size
    _wait(_begin(url, put))
    now = stat([url])[0]
    if now is None or now.size != size:
        raise StorageError(f"{url} does not have the {size:,} bytes that were written; {path} has them. Try again.")
    return now


def _start(work: Coroutine[Any, Any, _T]) -> Future[_T]:
    from fsspec.asyn import get_loop

    return asyncio.run_coroutine_threadsafe(work, get_loop())


def _begin(url: Url, job: Callable[[Any, str], Awaitable[_T]]) -> Future[_T]:
    _prepare(url)
    return _start(_tried(url, job))


def _wait(future: Future[_T]) -> _T:
    try:
        return future.result()
    except BaseException:  # Ctrl-C too: nobody waits for the answer any more
        future.cancel()
        raise


def _all(one: Callable[[Url], Awaitable[_T]], urls: Sequence[Url]) -> list[_T]:
    """One answer for each address, several being asked for at a time."""

    async def several(some: Sequence[Url], gate: asyncio.Semaphore) -> list[_T]:
        async def admitted(url: Url) -> _T:
            async with gate:
                return await one(url)

        tasks = [asyncio.ensure_future(admitted(url)) for url in some]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    if not urls:
        return []
    for url in {(url.scheme, url.host): url for url in urls}.values():
        _prepare(url)
    gate = asyncio.Semaphore(IN_FLIGHT)
    parts = (urls[start : start + 10_000] for start in range(0, len(urls), 10_000))  # a task takes memory
    return [found for part in parts for found in _wait(_start(several(part, gate)))]


async def _tried(url: Url, job: Callable[[Any, str], Awaitable[_T]]) -> _T:
    """Do a job, again if it fails in passing; whatever else ends it is an error of ours."""
    delay, attempts = FIRST_DELAY, OWN_RETRIES.get(SCHEMES[url.scheme], ATTEMPTS)
    for attempt in itertools.count(1):
        try:
            fs = _filesystem(url.scheme, keys(url), url.host)
            found = await job(fs, full(url) if url.is_web else fs._strip_protocol(url.address))
        except CxrfeatError:
            raise
        except Exception as error:
            problem = _problem(url, error)
            if not isinstance(problem, UnavailableError):
                raise problem from None
        else:
            _given_up[url.host] = 0
            return found
        if attempt == attempts:
            _given_up[url.host] += 1
            if _given_up[url.host] >= HOPELESS:
                raise StorageError(f"{url.host} does not answer: {problem} Try again later.")
            raise problem
        await asyncio.sleep(min(delay, LONGEST_DELAY) * random.uniform(0.5, 1.0))
        delay *= 2
    raise AssertionError


def _problem(url: Url, error: Exception) -> Exception:
    """What to raise for what a package raised: of ours, without a word of its message."""
    status, codes = _status(error), {_code(one) for one in _chain(error)}
    denied = isinstance(error, PermissionError) or status in (401, 403)
    # gcsfs says of a status 403 no more than this.
    if denied or str(error).startswith("Forbidden") or any("Credentials" in code for code in codes):
        return StorageError(
            f"access to {url} is denied{f' ({status})' if status else ''}: give credentials that may read it, in the "
            "environment or the store's own configuration, or check its rights."
        )
    if codes & {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"}:
        return StorageError(f"there is no bucket {url.host}.")
    if status in (404, 410) or (isinstance(error, FileNotFoundError) and status is None and not _broken(error)):
        return NotFoundError(f"there is no file {url}.")
    reason = f"status {status}" if status else type(_chain(error)[-1]).__name__
    if status in _PASSING or (status or 0) >= 500 or isinstance(error, TimeoutError) or (not status and _broken(error)):
        return UnavailableError(f"{url}: all attempts failed ({reason}).")
    if status or isinstance(error, ValueError | OSError):
        return StorageError(f"{url} cannot be used ({reason}): check the address, the region and the endpoint.")
    return error


def _broken(error: Exception) -> bool:
    """Whether something between here and the store failed, and no answer says what is wrong."""
    return any(
        not isinstance(one, FileNotFoundError | ValueError)
        and (isinstance(one, OSError | EOFError) or type(one).__module__.partition(".")[0] in _TRANSPORT)
        for one in _chain(error)
    )


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def _status(error: BaseException) -> int | None:
    """HTTP status of the answer that an error is about, wherever its package keeps it."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        about = response.get("ResponseMetadata", {}) if isinstance(response, Mapping) else {}
        # aiohttp's `code` is that of a parser which cannot go on, not a server's answer.
        names = ("status", "status_code", *(() if type(one).__module__.startswith("aiohttp") else ("code",)))
        for found in (about.get("HTTPStatusCode"), *(getattr(one, name, None) for name in names)):
            if str(found).isdecimal() and 100 <= int(str(found)) < 600:
                return int(str(found))
    return None


def _code(error: BaseException) -> str:
    """The store's own word for an error, else the name of its class."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
    return str(code or getattr(error, "error_code", None) or type(error).__name__)


def _stat(info: Mapping[str, Any]) -> Stat | None:
    if info.get("type") == "directory":
        return None
    names = ("ETag", "etag", "generation", "md5Hash", "Last-Modified", "last_modified", "LastModified", "updated")
    tag = next((str(info[name]) for name in names if info.get(name)), "")
    return Stat(-1 if info.get("size") is None else int(info["size"]), tag.strip('"'))


async def _get(fs: Any, address: str, limit: int | None) -> bytes:
    """Read by HTTP, no further than the limit, whatever the server sends."""
    session = await fs.set_session()
    async with session.get(fs.encode_url(address)) as answer:
        answer.raise_for_status()
        parts, size = [], 0
        async for part in answer.content.iter_chunked(1 << 18):
            parts.append(part)
            if limit is not None and (size := size + len(part)) >= limit:
                break
        return b"".join(parts)[:limit]


@cache
def _filesystem(scheme: str, user: tuple[str, str] | None, host: str) -> Any:
    """The file system of fsspec for a scheme; its own retries are off, since ours are for all stores."""
    import fsspec

    for name in _LOGS:  # at DEBUG these quote addresses with signatures, and session tokens
        log = logging.getLogger(name)
        log.setLevel(max(log.level, logging.INFO))
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if SCHEMES[scheme] == "s3":
        options["config_kwargs"] = {
            "max_pool_connections": IN_FLIGHT, "connect_timeout": SILENCE, "read_timeout": SILENCE,
            "retries": {"total_max_attempts": 1},
        }  # fmt: skip
        options |= {"key": user[0], "secret": user[1]} if user else {}
    if SCHEMES[scheme] == "https":
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        options["client_kwargs"] = {"trust_env": True, "timeout": patience}
    if SCHEMES[scheme] == "azure":  # the account, where the address names it
        options |= fsspec.get_filesystem_class(scheme)._get_kwargs_from_urls(f"{host}/")
    fs = fsspec.filesystem(scheme, **options)
    if SCHEMES[scheme] == "s3":
        fs.retries = 1
    return fs


def _prepare(url: Url) -> None:
    """Open the file system of an address, outside the event loop; a MissingExtraError if its package is missing."""
    try:
        _filesystem(url.scheme, keys(url), url.host)
    except ImportError as error:
        raise MissingExtraError(f"reading {url.scheme}://", SCHEMES[url.scheme]) from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
