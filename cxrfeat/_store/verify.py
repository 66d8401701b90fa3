"""Whether an embedding file is what was written, block by block; with images, whether they are still the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrfeat import _remote as remote
from cxrfeat._precision import PRECISIONS
from cxrfeat._progress import Progress, silent
from cxrfeat._progress import part as part_of
from cxrfeat._recipe import Recipe
from cxrfeat._remote import Place
from cxrfeat._store import names, rows
from cxrfeat._store.collection import Collection, Manifest
from cxrfeat._store.embedding_file import EmbeddingFile, open_damaged
from cxrfeat._store.protocols import store_of
from cxrfeat.errors import EmbeddingFileError, NotFoundError

# Recipe and image paths -> pass 0 embeddings, float32 (n, dim).
Recompute = Callable[[Recipe, Sequence[Place]], npt.NDArray[np.float32]]
TOLERANCE = 1e-4  # of the largest value of a row: what engines agree within, in float32


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: a sentence, and the images concerned, as far as known.

    `kind` is `file` (it cannot be read as a whole), `content` (a hash does not match), `values` (NaN or infinity),
    `images` (an image changed or is gone) or `recomputed` (an embedding is another one today).
    """

    kind: str
    text: str
    image_ids: tuple[str, ...] = ()


@dataclass
class Verification:
    """What `verify` checked and found in a file: `ok` if nothing is wrong; `notes` are worth knowing and not wrong."""

    path: Path
    rows: int = 0
    sound: int = 0
    findings: list[Finding] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add(self, kind: str, text: str, image_ids: Sequence[str] = ()) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, text, tuple(image_ids)))

    def __str__(self) -> str:
        lines = [f"checked: {', '.join(self.looked_at)}", *self.notes]
        for found in self.findings:
            lines += [f"{found.kind}: {found.text}", *rows.listing(found.image_ids)]
        verdict = "" if self.ok else f"; {len(self.findings)} findings; `cxrfeat cache repair` keeps the sound rows"
        return "\n".join([*lines, f"{self.path}: {self.sound:,} of {self.rows:,} rows are sound{verdict}."])


def verify(
    path: Path,
    images: Mapping[str, Place] | None = None,
    recompute: Recompute | None = None,
    sample: int = 32,
    seed: int = 0,
    progress: Progress = silent,
) -> Verification:
    """Check structure, version, shapes, unique ids, hashes and finiteness of every row; see `cxrfeat.cache.verify`.

    `images` maps ids to image files, whose hashes are compared; `recompute` gives embeddings for a random `sample` of
    them. Memory stays at one block of rows.
    """
    if recompute is not None and images is None:
        raise EmbeddingFileError("recomputing embeddings needs the images; name their folder or study.")
    if path.is_dir():
        return _verify_collection(path, images, recompute, sample, seed, progress)
    report = Verification(path, looked_at=["format and version", "shapes and types", "recipe"])
    try:
        file = open_damaged(path)
    except NotFoundError:
        raise
    except EmbeddingFileError as error:
        report.add("file", str(error))
        return report
    with file:
        report.rows = len(file)
        report.looked_at += ["ids unique", "SHA-256 of every block of rows", "every value finite", "recovery index"]
        for problem in file.problems:
            report.add("content", f"{path}: {problem}.")
        check_rows(file, report, progress)
        if images is not None:
            _check_images(file, images, report, progress)
        if images is not None and recompute is not None:
            _check_values(file, images, recompute, sample, seed, report)
    if outside := store_of(path).damage_outside(path):
        report.add("content", f"{path}: {outside}.")
    if names.journal(path).is_dir():
        report.notes.append(f"an unfinished extraction is in {names.journal(path)}; `cxrfeat extract` resumes it.")
    return report


def _verify_collection(
    path: Path,
    images: Mapping[str, Place] | None,
    recompute: Recompute | None,
    sample: int,
    seed: int,
    progress: Progress,
) -> Verification:
    """Check every member as a file, and that together they are what was collected."""
    report = Verification(path)
    try:
        members = Manifest.read(path).members
    except EmbeddingFileError as error:
        report.add("file", str(error))
        return report
    total, done = sum(member.images for member in members), 0
    for member in members:
        if (path / member.file).is_file():
            share = -(-sample * member.images // max(total, 1))
            found = verify(path / member.file, images, recompute, share, seed, part_of(progress, done, total))
            report.rows, report.sound = report.rows + found.rows, report.sound + found.sound
            report.findings += [replace(one, text=f"{member.file}: {one.text}") for one in found.findings]
            report.notes += [f"{member.file}: {note}" for note in found.notes]
            report.looked_at = found.looked_at
        done += member.images
    if report.ok:  # else it is said already
        try:
            Collection(path).close()
        except EmbeddingFileError as error:
            report.add("file", str(error))
    report.looked_at = [f"{len(members):,} files", *report.looked_at, "ids unique across files"]
    return report


def find_images(folder: Path, image_ids: Sequence[str] | npt.NDArray[np.str_]) -> dict[str, Path]:
    """Find image files under a folder by their id: a file's name, or its name without ending."""
    if not folder.is_dir():
        raise NotFoundError(f"no folder of images at {folder}.")
    wanted = set(map(str, image_ids))
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.name if path.name in wanted else path.stem
        if name in wanted:
            found.setdefault(name, path)
    if wanted and not found:
        raise NotFoundError(f"none of the {len(wanted):,} images is under {folder}: files are found by name.")
    return found


def check_rows(file: EmbeddingFile, report: Verification, progress: Progress) -> list[int]:
    """Report blocks that are not what was written, values that are not finite and ids twice; return the sound rows."""
    sound: dict[str, int] = {}
    doubled: list[str] = []
    for number, part in rows.blocks(len(file)):
        ids = file.image_ids[part]
        try:
            found = file._block(number)
            good = rows.finite(found.embeddings) if file._sound(number, found) else None
        except (OSError, ValueError, IndexError, TypeError, OverflowError):
            good = None
        if good is None:
            report.add("content", f"rows {part.start} to {part.stop - 1} do not match their checksum.", ids.tolist())
            good = np.zeros(len(ids), bool)
        elif not good.all():
            report.add("values", f"{(~good).sum()} rows hold NaN or infinity.", ids[~good].tolist())
        for k in np.flatnonzero(good).tolist():
            if sound.setdefault(str(ids[k]), part.start + k) != part.start + k:
                doubled.append(str(ids[k]))
        progress(part.stop, len(file))
    if doubled:
        report.add("content", f"{len(doubled)} image ids are duplicated.", doubled)
    report.sound = len(sound)
    return list(sound.values())


def _check_images(file: EmbeddingFile, images: Mapping[str, Place], report: Verification, progress: Progress) -> None:
    changed, gone, unknown = [], [], 0
    for row, (image_id, hash_) in enumerate(zip(file.image_ids.tolist(), file.image_sha256(), strict=True)):
        path = images.get(image_id)
        if path is None or not path.is_file():
            gone.append(image_id)
        elif not hash_.any():
            unknown += 1
        elif bytes.fromhex(remote.sha256(path)) != bytes(hash_):
            changed.append(image_id)
        progress(row + 1, len(file), "images")
    report.looked_at.append(f"{len(file) - len(gone):,} image files")
    if changed:
        report.add("images", f"{len(changed)} images changed since; `cxrfeat extract` embeds them again.", changed)
    if gone:
        report.add("images", f"{len(gone)} images are missing.", gone)
    if unknown:
        report.notes.append(f"{unknown} rows have no image hash: they were imported without their images.")


def _check_values(
    file: EmbeddingFile, images: Mapping[str, Place], recompute: Recompute, sample: int, seed: int, report: Verification
) -> None:
    bad = {i for finding in report.findings for i in finding.image_ids}
    pool = [i for i in file.image_ids.tolist() if i in images and i not in bad]
    chosen = np.random.default_rng(seed).permutation(np.array(pool, dtype=np.str_))[:sample]
    report.looked_at.append(f"{len(chosen)} embeddings recomputed")
    if not len(chosen):
        return
    file._checked[...] = True  # a row beside one of NaN, which was reported, is compared
    stored = file.to_numpy(chosen)
    today = np.asarray(recompute(file.recipe, [images[i] for i in chosen.tolist()])).reshape(-1, file.dim)
    if today.shape != stored.shape:
        raise EmbeddingFileError(f"recomputing {len(chosen)} images gave embeddings of shape {today.shape}.")
    error = np.abs(today - stored).max(axis=1) / np.maximum(np.abs(stored).max(axis=1), np.finfo(np.float32).tiny)
    precision = PRECISIONS[file.recipe.precision]
    allowed = TOLERANCE if precision.name == "float32" else precision.canary
    if file.recipe.storage != "float32":  # a value beside a rounding boundary may fall to either side
        allowed += float(np.finfo(file.recipe.storage).eps)
    if other := chosen[error > allowed].tolist():
        text = f"{len(other)} of {len(chosen)} embeddings differ, by up to {error.max():.2g} relative."
        report.add("recomputed", text, other)
    else:
        report.notes.append(f"recomputed embeddings differ by at most {error.max():.2g} relative.")
