"""Panels: which rows an image has, on which scale, and that what is hot in a map is hot on the page."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._report import panels
from cxrfeat.errors import ExplainError

LABELS = ("Mass", "Nodule")
HERE = np.array([[25.0, 0, 12], [0, 25, 12]])


def explanation(*maps, image_shape=(100, 100), **more):
    grids = tuple(Grid(f"net{k}", np.array(m, np.float32), HERE) for k, m in enumerate(maps))
    grey = np.full(image_shape, 100, np.uint8)
    p = np.array([0.2, 0.8])
    return Explanation("a.png", LABELS, np.zeros(2), p, "cam", grids, image_shape, "a head", grey=grey, **more)


def planted(value, label=0, at=(1, 2)):
    maps = np.full((2, 4, 4), -1.0)
    maps[label, at[0], at[1]] = value
    return maps


def test_one_backbone_has_one_row():
    (row,) = panels.layers_of(explanation(planted(2.0)), LABELS, "image")
    assert row.name == "" and row.scaled.top.tolist() == [2, 2] and row.scaled.empty.tolist() == [False, True]


def test_several_backbones_are_their_mean_and_a_row_each_on_one_scale():
    """The mean of 2 and 6 is 4; drawn alone it would look as hot as the 6 does."""
    mean, first, second = panels.layers_of(explanation(planted(2.0), planted(6.0)), LABELS, "image")
    assert [row.name for row in (mean, first, second)] == ["", "net0", "net1"]
    assert [row.scaled.raw_max[0] for row in (mean, first, second)] == [4, 2, 6]
    assert [row.scaled.maps.max() for row in (mean, first, second)] == pytest.approx([4 / 6, 2 / 6, 1])
    each = panels.layers_of(explanation(planted(2.0), planted(6.0)), LABELS, "label")
    assert [row.scaled.maps.max() for row in each] == [1, 1, 1]


@pytest.mark.parametrize("image_shape", [(100, 100), (90, 150), (150, 60), (400, 100), (40, 300)])
def test_what_is_hot_in_the_map_is_hot_on_the_page(tmp_path, image_shape):
    """Found again on the page by its colour, whatever the picture's shape."""
    to_image = np.array(
        [[image_shape[1] / 4, 0, image_shape[1] / 8 - 0.5], [0, image_shape[0] / 4, image_shape[0] / 8 - 0.5]]
    )
    one = explanation(planted(3.0), image_shape=image_shape)
    one = replace(one, grids=(Grid("net", one.grids[0].maps, to_image),))
    page = cv2.imread(str(panels.page([one], ["Mass"]).save(tmp_path / "p.png"))).astype(int)
    film = page[:, : page.shape[1] // 2]
    film_rows, film_columns = (np.flatnonzero((film == 100).all(axis=2).sum(axis=1 - k) > 10) for k in (0, 1))
    right = page[film_rows[0] : film_rows[-1] + 1, page.shape[1] // 2 :]
    # Red less blue is what inferno adds to grey; the hot cell fades alike on all sides.
    y, x = (where.mean() for where in np.nonzero(right[..., 2] - right[..., 0] > 20))
    width, height = film_columns[-1] - film_columns[0], film_rows[-1] - film_rows[0]
    step = round((panels.WIDTH + panels.GAP) * panels.DPI)
    left = film_columns[0] + step - page.shape[1] // 2
    assert y / height == pytest.approx(1.5 / 4, abs=0.04)
    assert (x - left) / width == pytest.approx(2.5 / 4, abs=0.04)


def test_every_backbone_makes_the_page_taller_and_images_stand_below_each_other(tmp_path):
    heights = [
        cv2.imread(str(panels.page(rows).save(tmp_path / "p.png"))).shape[0]
        for rows in (
            [explanation(planted(1.0))],
            [explanation(planted(1.0)), explanation(planted(1.0))],
            [explanation(planted(1.0), planted(2.0))],
        )
    ]
    row = (panels.HEAD + panels.WIDTH + panels.FOOT) * panels.DPI
    assert heights[1] - heights[0] == pytest.approx(row, abs=2) and heights[2] - heights[0] == pytest.approx(
        2 * row, abs=2
    )


def test_an_empty_map_has_no_colour_on_the_page(tmp_path):
    page = cv2.imread(str(panels.page([explanation(np.full((2, 4, 4), -1.0))]).save(tmp_path / "p.png"))).astype(int)
    assert np.abs(page[..., 2] - page[..., 0]).max() == 0


def test_boxes_are_drawn_on_their_label_and_on_the_film(tmp_path):
    boxed = explanation(planted(-1.0), boxes=(("Mass", 10.0, 20.0, 30.0, 40.0),))
    page = cv2.imread(str(panels.page([boxed], LABELS).save(tmp_path / "p.png"))).astype(int)
    cyan = (page[..., 0] > 200) & (page[..., 2] < 80)
    thirds = [cyan[:, k * page.shape[1] // 3 : (k + 1) * page.shape[1] // 3] for k in range(3)]
    assert thirds[0].any() and thirds[1].any() and not thirds[2].any()
    rows, columns = np.flatnonzero(thirds[1].any(axis=1)), np.flatnonzero(thirds[1].any(axis=0))
    inch = panels.WIDTH * panels.DPI / 100
    assert np.ptp(rows) == pytest.approx(40 * inch, abs=2) and np.ptp(columns) == pytest.approx(30 * inch, abs=2)


def test_headings_are_the_paper_s():
    one = explanation(planted(3.0))
    (row,) = panels.layers_of(one, LABELS, "image")
    assert panels.heading(replace(one, truth={"Mass": 1.0}), "Mass", row, 0) == (
        "Mass: p=0.200",
        "labelled present, max 3",
    )
    assert panels.heading(one, "Nodule", row, 1) == ("Nodule: p=0.800", "label unknown, no positive evidence")


def test_without_pixels_or_explanations_there_is_a_sentence(tmp_path):
    with pytest.raises(ExplainError, match="nothing to draw"):
        panels.page([]).save(tmp_path / "p.png")
    with pytest.raises(ExplainError, match="no pixels"):
        panels.page([replace(explanation(planted(1.0)), grey=None)]).save(tmp_path / "p.png")
