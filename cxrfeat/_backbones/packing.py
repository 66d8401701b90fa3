"""One file with all that another machine needs to embed images: weights, cards, pinned hashes, exported networks.

It is a ZIP archive that compresses nothing, with a manifest of every file's size and hash. Reading one trusts nothing
in it: names lead into three folders only, nothing is larger than it says or than the disk has room for, and each file
takes its place once its hash is right.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones import kept, library
from cxrfeat._backbones.registry import BACKBONES
from cxrfeat._backbones.weights import keep_pin, keras_folder, pinned
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import OutputError, WeightsError

FORMAT, VERSION, MANIFEST = "cxrfeat-pack", 1, "manifest.json"
_MAX_MANIFEST = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,250}")
_log = logging.getLogger(__name__)


def roots() -> dict[str, Path]:
    """Where the files of an archive go, by the first part of their names."""
    return {"imagenet": keras_folder(), "weights": library.folder(), "engines": machine.cache_folder() / "engines"}


def pack(
    out: str | Path, names: Sequence[str] = (), *, overwrite: bool = False, progress: Progress = silent
) -> list[str]:
    """Write one file with all that a machine without internet needs: weights, cards, hashes, and exported networks.

    Parameters
    ----------
    out : path
        The archive, a `.zip`.
    names : sequence of str
        Names in `ls`; by default all weights that are here.
    overwrite : bool
        Replace a file of another kind.
    progress : callable
        Called with the bytes written, the total, and a note.

    Returns
    -------
    list of str
        The names of the files in it.

    Raises
    ------
    WeightsError
        If there is nothing to pack, or no weights of that name are here.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.pack("weights.zip", ["xrv-nih"])  # doctest: +SKIP
    ['weights/xrv-nih/card.json', 'weights/xrv-nih/arrays-1c1ff3ef5a8c.safetensors']
    """
    out = files.check_output(out, suffixes=(".zip",), begins=b"PK", overwrite=overwrite)
    found = dict(_contents(tuple(names)))
    if not found:
        raise WeightsError("there are no weights here to pack; `cxrfeat weights ls` lists what there is.")
    sizes = {name: path.stat().st_size for name, path in found.items()}
    about = {name: {"bytes": size, "sha256": files.sha256(found[name])} for name, size in sizes.items()}
    known = {path.name: sha256 for path in found.values() if (sha256 := pinned(path.name))}
    manifest = {"format": FORMAT, "version": VERSION, "files": about, "pins": known}
    total, done = sum(sizes.values()), 0
    with files.atomic_path(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        for name, path in found.items():
            archive.write(path, name)
            progress(done := done + sizes[name], total, path.name)
    return list(found)


def unpack(path: str | Path, *, overwrite: bool = False, progress: Progress = silent) -> list[Path]:
    """Put the files of a `pack` where they belong; nothing in it is trusted, and each file's hash is checked.

    Parameters
    ----------
    path : path
        The archive.
    overwrite : bool
        Replace other files of the same names.
    progress : callable
        Called with the bytes read, the total, and a note.

    Returns
    -------
    list of pathlib.Path
        The files.

    Raises
    ------
    WeightsError
        If it is no such archive, is damaged, or has a name, link or size that it should not have.
    OutputError
        If another file is in the place of one, and not `overwrite`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> len(cxr.weights.unpack("weights.zip"))  # doctest: +SKIP
    2
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive, path)
            entries = [
                _checked(entry, manifest["files"], path) for entry in archive.infolist() if entry.filename != MANIFEST
            ]
            if len(entries) != len(manifest["files"]):
                raise WeightsError(f"{path} is not used: it lacks files that its manifest names.")
            _fit(entries, path)
            placed = _place(archive, entries, manifest["files"], path, overwrite, progress)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} is not an archive of `cxrfeat weights pack`, or is damaged: {error}.") from error
    for name, sha256 in manifest["pins"].items():
        keep_pin(name, sha256)
    return placed


def _contents(names: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """The files to pack, by their names in the archive."""
    official = {backbone.name: keras_folder() / backbone.weights_file for backbone in BACKBONES if backbone.weights_url}
    here = {name: path for name, path in official.items() if path.is_file()}
    cards = {card.name: card for card in library.cards()}
    if unknown := [name for name in names if name not in here and name not in cards]:
        raise WeightsError(
            f"there are no weights {unknown[0]!r} here; here are {', '.join([*here, *cards]) or 'none'}."
        )
    chosen = names or (*here, *cards)
    # A quantised network of an imported one needs that one's card.
    bases = [cards[name].backbone for name in chosen if name in cards and cards[name].backbone in cards]
    chosen = tuple(dict.fromkeys((*chosen, *bases)))
    for name in chosen:
        if name in here:
            yield f"imagenet/{here[name].name}", here[name]
        if name in cards:
            for part in (library.CARD, *cards[name].files):
                yield f"weights/{name}/{part}", cards[name].path / part
    values = {cards[name].values_sha256[:16] for name in chosen if name in cards}
    for row in kept.exports():
        folder = Path(row["folder"])
        wanted = (row["weights"] == "imagenet" and row["backbone"] in chosen) or any(v in folder.name for v in values)
        for file in _parts(folder) if wanted and row["state"] == "ok" else ():
            yield f"engines/{folder.name}/{file.name}", file


def _parts(folder: Path) -> list[Path]:
    """The files of an exported network, without what was compiled of it for this machine."""
    return [one for one in sorted(folder.iterdir()) if one.is_file() and one.name != "compiled.json"]


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        entry = archive.getinfo(MANIFEST)
        if entry.file_size > _MAX_MANIFEST or entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its manifest is too large")
        found = json.loads(archive.read(entry))
        if found["format"] != FORMAT or found["version"] != VERSION:
            raise ValueError("its format is another, or of a newer version")
        sound = all(
            type(about["bytes"]) is int and about["bytes"] >= 0 and re.fullmatch("[0-9a-f]{64}", about["sha256"])
            for about in found["files"].values()
        ) and all(re.fullmatch("sha256:[0-9a-f]{64}", sha256) for sha256 in found["pins"].values())
        if not sound:
            raise ValueError("its manifest has no sizes and hashes")
        return dict(found)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is not an archive of `cxrfeat weights pack`: {error}.") from error


def _checked(entry: zipfile.ZipInfo, known: dict[str, Any], path: Path) -> zipfile.ZipInfo:
    """Refuse a file whose name leads elsewhere, that is a link, or that is not what the manifest says."""
    name = entry.filename
    parts = PurePosixPath(name).parts
    depth = {"imagenet": 2, "weights": 3, "engines": 3}.get(parts[0] if parts else "", 0)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    plain = kind in (0, stat.S_IFREG) and entry.compress_type == zipfile.ZIP_STORED
    if len(parts) != depth or name != "/".join(parts) or not all(map(_NAME.fullmatch, parts)) or not plain:
        raise WeightsError(f"{path} is not used: its file {name!r} is a link, or leads out of the folders of weights.")
    if name not in known or entry.file_size != known[name]["bytes"]:
        raise WeightsError(f"{path} is not used: its file {name!r} is not the one that its manifest names.")
    return entry


def _fit(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse an archive with more bytes than it has, than the disk has room for, or two files of one name."""
    total = sum(entry.file_size for entry in entries)
    if total > path.stat().st_size or len({entry.filename.lower() for entry in entries}) != len(entries):
        raise WeightsError(f"{path} is not used: its files overlap.")
    for root in roots().values():
        above = next(one for one in (root, *root.parents) if one.exists())
        if total > shutil.disk_usage(above).free:
            raise WeightsError(f"{path} has {total / 1e6:,.0f} MB, and the disk of {root} has no room for them.")


def _place(
    archive: zipfile.ZipFile,
    entries: list[zipfile.ZipInfo],
    known: dict[str, Any],
    path: Path,
    overwrite: bool,
    progress: Progress,
) -> list[Path]:
    targets = {}
    for entry in sorted(entries, key=lambda entry: entry.filename.endswith(library.CARD)):  # a card comes last
        root, *rest = entry.filename.split("/")
        target = roots()[root].joinpath(*rest)
        there = target.is_file() and files.sha256(target) == known[entry.filename]["sha256"]
        if target.exists() and not there and not overwrite:
            raise OutputError(f"{target} is another file than that of {path}. Remove it, or use `overwrite=True`.")
        targets[entry.filename] = (entry, target, there)
    total, done = sum(entry.file_size for entry in entries), 0
    for name, (entry, target, there) in targets.items():
        if not there:
            _extract(archive, entry, target, known[name]["sha256"], path)
        progress(done := done + entry.file_size, total, target.name)
    return [target for _, target, _ in targets.values()]


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, sha256: str, path: Path) -> None:
    with files.atomic_path(target) as part:
        with archive.open(entry) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file)
        if files.sha256(part) != sha256:
            raise WeightsError(f"{path} is damaged: its file {entry.filename!r} does not have its hash.")
