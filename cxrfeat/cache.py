"""Looking after embedding files: the calls behind `cxrfeat cache`, with the command's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cxrfeat._html import page
from cxrfeat._progress import Progress, silent
from cxrfeat._project import CACHE, RUNS, STUDIES, embedding_path
from cxrfeat._store import EmbeddingFile, catalog
from cxrfeat._store.merge import merge
from cxrfeat._store.repair import repair
from cxrfeat._store.verify import Verification

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cxrfeat._recipe import Recipe
    from cxrfeat._study import Study

__all__ = ["export", "import_", "info", "ls", "merge", "prune", "repair", "verify"]


class Info(dict[str, Any]):
    """What an embedding file says of itself, by name; printed one fact a line."""

    def facts(self) -> dict[str, Any]:
        """Return the facts without nesting: `recipe.size` for the size in `recipe`; lists are counted."""
        found: dict[str, Any] = {}
        for name, item in self.items():
            inner = (
                {f"{name}.{key}": value for key, value in item.items()} if isinstance(item, Mapping) else {name: item}
            )
            found |= {key: len(value) if isinstance(value, list) else value for key, value in inner.items()}
        return found

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.facts().items())

    def _repr_html_(self) -> str:
        return page(str(self.get("file", "")), self.facts(), self.get("failures", [])[:10])


def ls(folder: str | Path = CACHE) -> pd.DataFrame:
    """List the embedding files in a folder, newest first.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    DataFrame
        Columns `file`, `images`, `dim`, `passes`, `failures`, `bytes`, `recipe` and `note`. For a file that cannot be
        opened, `note` says why and the others are missing.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.cache.ls()["images"].tolist()
    [150]
    """
    import pandas as pd

    columns = ["file", "images", "dim", "passes", "failures", "bytes", "recipe", "note"]
    table = pd.DataFrame(catalog.entries(Path(folder)), columns=columns)
    return table.astype(dict.fromkeys(columns[1:6], "Int64"))


def info(file: str | Path | None = None) -> Info:
    """Return what an embedding file says of itself: recipe, provenance, failures, hashes.

    Parameters
    ----------
    file : str or Path, optional
        The file; by default the newest under `cache/`.

    Returns
    -------
    Info
        A dict of facts.

    Raises
    ------
    NotFoundError, EmbeddingFileError
        If it is not there, or damaged.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.cache.info()["recipe"]["backbone"]
    'densenet121'
    """
    return Info(catalog.info(embedding_path(file)))


def verify(
    file: str | Path | None = None,
    *,
    images: str | Path | None = None,
    study: str | Path | Study | None = None,
    deep: bool = False,
    sample: int = 32,
    seed: int = 0,
    weights: str | None = None,
    progress: Progress = silent,
) -> Verification:
    """Check an embedding file: every row against its SHA-256, ids, shapes, finiteness.

    Parameters
    ----------
    file : str or Path, optional
        The file; by default the newest under `cache/`.
    images : str or Path, optional
        A folder; image files that changed since are found there by their id.
    study : Study, str or Path, optional
        A study, to take the paths of the images from instead.
    deep : bool
        Also recompute a random sample of embeddings; needs the images.
    sample, seed : int
        How many to recompute, and the seed of their choice.
    weights : str, optional
        Backbone weights to recompute with, where the recipe's name is not enough.
    progress : Progress
        Called with rows checked.

    Returns
    -------
    Verification
        What was found; `ok` says whether nothing was.

    Raises
    ------
    NotFoundError
        If the file, the folder or the study is not there.
    WeightsError
        If `deep` needs weights that are not there.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.cache.verify(study="sample").ok
    True
    """
    from cxrfeat._datasets import read_study
    from cxrfeat._store.verify import find_images
    from cxrfeat._store.verify import verify as check

    path, paths, recompute = embedding_path(file), None, None
    if images:
        with EmbeddingFile.open(path) as opened:
            paths = find_images(images, opened.image_ids)
    elif study is not None or deep:
        table = read_study(study if study is not None else "sample" if path.name.startswith("sample-") else None)
        paths = dict(zip(table.ids.tolist(), table.paths(), strict=True))
    if deep:
        from cxrfeat._extract import embed

        def recompute(recipe: Recipe, files: Sequence[Path]) -> np.ndarray:
            return embed(files, recipe, weights=weights) if weights else embed(files, recipe)

    return check(path, paths, recompute, sample, seed, progress)


def export(
    file: str | Path | None = None,
    out: str | Path | None = None,
    *,
    to: Literal["npz", "parquet", "csv"] | None = None,
    passes: Sequence[int] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write the rows of an embedding file for another tool, a batch at a time.

    `npz` holds `embeddings` float32 (passes, images, dim), `image_id` (text), `image_sha256` uint8 (images, 32),
    `passes` and `recipe` (JSON); nothing is pickled. `parquet` and `csv` have one row per image and pass: `image_id`,
    `pass`, and a fixed-size list `embedding` or columns `e0`, `e1`, ... with nine digits, which give back each float32.

    Parameters
    ----------
    file : str or Path, optional
        The embedding file; by default the newest under `cache/`.
    out : str or Path, optional
        What to write; by default the file's name with the format's ending.
    to : {"npz", "parquet", "csv"}, optional
        By default the ending of `out`, else `npz`.
    passes : sequence of int, optional
        By default all.
    overwrite : bool
        Replace a file of another kind. An earlier export is replaced without.
    progress : Progress
        Called with rows written.

    Returns
    -------
    pathlib.Path
        What was written.

    Raises
    ------
    EmbeddingFileError
        If the format or a pass is unknown, or the file is damaged.
    OutputError
        If `out` is the embedding file itself, or a file of another kind without `overwrite`.
    MissingExtraError
        If Parquet is asked for without pyarrow.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import numpy as np
    >>> path = cxr.cache.export(out="sample.npz", passes=[0])
    >>> np.load(path)["embeddings"].shape
    (1, 150, 1024)
    """
    from cxrfeat._store.exchange import export as write

    path = embedding_path(file)
    target = Path(out) if out else path.with_suffix(f".{to or 'npz'}")
    return write(path, target, to, passes or None, overwrite, progress)


def import_(
    source: str | Path | np.ndarray,
    out: str | Path,
    *,
    ids: str | Path | Sequence[str] | np.ndarray | None = None,
    array: str | None = None,
    images: str | Path | None = None,
    backbone: str | None = None,
    weights: str = "unknown",
    weights_sha256: str = "",
    layer: str = "unknown",
    preprocessing: str = "torch",
    size: int = 224,
    progress: Progress = silent,
) -> EmbeddingFile:
    """Make an embedding file of another tool's embeddings.

    Parameters
    ----------
    source : str, Path or ndarray
        An `.npz`, an `.npy`, or an array: floats (images, dim) or (passes, images, dim).
    out : str or Path
        The embedding file.
    ids : str, Path or sequence of str, optional
        Ids of the rows: a text file with one a line, a CSV with a column `image_id`, or the ids; by default the array
        `image_id` of `source`.
    array : str, optional
        Name of the embeddings in an `.npz`; by default `embeddings`, else the only array with two or three axes.
    images : str or Path, optional
        Hash the images under this folder, so that an extraction knows them again.
    backbone : str, optional
        What made them; not needed where `source` says it (an export of cxrfeat).
    weights, weights_sha256, layer, preprocessing, size
        See `Recipe`.
    progress : Progress
        Called with rows written.

    Returns
    -------
    EmbeddingFile
        The file, open.

    Raises
    ------
    NotFoundError
        If `source`, `ids` or `images` is not there.
    EmbeddingFileError
        If arrays are missing, shapes do not fit, values are not finite, or `out` exists.
    RecipeError
        If no recipe is known, or its passes do not fit the array.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import numpy as np
    >>> with cxr.cache.import_(np.ones((2, 4)), "cache/a.h5", ids=["1", "2"], backbone="ours") as file:
    ...     print(file)
    <EmbeddingFile a.h5: 2 images, 1 passes, dim 4; ours, unknown, 224 px>
    """
    from cxrfeat._recipe import Recipe
    from cxrfeat._store import exchange

    recipe = Recipe(backbone, weights, weights_sha256, layer, preprocessing, size) if backbone else None
    names = exchange.read_ids(Path(ids)) if isinstance(ids, str | Path) else None if ids is None else list(ids)
    given = Path(source) if isinstance(source, str | Path) else source
    folder = Path(images) if images else None
    exchange.import_(given, Path(out), recipe, names, folder, array, progress)
    return EmbeddingFile.open(out)


@dataclass(frozen=True)
class Pruned:
    """What `prune` found and did.

    Attributes
    ----------
    unneeded : tuple of Unneeded
        What no study or run here needs: `path`, `size`, `reason`, `recipe`, `created`.
    moved : tuple of pathlib.Path
        Where it is now, if it was moved.
    deleted : tuple of pathlib.Path
        What an earlier prune had moved and this one deleted.
    looked_at : int
        Studies and runs that were asked.
    """

    unneeded: tuple[catalog.Unneeded, ...]
    moved: tuple[Path, ...]
    deleted: tuple[Path, ...]
    looked_at: int


def prune(
    folder: str | Path = CACHE,
    *,
    studies: str | Path = STUDIES,
    runs: str | Path = RUNS,
    dry_run: bool = True,
    delete: bool = False,
) -> Pruned:
    """Find embedding files that no study or run here needs, and move them aside.

    A file is needed if a study has any of its images, or a run was made from it. A study that lies elsewhere is not
    seen: so files are moved to `.pruned/` in the folder, and only a later call deletes them. A file that cannot be
    opened, or that is being written, stays.

    Parameters
    ----------
    folder : str or Path
        Where the embedding files lie.
    studies, runs : str or Path
        Folders of studies and of runs.
    dry_run : bool
        Only say what is not needed.
    delete : bool
        Delete what earlier calls moved aside. `dry_run` does not matter for this.

    Returns
    -------
    Pruned
        What was found, moved and deleted.

    Raises
    ------
    NotFoundError
        If there is no such folder.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.cache.prune().unneeded
    ()
    """
    folder = Path(folder)
    needs = _needs(Path(studies), Path(runs))
    deleted = catalog.delete_aside(folder) if delete else []
    found = catalog.unneeded(folder, needs)
    moved = [] if dry_run else catalog.set_aside(found)
    return Pruned(tuple(found), tuple(moved), tuple(deleted), len(needs))


def _needs(studies: Path, runs: Path) -> list[catalog.Need]:
    """What embedding files are kept for; the embedded sample counts as a study."""
    from cxrfeat._datasets import read_study
    from cxrfeat._run import Run

    tables = [read_study("sample"), *map(read_study, sorted(studies.glob("*.csv")))]
    found = [catalog.Need(table.name, frozenset(table.ids.tolist())) for table in tables]
    for path in sorted(runs.glob("*/head.json")):
        run = Run.open(path.parent)
        recipes = frozenset(recipe.sha256 for recipe in run.recipes)
        found.append(catalog.Need(run.name, frozenset(run.study().ids.tolist()), recipes))
    return found
