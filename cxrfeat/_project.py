"""A project folder: `studies/`, `cache/`, `runs/`, and what is taken there if nothing is named.

A default is logged, so that it is never silent. The record that a study was checked for copies has a hash of every
image id with its patient, and the pairs found: it holds for any part of the study, however it is split, and no longer
if an image or a patient was added or changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrfeat import _parquet as parquet
from cxrfeat._files import write_atomically
from cxrfeat._remote import Place, Url, local, place
from cxrfeat._store import names
from cxrfeat.errors import CxrfeatError, HeadError, NotFoundError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cxrfeat._recipe import Recipe
    from cxrfeat._study import Study

_log = logging.getLogger(__name__)

STUDIES, CACHE, RUNS = Path("studies"), Path("cache"), Path("runs")


def study_path(given: str | Place | None = None, embedded: bool = False) -> Place:
    """Return the path of what is named as a study, else of the only study file under `studies/`.

    A name without a folder or an ending is looked up under `studies/` first; what is not there is taken as a path.
    With `embedded`, the default is the study of the newest embeddings under `cache/`.

    Raises
    ------
    NotFoundError
        If none is named and there is not exactly one.
    """
    if given:
        if isinstance(path := place(given), Url):
            return path
        finished = None if str(given) != path.name or path.suffix else study_file(str(given))
        if finished is None:
            return path
        if path.exists():
            _log.info("study: %s", finished)
        return finished
    if embedded and (newest := next(_embedded(), None)) is not None:
        _log.info("study: %s (of the newest embeddings)", newest)
        return newest
    found = study_files()
    if not found:
        raise NotFoundError("No study found. Run `cxrfeat study build`, or name `sample`, the embedded one.")
    if len(found) > 1:
        raise NotFoundError(f"There are several studies, name one: {', '.join(path.stem for path in found)}.")
    _log.info("study: %s", found[0])
    return found[0]


def study_files(folder: Path = STUDIES) -> list[Path]:
    """The study files in a folder."""
    return sorted(path for ending in (".csv", parquet.ENDING) for path in folder.glob(f"*{ending}"))


def study_file(name: str) -> Path | None:
    """The file under `studies/` of a study of this name, None if there is none; a NotFoundError if there are two."""
    found = [path for ending in (".csv", parquet.ENDING) if (path := STUDIES / f"{name}{ending}").is_file()]
    if len(found) > 1:
        raise NotFoundError(f"There are two studies of the name {name!r}, {found[0]} and {found[1]}: name the file.")
    return found[0] if found else None


def embedding_path(
    given: str | Place | None = None,
    study: Study | None = None,
    recipe: Recipe | None = None,
    backbone: str | None = None,
) -> Path:
    """Return the embedding file named, else the newest under `cache/`; of a study, the newest that fits.

    A study's are those with all of its images, its own default files first; a recipe's have the same pass 0.
    """
    if given:
        return local(given)
    best: dict[int, list[Path]] = {}
    for path in _newest_first(names.embedding_files(CACHE)):
        rank = _rank(path, study, recipe, backbone) if study is not None else 0
        if rank is not None:
            best.setdefault(rank, []).append(path)
    pattern = f"{study.name}-{recipe.backbone if recipe else backbone or '*'}-*" if study is not None else "*"
    where = CACHE / (pattern + names.SUFFIX)
    return _first(best[min(best)] if best else [], "embedding file", where, "cxrfeat extract")


def embedding_paths(embeddings: Any, study: Study, backbones: str | Sequence[str] | None = None) -> list[Path]:
    """Paths of embedding files given as paths or as objects with a `path`, one or several.

    By default the study's newest, or the newest of each backbone named.
    """
    if embeddings is None or (isinstance(embeddings, list | tuple) and not embeddings):
        names: Sequence[str | None] = [backbones] if isinstance(backbones, str) else backbones or [None]
        return [embedding_path(None, study, backbone=name) for name in names]
    if backbones:
        raise HeadError("`backbone` chooses embedding files and `embeddings` names them; give one of them.")
    given = list(embeddings) if isinstance(embeddings, list | tuple) else [embeddings]
    return [local(getattr(one, "path", one)) for one in given]


def _rank(path: Path, study: Study, recipe: Recipe | None, backbone: str | None) -> int | None:
    """How well an embedding file fits, 0 best; None if it does not."""
    from cxrfeat._store import EmbeddingFile  # not above: it brings h5py

    try:
        with EmbeddingFile.open(path) as file:
            if recipe is not None and file.recipe.pass0 != recipe.pass0:
                return None
            if backbone not in (None, file.recipe.backbone):
                return None
            own = _study_name(path, file.recipe) == study.name
            lacking = {*study.ids[~file.has(study.ids)].tolist()}
            whole = lacking <= {image_id for image_id, _, _ in file.failed}
    except CxrfeatError:
        return None
    return (0 if own else 1) if whole else 2 if own else None


def run_path(given: str | Path | None = None) -> Path:
    """Return the run folder named, else the newest under `runs/`."""
    if given:
        path = Path(given)
        return path if path.exists() or not (RUNS / path).exists() else RUNS / path
    newest = _newest_first([folder / "head.json" for folder in run_folders(RUNS)])
    return _first([path.parent for path in newest], "run", RUNS / "*", "cxrfeat fit-head")


def run_folders(folder: Path) -> list[Path]:
    """The runs in a folder, with those that a process left aside when it died."""
    for aside in folder.glob(".*.old"):
        settle(folder / aside.name[1:-4])
    return [path.parent for path in folder.glob("[!.]*/head.json")]


def settle(run: Path) -> None:
    """Finish what a process that died while replacing a run has begun: the old run goes back, or is removed."""
    aside = aside_of(run)
    if not aside.exists():
        return
    if run.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        with suppress(OSError):  # another process was faster
            aside.rename(run)


def aside_of(run: Path) -> Path:
    """Where the old run is while a new one takes its place."""
    return run.parent / f".{run.name}.old"


def _newest_first(found: list[Path]) -> list[Path]:
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _first(found: list[Path], what: str, where: Path, command: str) -> Path:
    if not found:
        raise NotFoundError(f"No {what} found at {where}. Run `{command}`.")
    _log.info("%s: %s%s", what, found[0], f" (the newest of {len(found)})" if len(found) > 1 else "")
    return found[0]


def _study_name(path: Path, recipe: Recipe) -> str:
    """Name of the study whose default embedding file this is; empty if it is not a default name."""
    found = re.fullmatch(rf"(.+)-{re.escape(recipe.backbone)}-{recipe.sha256[:8]}(-\d+)?", path.stem)
    return found[1] if found else ""


def _embedded() -> Iterator[Path]:
    """Study files of the embeddings under `cache/`, newest first."""
    from cxrfeat._store import EmbeddingFile  # not above: it brings h5py

    for path in _newest_first(names.embedding_files(CACHE)):
        try:
            with EmbeddingFile.open(path) as file:
                name = _study_name(path, file.recipe)
        except CxrfeatError:
            continue
        if name and (file_ := study_file(name)):
            yield file_
        elif name == "sample":
            yield Path(name)


def leaks_folder(study: Study) -> Path:
    """The folder of the copies found in a study of this name."""
    return STUDIES / f"{study.name}.leaks"


def record_check(study: Study, pairs: list[tuple[str, str]], about: dict[str, Any]) -> Path:
    """Record that a study was checked, and which pairs of images of two patients are copies."""
    found = {
        "format": "cxrfeat-leak-check",
        "format_version": 1,
        "study": study.name,
        "study_sha256": study.sha256,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "pairs": pairs,
        "images": base64.b64encode(_hashes(study).tobytes()).decode(),
    }
    return write_atomically(leaks_folder(study) / "leaks.json", json.dumps(found, indent=1) + "\n")


def remind(study: Study) -> None:
    """Log that a study was never checked, or which copies of another patient's image are still in another split."""
    try:
        found = json.loads((leaks_folder(study) / "leaks.json").read_text(encoding="utf-8"))
        import numpy as np  # not above: a command's help imports none of it

        known = np.frombuffer(base64.b64decode(found["images"]), "<u8")
        checked = found["format"] == "cxrfeat-leak-check" and bool(np.isin(_hashes(study), known).all())
        pairs = [(str(a), str(b)) for a, b in found["pairs"]] if checked else []
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # missing, damaged, or another tool's
        checked, pairs = False, []
    if not checked:
        _log.info(
            "study %r was not checked for copies of one image under two patients; `cxrfeat study leaks` does it.",
            study.name,
        )
    named = study.table[study.table["image_id"].isin({image_id for pair in pairs for image_id in pair})]
    split = dict(zip(named["image_id"], named["split"], strict=True))
    apart = [(a, b) for a, b in pairs if a in split and b in split and split[a] != split[b]]
    if apart:
        _log.warning(
            "leakage in study %r: %d pairs of copies are in two splits, such as %s and %s; %s lists them.",
            study.name, len(apart), *apart[0], leaks_folder(study) / "drop.txt",
        )  # fmt: skip


def _hashes(study: Study) -> npt.NDArray[np.uint64]:
    """64-bit hashes of every image id with its patient, rising."""
    import numpy as np

    rows = zip(study.table["image_id"], study.table["patient_id"], strict=True)
    each = (hashlib.blake2b(f"{i}\x1f{p}".encode(), digest_size=8).digest() for i, p in rows)
    return np.unique(np.fromiter((int.from_bytes(one, "little") for one in each), "<u8", len(study)))
