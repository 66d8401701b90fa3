"""Embeddings to and from other tools: NumPy, Parquet and CSV out, NumPy and Parquet in. `cxrfeat.cache` uses these."""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._store import assembly
from cxrfeat._store.embedding_file import EmbeddingFile
from cxrfeat._store.lock import Lock
from cxrfeat.errors import CxrfeatError, EmbeddingFileError, NotFoundError

BATCH = 4096  # rows held at a time
MAX_SMALL, MAX_RATIO = 64 << 20, 50  # an array to import may unpack to that many bytes, or times its stored size


def format_of(name: str) -> tuple[Callable[..., None], bytes, tuple[str, ...]]:
    """Return what writes a format, and how its files begin and end (other zip archives begin as an `.npz` does)."""
    formats: dict[str, tuple[Callable[..., None], bytes, tuple[str, ...]]] = {
        "npz": (_to_npz, b"PK\x03\x04", (".npz",)),
        "parquet": (_to_parquet, b"PAR1", ()),
        "csv": (_to_csv, b"image_id,pass,e0", ()),
    }
    if name not in formats:
        raise EmbeddingFileError(f"{name!r} is not a format to export to; choose npz, parquet or csv.")
    return formats[name]


def read_ids(ids: str | Path | Sequence[str] | npt.NDArray[np.str_]) -> list[str]:
    """Return ids given as such, as a text file with one a line, or as a CSV with a column `image_id`."""
    if not isinstance(ids, str | Path):
        return [str(image_id) for image_id in ids]
    path = Path(ids)
    if not path.is_file():
        raise NotFoundError(f"no list of ids at {path}.")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = next(csv.reader(lines[:1]), [])
    if "image_id" in header:
        return [row["image_id"] for row in csv.DictReader(lines)]
    return [line for line in lines if line]


def read(
    source: str | Path | npt.NDArray[Any], array: str | None
) -> tuple[str, npt.NDArray[Any], list[str] | None, Recipe | None]:
    """Return the name, the embeddings, and if there are any the ids and the recipe, of a file or an array."""
    if not isinstance(source, str | Path):
        return "the array", source, None, None
    source = Path(source)
    if is_parquet(source):
        from cxrfeat._store.parquet import read_table

        return str(source), *read_table(source, array, max(MAX_SMALL, MAX_RATIO * source.stat().st_size)), None
    try:
        arrays = _headers(source) if zipfile.is_zipfile(source) else None
        found = np.load(source, allow_pickle=False, mmap_mode=None if arrays else "r")
        if arrays is None:
            return str(source), found, None, None
        name = array or _only_matrix(arrays, source)
        if name not in arrays:
            raise EmbeddingFileError(f"{source} has no array {name!r}; it has {', '.join(arrays)}.")
        with found:
            ids = [str(i) for i in found["image_id"]] if "image_id" in arrays else None
            recipe = Recipe.from_json(str(found["recipe"])) if "recipe" in arrays else None
            return str(source), found[name], ids, recipe
    except CxrfeatError:
        raise
    except Exception as error:  # NumPy and zipfile raise a dozen kinds on a damaged archive
        raise EmbeddingFileError(
            f"{source} is not a plain NumPy file (it is damaged, or needs unpickling): {error}."
        ) from error


def is_parquet(source: str | Path | npt.NDArray[Any]) -> bool:
    """Whether a source is a Parquet file."""
    if not isinstance(source, str | Path):
        return False
    if not Path(source).is_file():
        raise NotFoundError(f"no embeddings at {source}.")
    with Path(source).open("rb") as file:
        return file.read(4) == b"PAR1"


def copy(file: EmbeddingFile, out: Path, progress: Progress = silent) -> None:
    """Write all that a file holds to a new file of whatever format."""
    places = np.stack([np.zeros(len(file), np.int64), np.arange(len(file))], axis=1)
    with Lock(out) as lock, lock.writing():
        assembly.publish(out, file.header, [file], places, lock, progress)


def _headers(source: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of each array of an .npz; what would take far more memory than the file has bytes is refused."""
    found = {}
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as raw:
                version = np.lib.format.read_magic(raw)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(raw)
            size = max(entry.file_size, math.prod(shape) * dtype.itemsize)
            if size > max(MAX_SMALL, MAX_RATIO * entry.compress_size):
                raise EmbeddingFileError(
                    f"{source}: {entry.filename} would take {size:,} bytes, and is stored in {entry.compress_size:,}."
                )
            found[entry.filename.removesuffix(".npy")] = shape, dtype
    return found


def _only_matrix(arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]], source: Path) -> str:
    if "embeddings" in arrays:
        return "embeddings"
    found = [name for name, (shape, dtype) in arrays.items() if len(shape) in (2, 3) and dtype.kind == "f"]
    if len(found) != 1:
        raise EmbeddingFileError(f"{source} has no array 'embeddings'; name one of {', '.join(arrays)} with `array`.")
    return found[0]


def image_hashes(ids: Sequence[str], images: Mapping[str, Path]) -> npt.NDArray[np.uint8]:
    """SHA-256 of the image files that are there, uint8 (n, 32); zeros for the others."""
    out = np.zeros((len(ids), 32), dtype=np.uint8)
    for row, image_id in enumerate(ids):
        if image_id in images:
            out[row] = np.frombuffer(bytes.fromhex(files.sha256(images[image_id])), dtype=np.uint8)
    return out


def _to_npz(file: EmbeddingFile, part: Path, passes: Sequence[int], progress: Progress) -> None:
    beside = {
        "image_id": file.image_ids,
        "image_sha256": file.image_sha256(),
        "passes": np.array(passes),
        "recipe": np.array(file.recipe.to_json()),
    }
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, array in beside.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)
        with archive.open("embeddings.npy", "w", force_zip64=True) as out:
            shape = (len(passes), len(file), file.dim)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for number, pass_ in enumerate(passes):
                for rows, values in file.batches(passes=(pass_,), rows=BATCH):
                    out.write(values.tobytes())
                    progress(number * len(file) + rows.stop, len(passes) * len(file))


def _to_csv(file: EmbeddingFile, part: Path, passes: Sequence[int], progress: Progress) -> None:
    with part.open("w", newline="", encoding="utf-8") as text:
        out = csv.writer(text, lineterminator="\n")
        out.writerow(["image_id", "pass", *(f"e{k}" for k in range(file.dim))])
        for rows, values in file.batches(passes=passes, rows=256):
            for number, pass_ in enumerate(passes):
                for image_id, row in zip(file.image_ids[rows].tolist(), values[number].tolist(), strict=True):
                    out.writerow([image_id, pass_, *(f"{value:.9g}" for value in row)])
            progress(rows.stop, len(file))


def _to_parquet(file: EmbeddingFile, part: Path, passes: Sequence[int], progress: Progress) -> None:
    from cxrfeat._store import parquet

    recipe = file.header.recipe
    if len(passes) < file.passes and [*passes] == [*range(len(passes))]:  # the same file with fewer passes
        recipe = replace(file.recipe, passes=len(passes) - 1).to_json()

    def stretches() -> Iterator[npt.NDArray[np.float32]]:
        for rows, values in file.batches(passes=passes, rows=BATCH):
            yield values
            progress(rows.stop, len(file))

    header = replace(file.header, recipe=recipe, shape=(len(passes), len(file), file.dim))
    parquet.write(part, header, stretches(), passes)
