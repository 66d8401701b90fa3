"""Embeddings to and from other tools: NumPy, Parquet and CSV out, NumPy in."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._store.embedding_file import EmbeddingFile
from cxrfeat._store.verify import find_images
from cxrfeat._store.writer import Writer
from cxrfeat.errors import CxrfeatError, EmbeddingFileError, MissingExtraError, NotFoundError, RecipeError

Format = Literal["npz", "parquet", "csv"]
_BEGINS = {"npz": b"PK\x03\x04", "parquet": b"PAR1", "csv": b"image_id,pass,e0"}
BATCH = 4096  # rows held at a time
MAX_SMALL, MAX_RATIO = 64 << 20, 50  # an array to import may unpack to that many bytes, or times its stored size


def export(
    path: Path,
    out: Path,
    to: Format | None = None,
    passes: Sequence[int] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write a file's rows for another tool, a batch at a time; see `cxrfeat.cache.export`."""
    kind = str(to or out.suffix.lstrip(".").lower())
    write = {"npz": _to_npz, "parquet": _to_parquet, "csv": _to_csv}.get(kind)
    if write is None:
        raise EmbeddingFileError(f"{kind!r} is not a format to export to; choose npz, parquet or csv.")
    suffixes = [".npz"] if kind == "npz" else []  # other zip archives begin alike
    files.check_output(out, suffixes=suffixes, begins=_BEGINS[kind], inputs=[path], overwrite=overwrite)
    with EmbeddingFile.open(path) as file:
        chosen = list(range(file.passes)) if passes is None else list(passes)
        with files.atomic_path(out) as part:
            write(file, part, chosen, progress)
    return out


def import_(
    source: Path | npt.NDArray[Any],
    out: Path,
    recipe: Recipe | None = None,
    image_ids: Sequence[str] | None = None,
    images: Path | None = None,
    array: str | None = None,
    progress: Progress = silent,
) -> None:
    """Make an embedding file of another tool's embeddings; see `cxrfeat.cache.import_`."""
    if out.exists():
        raise EmbeddingFileError(f"{out} exists already; name a new file.")
    name = "the array" if isinstance(source, np.ndarray) else str(source)
    values, ids, found = (source, None, None) if isinstance(source, np.ndarray) else _load(source, array)
    if values.ndim not in (2, 3) or values.dtype.kind != "f" or 0 in values.shape:
        raise EmbeddingFileError(
            f"{name} has embeddings of shape {values.shape}, {values.dtype}; floats of (images, dim) or "
            "(passes, images, dim) are needed."
        )
    recipe = recipe or found
    if recipe is None:
        raise RecipeError(f"{name} does not say what made it; give the `backbone`, `weights` and `preprocessing`.")
    ids = list(map(str, image_ids)) if image_ids is not None else ids
    if ids is None:
        raise EmbeddingFileError(f"{name} has no array 'image_id'; give `ids`.")
    values = values[None] if values.ndim == 2 else values
    if len(ids) != values.shape[1]:
        raise EmbeddingFileError(f"{len(ids):,} ids for {values.shape[1]:,} embeddings in {name}; every row needs one.")
    if recipe.passes + 1 != len(values):
        raise RecipeError(f"{name} has {len(values)} renderings, its recipe {recipe.passes} augmented and pass 0.")
    paths = find_images(images, ids) if images else {}
    made = {"imported": name if isinstance(source, np.ndarray) else source.name}
    with Writer.open(out, recipe, values.shape[2], made, segment_rows=BATCH) as writer:
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            writer.append(some, _hashes(some, paths), values[:, start : start + BATCH].astype(np.float32))
            progress(min(start + BATCH, len(ids)), len(ids))
        writer.publish(ids)


def read_ids(path: Path) -> list[str]:
    """Read a list of ids: a text file with one a line, or a CSV with a column `image_id`."""
    if not path.is_file():
        raise NotFoundError(f"no list of ids at {path}.")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = next(csv.reader(lines[:1]), [])
    if "image_id" in header:
        return [row["image_id"] for row in csv.DictReader(lines)]
    return [line for line in lines if line]


def _load(source: Path, array: str | None) -> tuple[npt.NDArray[Any], list[str] | None, Recipe | None]:
    """Return embeddings, and ids and recipe if there are any, of a NumPy file."""
    if not source.is_file():
        raise NotFoundError(f"no embeddings at {source}.")
    try:
        arrays = _headers(source) if zipfile.is_zipfile(source) else None
        found = np.load(source, allow_pickle=False, mmap_mode=None if arrays else "r")
        if arrays is None:
            return found, None, None
        name = array or _only_matrix(arrays, source)
        if name not in arrays:
            raise EmbeddingFileError(f"{source} has no array {name!r}; it has {', '.join(arrays)}.")
        with found:
            ids = [str(i) for i in found["image_id"]] if "image_id" in arrays else None
            recipe = Recipe.from_json(str(found["recipe"])) if "recipe" in arrays else None
            return found[name], ids, recipe
    except CxrfeatError:
        raise
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise EmbeddingFileError(
            f"{source} is not a plain NumPy file (it is damaged, or needs unpickling): {error}."
        ) from error


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


def _hashes(ids: Sequence[str], images: Mapping[str, Path]) -> npt.NDArray[np.uint8]:
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
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())
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
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("Parquet", "parquet") from error
    fields = [("image_id", pa.string()), ("pass", pa.int32()), ("embedding", pa.list_(pa.float32(), file.dim))]
    about = {"cxrfeat_recipe": file.recipe.to_json(), "cxrfeat_provenance": json.dumps(file.provenance)}
    with pq.ParquetWriter(part, pa.schema(fields, metadata=about)) as out:
        for rows, values in file.batches(passes=passes, rows=BATCH):
            for number, pass_ in enumerate(passes):
                ids = pa.array(file.image_ids[rows].tolist())
                flat = pa.FixedSizeListArray.from_arrays(pa.array(values[number].ravel()), file.dim)
                columns = [ids, pa.array([pass_] * len(ids), pa.int32()), flat]
                out.write_table(pa.table(columns, schema=pa.schema(fields, metadata=about)))
            progress(rows.stop, len(file))
