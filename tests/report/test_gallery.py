"""A folder of explanations: in order, made once, gone on with after a stop, and never half-believed."""

import itertools
from typing import ClassVar

import numpy as np
import pytest

from cxrfeat._explain.explainer import Failure
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._explain.targets import Target
from cxrfeat._report import gallery
from cxrfeat.errors import ImageError

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
            target.image_id, self.labels, p, p, "cam", (Grid("densenet121", maps, HERE),), (100, 100), grey=grey
        )


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(gallery, "Explainer", Stub)
    monkeypatch.setattr(Stub, "asked", [])
    monkeypatch.setattr(Stub, "stop_at", None)
    return Stub


@pytest.fixture
def targets(tmp_path):
    paths = [tmp_path / f"{k:03d}{'bad' if k == 7 else ''}.png" for k in range(40)]
    for path in paths:
        path.write_bytes(b"x")
    return [Target(path.name, path) for path in paths]


def test_images_come_in_order_and_failures_stop_nobody(trained, stub, targets, tmp_path):
    told = []
    found = gallery.make(
        trained.run, targets, tmp_path / "out", progress=lambda done, total, note: told.append((done, note))
    )
    good = [t.image_id for t in targets if "bad" not in t.image_id]
    assert [row["image_id"] for row in found.rows] == good and list(found.failed) == ["007bad.png"]
    assert told == list(zip(itertools.count(1), [t.image_id for t in targets], strict=False))
    for row in found.rows:
        assert (tmp_path / "out" / row["image_id"]).is_file() and Explanation.load(row["maps"])


def test_a_stopped_gallery_is_gone_on_with_and_a_finished_one_asks_nothing(trained, stub, targets, tmp_path):
    stub.stop_at = "030.png"
    with pytest.raises(KeyboardInterrupt):
        gallery.make(trained.run, targets, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.npz"))) == 29  # 30 were explained, one of them bad
    stub.stop_at, stub.asked[:] = None, []
    gallery.make(trained.run, targets, tmp_path / "out")
    assert stub.asked == ["007bad.png", *(t.image_id for t in targets[30:])]
    stub.asked.clear()
    again = gallery.make(trained.run, [t for t in targets if "bad" not in t.image_id], tmp_path / "out")
    assert not stub.asked and all(row["resumed"] for row in again.rows)


@pytest.mark.parametrize("harm", ["no maps", "no panel", "damaged maps", "newer image"])
def test_what_is_not_whole_is_made_again(trained, stub, targets, tmp_path, harm):
    """As a process killed between the two files, a full disk or a replaced image would leave it."""
    gallery.make(trained.run, targets[:3], tmp_path / "out")
    maps, panel = tmp_path / "out" / "001.npz", tmp_path / "out" / "001.png"
    if harm == "no maps":
        maps.unlink()
    elif harm == "no panel":
        panel.unlink()
    elif harm == "damaged maps":
        maps.write_bytes(maps.read_bytes()[:100])
    else:
        targets[1].path.write_bytes(b"y")
    stub.asked.clear()
    gallery.make(trained.run, targets[:3], tmp_path / "out")
    assert stub.asked == ["001.png"] and Explanation.load(maps) and panel.is_file()


def test_a_panel_that_cannot_be_written_is_not_passed_over(trained, stub, targets, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gallery.panels, "draw", full)
    with pytest.raises(OSError, match="No space"):
        gallery.make(trained.run, targets, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.npz"))
