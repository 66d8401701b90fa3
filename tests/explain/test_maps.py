"""The front door to maps: in order, made once, resumed after a stop, never half-believed, and printed well."""

import itertools
from typing import ClassVar

import cv2
import numpy as np
import pytest

from cxrfeat._explain import maps as maps_module
from cxrfeat._explain.explainer import Failure
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._explain.maps import explain
from cxrfeat._explain.targets import Target
from cxrfeat._report import panels
from cxrfeat.errors import ExplainError, ImageError, OutputError

HERE = np.array([[25.0, 0, 12], [0, 25, 12]])


class Stub:
    """Explains any image at once, says which it was asked for, and can be made to stop as Ctrl-C does."""

    asked: ClassVar[list] = []
    stop_at = None

    def __init__(self, run, *args, **kwargs):
        self.labels = run.labels

    def explain(self, targets):
        for target in targets:
            if target.image_id == self.stop_at:
                raise KeyboardInterrupt
            self.asked.append(target.image_id)
            yield self.one(target)

    def one(self, target):
        if "bad" in target.image_id:
            return Failure(target, ImageError("cannot be decoded."))
        n = len(self.labels)
        maps = np.ones((n, 4, 4), np.float32)
        grey = np.full((100, 100), 90, np.uint8)
        p = np.linspace(0.1, 0.9, n)
        return Explanation(
            target.image_id, self.labels, p, p, "cam", (Grid("densenet121", maps, HERE),), (100, 100), grey=grey,
            path=target.path,
        )  # fmt: skip


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(maps_module, "Explainer", Stub)
    monkeypatch.setattr(Stub, "asked", [])
    monkeypatch.setattr(Stub, "stop_at", None)
    return Stub


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{k:03d}{'bad' if k == 7 else ''}.png" for k in range(40)]
    for path in paths:
        path.write_bytes(b"x")
    return paths


def test_images_come_in_order_and_failures_stop_nobody(trained, stub, images, tmp_path, caplog):
    told = []
    found = explain(
        trained.run, images, out=tmp_path / "out", progress=lambda done, total, note: told.append((done, note))
    )
    good = [path.name for path in images if "bad" not in path.name]
    assert [row["image_id"] for row in found.rows] == good and list(found.failed) == ["007bad.png"]
    assert told == list(zip(itertools.count(1), [path.name for path in images], strict=False))
    assert "007bad.png: cannot be decoded" in caplog.text
    for row in found.rows:
        assert (tmp_path / "out" / row["image_id"]).is_file() and Explanation.load(row["maps"])


def test_a_stopped_folder_is_resumed_and_a_finished_one_asks_nothing(trained, stub, images, tmp_path):
    stub.stop_at = "030.png"
    with pytest.raises(KeyboardInterrupt):
        explain(trained.run, images, out=tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.npz"))) == 29  # 30 were explained, one of them bad
    stub.stop_at, stub.asked[:] = None, []
    explain(trained.run, images, out=tmp_path / "out")
    assert stub.asked == ["007bad.png", *(path.name for path in images[30:])]
    stub.asked.clear()
    again = explain(trained.run, [path for path in images if "bad" not in path.name], out=tmp_path / "out")
    assert not stub.asked and all(row["resumed"] for row in again.rows)


@pytest.mark.parametrize(
    "harm", ["no maps", "no panel", "damaged maps", "damaged panel", "newer image", "damaged settings"]
)
def test_what_is_not_whole_is_made_again(trained, stub, images, tmp_path, harm):
    """As a process killed between the two files, a full or a failing disk, or a replaced image would leave it."""
    explain(trained.run, images[:3], out=tmp_path / "out")
    maps, panel = tmp_path / "out" / "001.npz", tmp_path / "out" / "001.png"
    if harm == "no maps":
        maps.unlink()
    elif harm == "no panel":
        panel.unlink()
    elif harm == "damaged maps":
        maps.write_bytes(maps.read_bytes()[:100])
    elif harm == "damaged panel":
        data = bytearray(panel.read_bytes())
        data[len(data) // 2] ^= 255
        panel.write_bytes(data)
    elif harm == "damaged settings":
        (tmp_path / "out" / "settings.json").write_bytes(b"\xff\x00{")
    else:
        images[1].write_bytes(b"y")
    stub.asked.clear()
    found = explain(trained.run, images[:3], out=tmp_path / "out")
    whole = ["000.png", "001.png", "002.png"]
    assert stub.asked == (whole if harm == "damaged settings" else ["001.png"])
    assert Explanation.load(maps) and panel.is_file() and len(found) == 3


def test_a_panel_that_cannot_be_written_is_not_passed_over(trained, stub, images, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(panels, "page", full)
    with pytest.raises(OSError, match="No space"):
        explain(trained.run, images, out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.npz"))


def test_ids_too_long_for_a_file_name_and_ids_alike_have_files_of_their_own(trained, stub, tmp_path):
    """A study may call an image anything: 240 characters stopped a folder of maps, since 255 bytes are a name."""
    names = ("é" * 240, "é" * 239 + "x", "a.png", "a.dcm")
    made = [Target(name, tmp_path / f"{k}.png") for k, name in enumerate(names)]
    explanations = [Stub(trained.run).one(target) for target in made]
    stems = maps_module._stems(tmp_path / "out", explanations)
    assert len({*stems}) == 4 and all(len(stem.name.encode()) < 200 for stem in stems)
    found = maps_module.Maps(trained.run)
    for one in explanations:
        found._add(one, None, False)
        cv2.imwrite(str(one.path), one.grey)
    folder = found.save(tmp_path / "out")
    assert len(list(folder.glob("*.npz"))) == len(list(folder.glob("*.png"))) == 4


def test_maps_in_memory_are_drawn_from_their_files_and_print_well(trained, tmp_path):
    found = explain(trained.run.path, trained.study.paths()[3], "mass", engine="openvino")
    assert len(found) == 1 and found[0].grey is None and found.labels == ("Mass",)
    assert "1 image:" in repr(found) and "RANDOM" in repr(found)
    assert "data:image/png;base64," in found._repr_html_() and "data:image/png" in found[0]._repr_html_()
    height, width, _ = panels.page(list(found), found.labels).pixels.shape
    size = found.plot().get_size_inches() * panels.DPI
    assert (round(size[0]), round(size[1])) == (width, height)
    table = found.to_frame()
    assert list(table["label"]) == list(trained.run.labels) and table["truth"].notna().all()
    assert sorted(path.suffix for path in found.save(tmp_path / "out").iterdir()) == [".npz", ".png"]
    assert explain(trained.run, "film03.png", out=tmp_path / "out").rows[0]["resumed"] is False  # no settings are there


def test_an_unknown_label_is_logged_and_the_others_are_drawn(trained, stub, images, caplog):
    found = explain(trained.run, images[:1], ["Scoliosis", "Mass"])
    assert found.labels == ("Mass",) and "unknown label 'Scoliosis'" in caplog.text and len(found.unknown) == 1


def test_maps_read_from_a_file_have_no_pixels_to_draw_on(trained, stub, images, tmp_path):
    row = explain(trained.run, images[:1], out=tmp_path / "out").rows[0]
    alone = Explanation.load(row["maps"])
    with pytest.raises(ExplainError, match="no pixels"):
        alone.plot()
    assert "<table>" in alone._repr_html_() and "000.png" in repr(alone)


def test_a_panel_never_replaces_its_image(trained, tmp_path):
    """A panel has its image's name: in the folder of the images it would be the image."""
    film = tmp_path / "film.png"
    film.write_bytes(next(iter(trained.study.paths())).read_bytes())
    before = film.read_bytes()
    with pytest.raises(OutputError, match="is an input"):
        explain(trained.run, film, out=tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "film.png").write_bytes(before)
    with pytest.raises(OutputError, match="is a file of another kind"):
        explain(trained.run, film, out=tmp_path / "other")
    assert film.read_bytes() == (tmp_path / "other" / "film.png").read_bytes() == before
    assert len(list(tmp_path.rglob("*"))) == 3
