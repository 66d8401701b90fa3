"""Looking after embedding files: the calls behind `cxrfeat cache`, with the command's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cxrfeat import _files
from cxrfeat import _manifest as manifest
from cxrfeat._html import page
from cxrfeat._progress import Progress, silent
from cxrfeat._project import CACHE, RUNS, STUDIES, embedding_path, study_files
from cxrfeat._recipe import Recipe
from cxrfeat._remote import Place, local
from cxrfeat._store import EmbeddingFile, Writer, catalog, exchange, names
from cxrfeat._store import verify as checking
from cxrfeat._store.collect import collect
from cxrfeat._store.collection import Collection, members_of
from cxrfeat._store.merge import Merge, join
from cxrfeat._store.repair import repair
from cxrfeat.errors import EmbeddingFileError, RecipeError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cxrfeat._evaluate.agreement import Agreement
    from cxrfeat._extract.recipes import RecipeOptions
    from cxrfeat._study import Study

__all__ = ["collect", "compare", "export", "import_", "info", "ls", "merge", "prune", "repair", "verify"]


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


class Info(dict[str, Any]):
    """What an embedding file says of itself, by name; printed one fact a line."""

    def facts(self) -> dict[str, Any]:
        """Return the facts without nesting: `recipe.size` for the size in `recipe`; lists are counted."""
        nested = {k: v if isinstance(v, Mapping) else {"": v} for k, v in self.items()}
        flat = {f"{k}.{inner}".rstrip("."): value for k, item in nested.items() for inner, value in item.items()}
        return {name: len(value) if isinstance(value, list) else value for name, value in flat.items()}

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.facts().items())

    def _repr_html_(self) -> str:
        return page(str(self.get("file", "")), self.facts(), self.get("failures", [])[:10])


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
    path = embedding_path(file)
    with EmbeddingFile(path) as opened:
        return Info(
            file=str(path),
            bytes=names.size(path),
            images=len(opened),
            dim=opened.dim,
            passes=opened.passes,
            failures=opened.failures().to_dict("records"),
            description=opened.recipe.describe(),
            recipe=asdict(opened.recipe),
            recipe_sha256=opened.recipe.sha256,
            content_sha256=opened.content_sha256,
            provenance=opened.provenance,
            unfinished=names.journal(path).is_dir(),
            **({"members": [asdict(m) for m in opened.manifest.members]} if isinstance(opened, Collection) else {}),
        )


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
) -> checking.Verification:
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
        `ok`, `rows`, `sound`, and `findings` with a sentence and image ids each; memory stays at one block of rows.

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
    path = embedding_path(file)
    paths: dict[str, Place] | None = None
    recompute = None
    if images:
        with EmbeddingFile(path) as opened:
            paths = dict(checking.find_images(Path(images), opened.image_ids))
    elif study is not None or deep:
        from cxrfeat._datasets.reading import read_study

        table = read_study(study if study is not None else "sample" if path.name.startswith("sample-") else None)
        paths = dict(zip(table.ids.tolist(), table.paths(), strict=True))
    if deep:
        from cxrfeat._extract import embed

        def recompute(recipe: Recipe, files: Sequence[Place]) -> np.ndarray:
            options: RecipeOptions = {"weights": weights} if weights else {}
            return embed(files, recipe, fresh=True, **options)  # with nothing that is kept of the network

    return checking.verify(path, paths, recompute, sample, seed, progress)


def merge(
    files: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    prefer: Literal["first", "last"] | None = None,
    progress: Progress = silent,
) -> Merge:
    """Write a new file with the rows of several, in their order; memory stays bounded whatever their size.

    Parameters
    ----------
    files : path, or sequence of them
        Two or more files of one recipe; a folder stands for those in it: the members of a collection, or the shards of
        a study.
    out : str or Path, optional
        The new file; by default, of one folder of shards, the study's own embedding file.
    prefer : {"first", "last"}, optional
        Whose row to take if an image has different hashes in several files; by default that is an error.
    progress : Progress
        Called with rows written.

    Returns
    -------
    Merge
        What was taken from which file.

    Raises
    ------
    RecipeError
        If the recipes differ.
    EmbeddingFileError
        If images clash without `prefer`, a row is damaged, or `out` exists.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import numpy as np
    >>> for name, ids in {"a": ["1", "2"], "b": ["2", "3"]}.items():
    ...     cxr.cache.import_(np.ones((2, 4)), f"cache/{name}.h5", ids=ids, backbone="ours").close()
    >>> merged = cxr.cache.merge(["cache/a.h5", "cache/b.h5"], "cache/ab.h5")
    >>> merged.rows, merged.from_each, merged.same
    (3, (2, 1), 1)
    """
    given = [local(file) for file in ([files] if isinstance(files, str | Path) else files)]
    paths = [path for one in given for path in members_of(one)]
    target = Path(out) if out else names.of_shards(given[0]) if len(given) == 1 else None
    if target is None:
        raise EmbeddingFileError(
            "name the new file with `out`: it has a default only where one folder of shards is given."
        )
    found = join(paths, target, prefer, progress)
    manifest.join(paths if prefer != "last" else paths[::-1], target)
    return found


def compare(
    a: str | Path,
    b: str | Path,
    *,
    study: str | Path | Study | None = None,
    replicates: int = 2000,
    seed: int = 0,
    progress: Progress = silent,
) -> Agreement:
    """Compare two embedding files of the same images: what another precision, storage or engine costs.

    Pass 0 of the images that are in both files is compared, joined by id. With a study, logistic heads are fitted on
    both files and compared on its test split; without a test split, on all images, cross-validated by patient.

    Parameters
    ----------
    a, b : str or Path
        The file to compare with, and the other one. Their recipes may differ, the length of embeddings may not.
    study : Study, str or Path, optional
        Labels and splits, for the heads.
    replicates : int
        Replicates of the paired bootstrap over patients.
    seed : int
        Of the images whose neighbours are looked at, of folds, and of the bootstrap.
    progress : Progress
        Called with rows compared, then with replicates.

    Returns
    -------
    Agreement
        It prints as tables. `distances` has the difference over the standard deviation (median and worst feature), the
        cosine (median and worst image) and the share of the ten nearest neighbours that both have; `heads` is what
        `cxrfeat.compare` returns. docs/how-to/comparing.md says how to read it.

    Raises
    ------
    EmbeddingFileError
        If fewer than two images are in both files, or their embeddings differ in length.
    HeadError
        If the study has no label to fit.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> path = cxr.extract("sample", weights="random:0").path
    >>> x = cxr.EmbeddingFile(path).to_frame()
    >>> cxr.cache.import_(x.to_numpy("float16"), "rounded.h5", ids=x.index, backbone="densenet121").close()
    >>> found = cxr.cache.compare(path, "rounded.h5")
    >>> found.images, 0 < found.distances.over_sd < 0.01
    (150, True)
    """
    from cxrfeat._datasets.reading import read_study
    from cxrfeat._evaluate.agreement import agreement

    table = None if study is None else read_study(study)
    return agreement(embedding_path(a), embedding_path(b), table, replicates, seed, progress)


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
    `passes` and `recipe` (JSON); nothing is pickled. `parquet` has one row per image and pass, with `image_id`, `pass`,
    `image_sha256` and a fixed-size list `embedding`. All else that the embedding file says is in its metadata:
    `import_` gives back the same file, and where an embedding file is asked for, one with pass 0 can be named too.
    `csv` has columns `image_id`, `pass`, `e0`, `e1`, ... with nine digits, which give back each float32.

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
    path = embedding_path(file)
    target = Path(out) if out else path.with_suffix(f".{to or 'npz'}")
    write, begins, suffixes = exchange.format_of(to or target.suffix.lstrip(".").lower())
    _files.check_output(target, suffixes=suffixes, begins=begins, inputs=[path], overwrite=overwrite)
    with EmbeddingFile(path) as opened, _files.atomic_path(target) as part:
        write(opened, part, list(passes or range(opened.passes)), progress)
    return target


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
        An `.npz`, an `.npy`, or an array: floats (images, dim) or (passes, images, dim). Or a Parquet file: an export
        of cxrfeat, which is copied with all that it says, or a table with a column of lists.
    out : str or Path
        The embedding file.
    ids : str, Path or sequence of str, optional
        Ids of the rows: a text file with one a line, a CSV with a column `image_id`, or the ids; by default the array
        or column `image_id` of `source`.
    array : str, optional
        Name of the embeddings in an `.npz`; by default `embeddings`, else the only array with two or three axes. Of a
        column in a Parquet table; by default `embedding`, else the only one with lists.
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
    if Path(out).exists():
        raise EmbeddingFileError(f"{out} exists already; name a new file.")
    if not (ids is not None or array or images or backbone) and exchange.is_parquet(source):
        with EmbeddingFile(str(source)) as exported:
            exchange.copy(exported, Path(out), progress)
        return EmbeddingFile(out)
    name, values, known, recipe = exchange.read(source, array)
    if values.ndim not in (2, 3) or values.dtype.kind != "f" or 0 in values.shape:
        raise EmbeddingFileError(
            f"{name} has embeddings of shape {values.shape}, {values.dtype}; floats of (images, dim) or "
            "(passes, images, dim) are needed."
        )
    recipe = Recipe(backbone, weights, weights_sha256, layer, preprocessing, size) if backbone else recipe
    if recipe is None:
        raise RecipeError(f"{name} does not say what made it; give the `backbone`, `weights` and `preprocessing`.")
    given = known if ids is None else exchange.read_ids(ids)
    if given is None:
        raise EmbeddingFileError(f"{name} has no array 'image_id'; give `ids`.")
    values = values[None] if values.ndim == 2 else values
    if len(given) != values.shape[1]:
        raise EmbeddingFileError(f"{len(given):,} ids for {values.shape[1]:,} embeddings in {name}; give one for each.")
    if recipe.passes + 1 != len(values):
        raise RecipeError(f"{name} has {len(values)} renderings, its recipe {recipe.passes} augmented and pass 0.")
    paths = checking.find_images(Path(images), given) if images else {}
    with Writer.open(out, recipe, values.shape[2], {"imported": Path(name).name}, exchange.BATCH) as writer:
        writer.drop([name for name in given if name in writer.done])  # of an import that was killed
        for start in range(0, len(given), exchange.BATCH):
            part = slice(start, start + exchange.BATCH)
            hashes = exchange.image_hashes(given[part], paths)
            writer.append(given[part], hashes, values[:, part].astype("float32"))
            progress(min(part.stop, len(given)), len(given))
        writer.publish(given)
    return EmbeddingFile(out)


@dataclass(frozen=True)
class Pruned:
    """What no study or run here needs, where it is now, what was deleted, and the number of studies and runs."""

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

    A file is needed if a study has any of its images, or a run was made from it. A study in another folder is not
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
        `unneeded` (each with `path`, `size`, `reason`, `recipe`, `created`), `moved`, `deleted` and `looked_at`, the
        number of studies and runs here.

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
    from cxrfeat._datasets.reading import read_study
    from cxrfeat._run import Run

    folder = Path(folder)
    tables = [read_study("sample"), *map(read_study, study_files(Path(studies)))]
    needs = [catalog.Need(frozenset(table.ids.tolist())) for table in tables]
    for path in sorted(Path(runs).glob("*/head.json")):
        run = Run.open(path.parent)
        recipes = frozenset(recipe.sha256 for recipe in run.recipes)
        needs.append(catalog.Need(frozenset(run.study().ids.tolist()), recipes))
    deleted = catalog.delete_aside(folder) if delete else []
    found = catalog.unneeded(folder, needs)
    moved = [] if dry_run else catalog.set_aside(found)
    return Pruned(tuple(found), tuple(moved), tuple(deleted), len(needs))
