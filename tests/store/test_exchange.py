"""Protects: what goes out to other tools comes back bit for bit, and what comes in is checked."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile
from cxrfeat._store.exchange import read_ids
from cxrfeat.cache import export, import_
from cxrfeat.errors import EmbeddingFileError, NotFoundError, OutputError, RecipeError


@pytest.fixture
def made(make_file):
    return make_file(n=600)


def test_npz_is_plain_numpy_and_comes_back(made, tmp_path):
    export(made.path, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert (found["embeddings"] == made.embeddings).all()
        assert found["image_id"].tolist() == made.ids
        assert (found["image_sha256"] == made.image_sha256).all()
        assert json.loads(str(found["recipe"]))["backbone"] == "densenet121"
    import_(tmp_path / "a.npz", tmp_path / "b.h5")
    with EmbeddingFile.open(tmp_path / "b.h5") as file:
        assert file.recipe == made.recipe
        assert (file.read(made.ids, (0, 1)) == made.embeddings).all()


def test_csv_gives_back_each_float(made, tmp_path):
    export(made.path, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file) if row["pass"] == "1"}
    values = np.array([[float(rows[i][f"e{k}"]) for k in range(8)] for i in made.ids], dtype=np.float32)
    assert (values == made.embeddings[1]).all()


def test_unknown_formats_and_passes(made, tmp_path):
    with pytest.raises(EmbeddingFileError, match="npz, parquet or csv"):
        export(made.path, tmp_path / "a.mat")
    with pytest.raises(EmbeddingFileError, match="pass 5"):
        export(made.path, tmp_path / "a.npz", passes=[5])
    assert not (tmp_path / "a.npz").exists()


def test_another_tools_matrix_with_a_list_of_ids(tmp_path):
    made_by = {"backbone": "theirs"}
    values = np.random.default_rng(0).standard_normal((5, 3))
    np.savez(tmp_path / "their.npz", feats=values, y=np.arange(5))
    images = {}
    for k in range(5):
        images[f"i{k}"] = tmp_path / f"i{k}.png"
        images[f"i{k}"].write_bytes(bytes([k]))
    with pytest.raises(RecipeError, match="does not say what made it"):
        import_(tmp_path / "their.npz", tmp_path / "a.h5", ids=list(images))
    with pytest.raises(EmbeddingFileError, match="no array 'image_id'"):
        import_(tmp_path / "their.npz", tmp_path / "a.h5", **made_by)
    with pytest.raises(EmbeddingFileError, match="4 ids for 5"):
        import_(tmp_path / "their.npz", tmp_path / "a.h5", ids=list(images)[:4], **made_by)
    import_(tmp_path / "their.npz", tmp_path / "a.h5", ids=list(images), images=tmp_path, **made_by)
    with EmbeddingFile.open(tmp_path / "a.h5") as file:
        assert (file.read(list(images))[0] == values.astype(np.float32)).all()
        assert file.image_sha256()[3].tobytes() == hashlib.sha256(bytes([3])).digest()
    with pytest.raises(EmbeddingFileError, match="exists already"):
        import_(tmp_path / "their.npz", tmp_path / "a.h5", ids=list(images), **made_by)


def test_what_is_refused(tmp_path):
    made_by = {"backbone": "theirs"}
    with pytest.raises(NotFoundError):
        import_(tmp_path / "none.npz", tmp_path / "a.h5", **made_by)
    np.save(tmp_path / "nan.npy", np.full((3, 2), np.nan))
    with pytest.raises(EmbeddingFileError, match="NaN or infinity: a, b, c"):
        import_(tmp_path / "nan.npy", tmp_path / "a.h5", ids=["a", "b", "c"], **made_by)
    assert not list(tmp_path.glob("a.h5*"))
    np.save(tmp_path / "ints.npy", np.ones((3, 2), int))
    with pytest.raises(EmbeddingFileError, match="floats of"):
        import_(tmp_path / "ints.npy", tmp_path / "a.h5", ids=["a", "b", "c"], **made_by)
    np.savez(tmp_path / "two.npz", a=np.ones((3, 2)), b=np.ones((3, 2)))
    with pytest.raises(EmbeddingFileError, match="name one of a, b"):
        import_(tmp_path / "two.npz", tmp_path / "a.h5", ids=["a", "b", "c"], **made_by)
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(EmbeddingFileError, match="not a plain NumPy file"):
        import_(tmp_path / "pickled.npy", tmp_path / "a.h5", ids=["a"], **made_by)
    np.save(tmp_path / "passes.npy", np.ones((2, 3, 2)))
    with pytest.raises(RecipeError, match="2 renderings"):
        import_(tmp_path / "passes.npy", tmp_path / "a.h5", ids=["a", "b", "c"], **made_by)


def test_lists_of_ids(tmp_path):
    (tmp_path / "ids.txt").write_text("a.png\nb c.png\n")
    (tmp_path / "ids.csv").write_text('path,image_id\nx,"a, b"\ny,c\n')
    assert read_ids(tmp_path / "ids.txt") == ["a.png", "b c.png"]
    assert read_ids(tmp_path / "ids.csv") == ["a, b", "c"]
    with pytest.raises(NotFoundError):
        read_ids(tmp_path / "none")


def a_bomb(path, name="embeddings", shape=(1, 1 << 20, 1 << 10), **options):
    """An .npz of a few kB whose array claims, or is, gigabytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open(f"{name}.npy", "w", force_zip64=True) as out:
        out.write(header.getvalue())
        for _ in range(options.get("megabytes", 0)):
            out.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize("bomb", [{}, {"shape": (80 << 20, 1), "megabytes": 320}, {"name": "image_id"}])
def test_an_array_that_would_fill_the_memory_is_refused_before_it_is_unpacked(tmp_path, bomb):
    path = a_bomb(tmp_path / "bomb.npz", **bomb)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(EmbeddingFileError, match="would take"):
        import_(path, tmp_path / "a.h5", ids=["a"], backbone="theirs")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert not (tmp_path / "a.h5").exists()


def test_a_compressed_archive_is_read(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", embeddings=np.ones((3, 4), np.float32), image_id=["a", "b", "c"])
    import_(tmp_path / "c.npz", tmp_path / "a.h5", backbone="theirs")
    with EmbeddingFile(tmp_path / "a.h5") as file:
        assert file.image_ids.tolist() == ["a", "b", "c"]


def test_an_export_replaces_an_earlier_export_and_nothing_else(made, tmp_path):
    inside = made.path.read_bytes()
    with pytest.raises(OutputError, match="is an input"):
        export(made.path, made.path, to="csv", overwrite=True)
    study = tmp_path / "study.csv"
    study.write_text("image_id,path,patient_id\na,b,c\n")
    with pytest.raises(OutputError, match="another kind"):
        export(made.path, study)
    assert made.path.read_bytes() == inside and study.read_text().startswith("image_id,path")
    for name in ("a.npz", "a.csv", "a.parquet"):
        export(made.path, tmp_path / name, passes=[0])
        export(made.path, tmp_path / name, passes=[1])
    export(made.path, study, overwrite=True)
    assert study.read_text().startswith("image_id,pass,e0")


def test_damaged_archives_end_in_a_sentence(made, tmp_path):
    np.savez_compressed(tmp_path / "c.npz", embeddings=np.arange(3000.0).reshape(3, 1000), image_id=["a", "b", "c"])
    data, rng = (tmp_path / "c.npz").read_bytes(), np.random.default_rng(0)
    for k in range(300):
        damaged = bytearray(data[: int(rng.integers(len(data)))] if k % 3 == 0 else data)
        for at in rng.integers(0, max(1, len(damaged)), 1 + k % 4).tolist():
            if damaged:
                damaged[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "d.npz").write_bytes(damaged)
        try:
            import_(tmp_path / "d.npz", tmp_path / f"{k}.h5", backbone="theirs").close()
        except (EmbeddingFileError, RecipeError) as error:
            assert str(error).endswith((".", "weights."))
