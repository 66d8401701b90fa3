"""What is done is never done again, and what is not is; the network is a small one, in DenseNet121's place."""

import dataclasses
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxrfeat import _manifest as manifest
from cxrfeat import _sample as sample
from cxrfeat._backbones.openvino_engine import WAITING
from cxrfeat._extract import embed, make_recipe, pipeline
from cxrfeat._extract import extraction as module
from cxrfeat._images import decode
from cxrfeat._store import EmbeddingFile, names
from cxrfeat.errors import ImageError, RecipeError, WeightsError

SIZE = 32
pytestmark = pytest.mark.usefixtures("small_networks")


def rows(path, passes=None):
    with EmbeddingFile.open(path) as file:
        values = file.read(passes=range(file.passes) if passes is None else passes)
        return {i: values[:, k] for k, i in enumerate(file.image_ids.tolist())}


def test_passes_do_not_depend_on_order_or_on_what_else_is_in_the_study(make_study, run, tmp_path):
    study = make_study(12)
    forward = rows(run(study, passes=2).path)
    shuffled = study.take(np.random.default_rng(0).permutation(12)[:7])
    part = rows(run(shuffled, passes=2, out=tmp_path / "part.h5", workers=1).path)
    assert len(part) == 7
    for image_id, values in part.items():
        np.testing.assert_array_equal(values, forward[image_id])


def test_more_passes_compute_only_the_new_ones(make_study, run, monkeypatch, tmp_path):
    study = make_study(6)
    run(study, passes=1)
    fresh = rows(run(study, passes=2, cache=tmp_path / "elsewhere").path)
    cv2.imwrite(str(study.paths()[0]), np.random.default_rng(1).integers(0, 256, (50, 50), dtype=np.uint8))
    changed = rows(run(study, passes=2, cache=tmp_path / "changed").path)
    computed = []
    engine = engine_of(monkeypatch, computed)
    done = run(study, passes=2)
    assert engine and done.extracted == 6
    assert sum(computed) == 5 + 3  # pass 2 of the unchanged images, all three of the one whose file changed
    found = rows(done.path)
    for number, image_id in enumerate(study.ids):
        np.testing.assert_array_equal(found[image_id], (fresh if number else changed)[image_id])


def test_fewer_passes_compute_nothing(make_study, run, monkeypatch):
    study = make_study(4)
    before = rows(run(study, passes=2).path)
    computed = []
    engine_of(monkeypatch, computed)
    for passes in (0, 1):
        for image_id, values in rows(run(study, passes=passes).path).items():
            np.testing.assert_array_equal(values, before[image_id][: passes + 1])
    assert not computed
    other = run(study, passes=1, seed=7)  # another draw: pass 0 alone is the same
    assert sum(computed) == 4
    assert not np.array_equal(rows(other.path)[study.ids[0]][1], before[study.ids[0]][1])


def test_float16_is_rounded_from_what_there_is_in_float32(make_study, run, monkeypatch):
    study = make_study(5)
    whole = run(study, passes=1)
    computed = []
    engine_of(monkeypatch, computed)
    half = run(study, passes=1, storage="float16")
    assert not computed and half.path != whole.path
    for image_id, values in rows(half.path).items():
        np.testing.assert_array_equal(values, rows(whole.path)[image_id].astype(np.float16))
    np.testing.assert_array_equal(embed(study.paths()[:1], half.recipe)[0], rows(half.path)[study.ids[0]][0])
    back = run(study, passes=1, storage="float32", cache=half.path.parent / "other")
    assert sum(computed) == 1 + 10 and back.recipe == whole.recipe  # float16 does not give float32 back


def engine_of(monkeypatch, computed):
    """Count the images that go through the network."""
    open_engine = module.engines.open_engine

    def counting(*args, **options):
        engine = open_engine(*args, **options)
        run = engine.run
        engine.run = lambda images: computed.append(len(images)) or run(images)
        return engine

    monkeypatch.setattr(module.engines, "open_engine", counting)
    return counting


def test_pass_0_is_the_same_with_and_without_augmented_passes(make_study, run, tmp_path):
    study = make_study(5)
    alone, with_two = rows(run(study).path), rows(run(study, passes=2, cache=tmp_path / "computed").path)
    for image_id, values in alone.items():
        np.testing.assert_array_equal(values[0], with_two[image_id][0])


def test_a_finished_extraction_is_not_repeated_and_needs_no_lock_engine_or_image(make_study, run, monkeypatch):
    study = make_study(5)
    first = run(study)
    before = first.path.stat()
    monkeypatch.setattr(decode, "read_bytes", lambda path: pytest.fail("an image was read"))
    monkeypatch.setattr(module.engines, "open_engine", lambda *a, **k: pytest.fail("an engine was opened"))
    monkeypatch.setattr(module.Writer, "open", lambda *a, **k: pytest.fail("the file was locked"))
    again = run(study)
    assert (again.extracted, again.kept) == (0, 5)
    assert first.path.stat() == before


def test_each_image_is_decoded_once_however_many_passes(make_study, run, monkeypatch):
    study, counted = make_study(9), []
    original = decode.decode_film
    monkeypatch.setattr(decode, "decode_film", lambda *data: counted.append(1) or original(*data))
    run(study, passes=3)
    assert len(counted) == 9


def test_threads_are_bounded_and_opencv_adds_none(make_study, run, monkeypatch):
    inside, most, opencv, workers = set(), [], set(), []
    original = module.engines.open_engine

    def watch(*args, **kwargs):
        ready = original(*args, **kwargs)
        plain = ready.run

        def run_(images):
            inside.add(threading.get_ident())
            most.append(len(inside))
            opencv.add(cv2.getNumThreads())
            workers.append(sum(thread.name.startswith("cxrfeat") for thread in threading.enumerate()))
            try:
                return plain(images)
            finally:
                inside.discard(threading.get_ident())

        ready.run = run_
        return ready

    before = cv2.getNumThreads()
    monkeypatch.setattr(module.engines, "open_engine", watch)
    run(make_study(40))
    # Beyond the cores: what waits inside the engine, for when a decoder keeps Python's lock.
    assert max(most) <= max(workers) <= pipeline.machine.cores() + WAITING
    assert opencv == {1}
    assert cv2.getNumThreads() == before


def test_only_new_images_are_extracted(make_study, run, tmp_path):
    study = make_study(8)
    out = tmp_path / "grow.h5"
    run(study.take(range(5)), out=out)
    grown = run(study, out=out)
    assert (grown.extracted, grown.kept) == (3, 5)
    whole = rows(run(study, out=tmp_path / "whole.h5").path)
    assert all(np.array_equal(v, whole[i]) for i, v in rows(out).items())
    with EmbeddingFile.open(out) as file:
        assert file.image_ids.tolist() == study.ids.tolist()


def test_only_changed_images_are_extracted_again_and_named(make_study, run):
    study = make_study(6)
    first = rows(run(study).path)
    changed, touched = study.paths()[2], study.paths()[3]
    cv2.imwrite(str(changed), 255 - cv2.imread(str(changed), 0))
    os.utime(touched, ns=(1, 1))  # another time, the same bytes
    again = run(study)
    assert again.changed == [study.ids[2]]
    assert again.extracted == 1
    after = rows(again.path)
    assert [i for i in first if not np.array_equal(first[i], after[i])] == [study.ids[2]]
    assert run(study).extracted == 0


def test_without_the_manifest_files_are_hashed_and_nothing_is_repeated(make_study, run, monkeypatch):
    study = make_study(4)
    path = run(study).path
    names.manifest(path).write_bytes(b"damaged")
    monkeypatch.setattr(module.engines, "open_engine", lambda *a, **k: pytest.fail("an engine was opened"))
    assert run(study).extracted == 0
    assert run(study).kept == 4


def test_unusable_images_are_listed_not_retried_and_taken_once_mended(make_study, run, monkeypatch):
    study = make_study(40)
    good = study.paths()[7].read_bytes()
    study.paths()[7].write_bytes(good[:100])
    study.paths()[8].unlink()
    first = run(study)
    assert first.extracted == 38
    assert set(first.failed) == {study.ids[7], study.ids[8]}
    assert not first.too_many_failures
    assert run(study, max_failures=1).too_many_failures
    with EmbeddingFile.open(first.path) as file:
        listed = file.failures().set_index("image_id")
    assert "truncated" in listed.loc[study.ids[7], "reason"]
    assert not Path(listed.loc[study.ids[7], "path"]).is_absolute()
    with monkeypatch.context() as patch:
        patch.setattr(module.engines, "open_engine", lambda *a, **k: pytest.fail("a known failure was tried again"))
        assert set(run(study).failed) == set(first.failed)
    study.paths()[7].write_bytes(good)
    mended = run(study)
    assert mended.extracted == 1
    assert set(mended.failed) == {study.ids[8]}


@pytest.mark.parametrize("what", ["retry", "mode", "decoder"])
def test_a_failure_is_tried_again_when_asked_or_when_what_it_may_depend_on_changed(make_study, run, monkeypatch, what):
    study, original = make_study(30), decode.decode_film
    bad = study.paths()[4].read_bytes()

    def lacks_a_codec(data, voi):
        if data == bad:
            raise ImageError("is compressed in a way that no installed package decodes.")
        return original(data, voi)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode_film", lacks_a_codec)
        assert set(run(study).failed) == {study.ids[4]}
    assert set(run(study).failed) == {study.ids[4]}, "nothing changed: known, and not tried again"
    if what == "mode":
        study.paths()[4].chmod(0o600)
    elif what == "decoder":
        monkeypatch.setattr(manifest, "DECODERS", ("click",))
    again = run(study, retry=what == "retry")
    assert (again.extracted, again.failed) == (1, {})


def test_a_study_of_the_same_name_with_other_images_has_a_file_of_its_own(make_study, run, tmp_path):
    """The same ids, sizes and times, and other patients: neither gets the other's rows."""
    a, folder = make_study(6), tmp_path / "b"
    folder.mkdir()
    for i, path in enumerate(a.paths()):
        cv2.imwrite(str(folder / path.name), 255 - cv2.imread(str(path), 0), [cv2.IMWRITE_PNG_COMPRESSION, 0])
        cv2.imwrite(str(path), cv2.imread(str(path), 0), [cv2.IMWRITE_PNG_COMPRESSION, 0])
        for file in (path, folder / path.name):
            os.utime(file, ns=(i, 10**18 + i))
    b = dataclasses.replace(a, root=folder)
    assert [p.stat().st_size for p in a.paths()] == [p.stat().st_size for p in b.paths()]
    first = run(a)
    before = rows(first.path)
    second = run(b)
    assert (second.extracted, second.path.name) == (6, first.path.stem + "-2.h5")
    own = rows(run(b, out=tmp_path / "own.h5").path)
    assert all(np.array_equal(values, own[i]) for i, values in rows(second.path).items())
    assert all(np.array_equal(values, before[i]) for i, values in rows(first.path).items())
    for study, done in ((a, first), (b, second)):
        again = run(study)
        assert (again.extracted, again.path) == (0, done.path)


def test_a_wrong_folder_is_told_before_any_work(make_study, run, monkeypatch):
    study = dataclasses.replace(make_study(10), root=make_study(1).root / "elsewhere")
    monkeypatch.setattr(module.engines, "open_engine", lambda *a, **k: pytest.fail("an engine was opened"))
    with pytest.raises(ImageError, match=r"10 of the 10 images .* are not on disk, the first is .*row 2"):
        run(study)


def test_a_study_without_one_usable_image_leaves_no_file(make_study, run, tmp_path):
    study = make_study(3)
    for path in study.paths():
        path.write_bytes(b"nothing")
    with pytest.raises(ImageError, match="none of the 3 images"):
        run(study, out=tmp_path / "none.h5")
    assert not (tmp_path / "none.h5").exists()


def test_embedded_images_whose_files_went_away_are_kept(make_study, run):
    study = make_study(4)
    run(study)
    study.paths()[0].unlink()
    again = run(study)
    assert (again.kept, again.gone, again.extracted, again.failed) == (4, 1, 0, {})


def test_ctrl_c_keeps_what_was_embedded(make_study, run, tmp_path):
    study = make_study(60)

    def interrupt(done, total, note=""):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, out=tmp_path / "a.h5", passes=1, progress=interrupt)
    assert not (tmp_path / "a.h5").exists()
    resumed = run(study, out=tmp_path / "a.h5", passes=1)
    assert 0 < resumed.extracted < 60
    assert resumed.extracted + resumed.kept == 60
    whole = rows(run(study, out=tmp_path / "b.h5", passes=1).path)
    assert all(np.array_equal(v, whole[i]) for i, v in rows(tmp_path / "a.h5").items())


def test_another_recipe_into_the_same_file_is_refused(make_study, run, tmp_path):
    study = make_study(3)
    run(study, out=tmp_path / "a.h5")
    with pytest.raises(RecipeError, match="size"):
        run(study, out=tmp_path / "a.h5", size=64)


def test_the_recipe_ignores_the_engine(make_study, run, tmp_path):
    study = make_study(3)
    a = run(study, out=tmp_path / "a.h5", engine="openvino")
    b = run(study, out=tmp_path / "b.h5", engine="keras")
    assert a.recipe == b.recipe
    for image_id, values in rows(a.path).items():
        np.testing.assert_allclose(values, rows(b.path)[image_id], rtol=0, atol=1e-4 * np.abs(values).max())
    with EmbeddingFile.open(a.path) as file:
        assert file.provenance["engine"].startswith("OpenVINO")


def test_embed_gives_pass_0_of_extract_bit_for_bit_from_files_and_arrays(make_study, run):
    study = make_study(7)
    done = run(study, passes=1)
    with EmbeddingFile.open(done.path) as file:
        cached = file.read(study.ids)[0]
    np.testing.assert_array_equal(embed(study.paths(), done.recipe), cached)
    np.testing.assert_array_equal(embed(study.paths(), weights="random:0", size=SIZE), cached)
    pictures = np.stack([decode.read_grey(path) for path in study.paths()])
    assert pictures.shape == (7, 64, 64)
    np.testing.assert_array_equal(embed(pictures, done.recipe), cached)
    np.testing.assert_array_equal(embed([pictures[0], study.paths()[1]], done.recipe), cached[:2])
    np.testing.assert_array_equal(embed(pictures[3], done.recipe), cached[3:4])
    assert embed([], done.recipe).shape == (0, cached.shape[1])


def test_what_embed_cannot_use_is_named(make_study, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    recipe = make_recipe(weights="random:0", size=SIZE)
    with pytest.raises(ImageError, match=r"bad\.png cannot be decoded"):
        embed([make_study(1).paths()[0], tmp_path / "bad.png"], recipe)
    with pytest.raises(ImageError, match=r"image 0 is float64 \(9, 9\)"):
        embed(np.zeros((9, 9)), recipe)
    with pytest.raises(TypeError, match="no option `sise`"):
        embed([], recipe, sise=64)
    with pytest.raises(RecipeError, match="`size` is part of the recipe"):
        embed([], recipe, size=64)


def test_a_decoder_that_breaks_costs_its_image_and_no_other(make_study, run, monkeypatch):
    study, original = make_study(30), decode.decode_film
    bad = study.paths()[4].read_bytes()

    def breaks(data, voi):
        if data == bad:
            raise ZeroDivisionError("Mustermann, Erika")
        return original(data, voi)

    monkeypatch.setattr(decode, "decode_film", breaks)
    done = run(study)
    assert done.extracted == 29
    assert done.failed == {study.ids[4]: "cannot be decoded (ZeroDivisionError)."}


class TestWeights:
    @pytest.fixture(autouse=True)
    def no_internet(self, monkeypatch, tmp_path):
        from cxrfeat._backbones import registry

        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        spec = dataclasses.replace(registry.get("densenet121"), weights_url="http://127.0.0.1:1/w.h5")
        monkeypatch.setitem(registry.BACKBONES._loaded, "densenet121", spec)

    def test_on_the_sample_auto_goes_on_with_random_weights_and_says_so_loudly(self, sample_study, run, caplog):
        result = run(sample_study.take(range(3)), weights="auto")
        assert result.recipe.random
        assert [r.levelname for r in caplog.records if "RANDOM" in r.getMessage()] == ["WARNING"]
        assert "RANDOM" in result.recipe.describe()
        assert sample.holds(sample_study)

    def test_on_a_study_of_the_users_it_is_an_error_with_three_ways_on(self, make_study, run):
        with pytest.raises(WeightsError, match="Three ways on"):
            run(make_study(3), weights="auto")


def test_a_file_of_two_patients_in_two_splits_is_named(make_study, run, caplog):
    study = make_study(10)
    train, test = study.split("train").paths()[0], study.split("test").paths()[0]
    test.write_bytes(train.read_bytes())
    run(study)
    assert (
        f"1 image is byte-identical to one in another split, of another patient: {train.stem} and {test.stem}"
        in caplog.text
    )
