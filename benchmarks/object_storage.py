"""Films in a bucket whose every answer takes 50 ms, beside the same films on the disk.

A small S3 server of our own runs in another process: it signs nothing, computes nothing, and waits before each answer.
The extractions take turns in one process, and what is compared is the steady state: from the first fifth to the end.
`one at a time` is an extraction without reading ahead.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import harness
import pandas as pd

from cxrfeat._extract.ahead import Ahead

AHEAD = Ahead.batch
CASES = [("densenet121", 32, 0.05), ("densenet121", 224, 0.05)]
HEAD = 'HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nETag: "{tag}"\r\nLast-Modified: {date}\r\n{more}\r\n'
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


async def serve(folder: Path, delay: float) -> None:
    """Serve a folder as the bucket `films`: GetObject with ranges, HeadObject and ListObjectsV2 in one page."""
    tags = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    listed = "".join(
        f'<Contents><Key>{name}</Key><Size>{(folder / name).stat().st_size}</Size><ETag>"{tag}"</ETag>'
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for name, tag in tags.items()
    )
    page = (
        f"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>{len(tags)}</KeyCount>{listed}</ListBucketResult>"
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            method, target, _ = line.decode().split()
            headers = {}
            while line := (await reader.readline()).decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            await asyncio.sleep(delay)
            parts = urlsplit(target)
            name = unquote(parts.path).removeprefix("/films").strip("/")
            status, more, tag = 200, "", tags.get(name, "")
            if not name:
                body = page.encode() if "list-type" in parse_qs(parts.query) else b""
            elif name in tags:
                body = (folder / name).read_bytes()
                if "range" in headers:
                    status, more = 206, f"Content-Range: bytes 0-{len(body) - 1}/{len(body)}\r\n"
            else:
                status, body = 404, b""
            writer.write(HEAD.format(status=status, length=len(body), tag=tag, date=DATE, more=more).encode())
            writer.write(b"" if method == "HEAD" else body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def rate(study: Path, out: Path, backbone: str, size: int) -> float:
    """Images/s of an extraction, from the first fifth to the end."""
    import cxrfeat as cxr

    marks: list[tuple[int, float]] = []

    def progress(done: int, total: int, *_: object) -> None:
        marks.append((done, time.perf_counter()))

    result = cxr.extract(study, out=out, backbone=backbone, weights="random:0", size=size, progress=progress)
    assert result.extracted == result.images
    marks = [mark for mark in marks if mark[0] >= result.images / 5]
    return (marks[-1][0] - marks[0][0]) / (marks[-1][1] - marks[0][1])


def one_case(backbone: str, size: int, delay: float, files: list[Path], repeats: int, folder: Path) -> dict:
    films = folder / "films"
    films.mkdir()
    for file in files:
        shutil.copy(file, films)
    names = [file.name for file in files]
    for where, root in (("disk", str(films)), ("bucket", "s3://films")):
        table = {"image_id": names, "path": [f"{root}/{n}" for n in names], "patient_id": names, "split": "train"}
        pd.DataFrame({**table, "Mass": [0, 1] * (len(names) // 2) + [0] * (len(names) % 2)}).to_csv(
            folder / f"{where}.csv", index=False
        )
    from cxrfeat._remote import transfer

    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    found: dict[str, list[float]] = {"disk": [], "bucket at 0 ms": [], "bucket": [], "one at a time": []}
    servers = {"bucket at 0 ms": started(films, 0.0), "bucket": started(films, delay)}
    try:
        rate(folder / "disk.csv", folder / "warm.h5", backbone, size)
        for turn in range(repeats):
            for way in ("disk", "bucket at 0 ms", "bucket"):
                os.environ["AWS_ENDPOINT_URL"] = servers[way][1] if way in servers else ""
                transfer._filesystem.cache_clear()
                study = folder / ("disk.csv" if way == "disk" else "bucket.csv")
                found[way].append(rate(study, folder / f"{way}-{turn}.h5", backbone, size))
        Ahead.batch = lambda self, start, stop: list(self._items[start:stop])  # type: ignore[method-assign]
        found["one at a time"].append(rate(folder / "bucket.csv", folder / "slow.h5", backbone, size))
    finally:
        Ahead.batch = AHEAD  # type: ignore[method-assign]
        for server, _ in servers.values():
            server.terminate()
            server.wait()

    def ratio(one: str, other: str) -> float:
        return round(harness.median([a / b for a, b in zip(found[one], found[other], strict=True)]), 3)

    row = {"backbone": backbone, "size": size, "latency ms": round(1000 * delay), "images": len(files)}
    row |= {f"{way}, images/s": round(harness.median(values), 1) for way, values in found.items()}
    return row | {"with / without latency": ratio("bucket", "bucket at 0 ms"), "bucket / disk": ratio("bucket", "disk")}


def started(films: Path, delay: float) -> tuple[subprocess.Popen, str]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, __file__, "--serve", films, str(delay)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, f"http://127.0.0.1:{int(server.stdout.readline())}"


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=400, help="images")
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    files, what = harness.image_files(given.images, given.number)
    rows = []
    for backbone, size, delay in CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(one_case(backbone, size, delay, files, given.repeats, Path(folder)))
        harness.save(
            "object_storage",
            "50 ms of latency a film cost nothing at steady state",
            rows,
            f"Images: {what}, from S3 servers of our own in other processes, which take part of the same cores, as the "
            f"requests do: 1.6 ms of a core each. The ways take turns, medians of {given.repeats}. At 32 pixels the "
            "network is as fast as decoding, and hides nothing. One at a time: once, without reading ahead.",
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(Path(sys.argv[2]), float(sys.argv[3])))
    else:
        main()
