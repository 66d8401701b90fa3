"""Embeddings to and from other tools: NumPy, Parquet and CSV out, NumPy in."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._store.reader import EmbeddingFile
from cxrfeat._store.writer import Writer
from cxrfeat.errors import EmbeddingFileError, MissingExtraError, NotFoundError, RecipeError

Format = Literal["npz", "parquet", "csv"]
BATCH = 4096  # rows held at a time


def export(
    path: str | Path,
    out: str | Path,
    to: Format | None = None,
    passes: Sequence[int] | None = None,
    progress: Progress = silent,
) -> Path:
    """Write a file's rows for another tool, a batch at a time.

    `npz` holds `embeddings` float32 (passes, images, dim), `image_id` (text), `image_sha256` uint8 (images, 32),
    `passes` and `recipe` (JSON); nothing is pickled. `parquet` and `csv` have one row per image and pass: `image_id`,
    `pass`, and a fixed-size list `embedding` or columns `e0`, `e1`, ... with nine digits, which give back each float32.

    Parameters
    ----------
    path, out : str or Path
        The embedding file, and what to write.
    to : {"npz", "parquet", "csv"}, optional
        By default the ending of `out`.
    passes : sequence of int, optional
        By default all.
    progress : Progress
        Told of rows written.

    Raises
    ------
    EmbeddingFileError
        If the format or a pass is unknown, or the file is damaged.
    MissingExtraError
        If Parquet is asked for without pyarrow.
    """
    out = Path(out)
    to = to or out.suffix.lstrip(".")  # type: ignore[assignment]
    write = {"npz": _to_npz, "parquet": _to_parquet, "csv": _to_csv}.get(str(to))
    if write is None:
        raise EmbeddingFileError(f"{to!r} is not a format to export to; there are npz, parquet and csv.")
    with EmbeddingFile.open(path) as file:
        chosen = list(range(file.passes)) if passes is None else list(passes)
        with files.atomic_path(out) as part:
            write(file, part, chosen, progress)
    return out


def import_(
    source: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    image_ids: Sequence[str] | None = None,
    images: Mapping[str, Path] | None = None,
    array: str | None = None,
    progress: Progress = silent,
) -> int:
    """Make an embedding file of another tool's embeddings.

    Parameters
    ----------
    source : str or Path
        An `.npz`, or an `.npy` with `image_ids`: float32 or float64 (images, dim) or (passes, images, dim).
    out : str or Path
        The embedding file; it must not exist.
    recipe : Recipe, optional
        What made them; not needed where `source` has one (an export of ours).
    image_ids : sequence of str, optional
        Ids of the rows; by default the array `image_id` of `source`.
    images : mapping of image id to path, optional
        Hash these, so that an extraction knows the images again; without them the hashes are zero, which means unknown.
    array : str, optional
        Name of the embeddings in an `.npz`; by default `embeddings`, else the only array with two or three axes.
    progress : Progress
        Told of rows written.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    NotFoundError
        If `source` is not there.
    EmbeddingFileError
        If arrays are missing, shapes do not fit, values are not finite, or `out` exists.
    RecipeError
        If no recipe is known, or its passes do not fit the array.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise EmbeddingFileError(f"{out} exists already; name a new file.")
    values, ids, found = _load(source, array)
    recipe = recipe or found
    if recipe is None:
        raise RecipeError(f"{source} does not say what made it; give the backbone, weights and preprocessing.")
    ids = list(image_ids) if image_ids is not None else ids
    if ids is None:
        raise EmbeddingFileError(f"{source} has no array 'image_id'; give a list of ids.")
    values = values[None] if values.ndim == 2 else values
    if len(ids) != values.shape[1]:
        raise EmbeddingFileError(
            f"{len(ids):,} ids for {values.shape[1]:,} embeddings in {source}; every row needs one."
        )
    if recipe.passes + 1 != len(values):
        raise RecipeError(f"{source} has {len(values)} renderings, its recipe {recipe.passes} augmented and pass 0.")
    with Writer.open(out, recipe, values.shape[2], {"imported": source.name}, part_rows=BATCH) as writer:
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            writer.append(some, _hashes(some, images), values[:, start : start + BATCH].astype(np.float32))
            progress(min(start + BATCH, len(ids)), len(ids))
        writer.publish(ids)
    return len(ids)


def read_ids(path: str | Path) -> list[str]:
    """Read a list of ids: a text file with one a line, or a CSV with a column `image_id`.

    Raises
    ------
    NotFoundError
        If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"no list of ids at {path}.")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = next(csv.reader(lines[:1]), [])
    if "image_id" in header:
        return [row["image_id"] for row in csv.DictReader(lines)]
    return [line for line in lines if line]


def ids_of(source: str | Path) -> list[str]:
    """Return the ids that a NumPy file brings along; none if it brings no array `image_id`."""
    return _load(Path(source), None)[1] or []


def _load(source: Path, array: str | None) -> tuple[npt.NDArray[Any], list[str] | None, Recipe | None]:
    if not source.is_file():
        raise NotFoundError(f"no embeddings at {source}.")
    try:
        found = np.load(source, allow_pickle=False, mmap_mode="r" if source.suffix == ".npy" else None)
    except (ValueError, OSError, EOFError) as error:
        raise EmbeddingFileError(f"{source} is not a plain NumPy file: {error}.") from error
    if isinstance(found, np.ndarray):
        return _checked(found, source), None, None
    with found:
        try:
            name = array or _only_matrix(found, source)
            if name not in found.files:
                raise EmbeddingFileError(f"{source} has no array {name!r}; it has {', '.join(found.files)}.")
            ids = [str(i) for i in found["image_id"]] if "image_id" in found.files else None
            recipe = Recipe.from_json(str(found["recipe"])) if "recipe" in found.files else None
            return _checked(found[name], source), ids, recipe
        except (ValueError, zipfile.BadZipFile) as error:
            if isinstance(error, RecipeError):
                raise
            raise EmbeddingFileError(f"{source} cannot be read without unpickling, or is damaged: {error}.") from error


def _only_matrix(found: Any, source: Path) -> str:
    if "embeddings" in found.files:
        return "embeddings"
    names = [name for name in found.files if found[name].ndim in (2, 3) and found[name].dtype.kind == "f"]
    if len(names) != 1:
        raise EmbeddingFileError(
            f"{source} has no array 'embeddings'; name one of {', '.join(found.files)} with --array."
        )
    return str(names[0])


def _checked(values: npt.NDArray[Any], source: Path) -> npt.NDArray[Any]:
    if values.ndim not in (2, 3) or values.dtype.kind != "f" or 0 in values.shape:
        raise EmbeddingFileError(
            f"{source} has embeddings of shape {values.shape}, {values.dtype}; floats of (images, dim) or "
            "(passes, images, dim) are needed."
        )
    return values


def _hashes(ids: Sequence[str], images: Mapping[str, Path] | None) -> npt.NDArray[np.uint8]:
    out = np.zeros((len(ids), 32), dtype=np.uint8)
    for row, image_id in enumerate(ids):
        if images is not None and image_id in images:
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
