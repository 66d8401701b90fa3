"""A page in inches: what is placed lands on its pixels, and what does not fit is cut and breaks nothing."""

import cv2
import numpy as np
import pytest

from cxrfeat._report.canvas import DPI, Canvas


def ink(canvas):
    """Rows and columns that are not white."""
    dark = (canvas.pixels < 255).any(axis=2)
    return np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))


def test_a_picture_lands_where_it_is_put_and_is_cut_at_the_edge():
    canvas = Canvas(1, 1)
    picture = np.random.default_rng(0).integers(0, 255, (30, 20, 3), dtype=np.uint8)
    canvas.picture(0.5, 0.2, picture)
    np.testing.assert_array_equal(canvas.pixels[22:52, 55:75], picture)
    canvas.picture(0.95, 0.95, picture)
    at = round(0.95 * DPI)
    np.testing.assert_array_equal(canvas.pixels[at:, at:], picture[: 110 - at, : 110 - at])


@pytest.mark.parametrize(("ha", "side"), [("left", 0), ("center", 0.5), ("right", 1)])
@pytest.mark.parametrize(("va", "edge"), [("top", 0), ("bottom", 1)])
def test_words_stand_at_their_anchor(ha, side, va, edge):
    canvas = Canvas(2, 1)
    canvas.text(1.0, 0.5, "HHHH", 10, ha, va)
    rows, columns = ink(canvas)
    assert columns[0] * (1 - side) + columns[-1] * side == pytest.approx(DPI, abs=3)
    # What stands there is the line, which has room for accents above and tails below.
    assert rows[0] * (1 - edge) + rows[-1] * edge == pytest.approx(DPI / 2, abs=5)


def test_dollars_are_letters_and_no_formula():
    wide = []
    for words in ("a$b$c", "abc"):
        canvas = Canvas(2, 1)
        canvas.text(0.1, 0.1, words, 10)
        wide.append(np.ptp(ink(canvas)[1]))
    assert wide[0] > wide[1] + 10


def test_words_beyond_the_page_are_cut():
    canvas = Canvas(0.5, 0.3)
    for x, y in ((-0.2, -0.05), (0.4, 0.25), (2.0, 2.0), (-3.0, 0.1)):
        canvas.text(x, y, "words that do not fit", 9)
    assert canvas.pixels.shape == (33, 55, 3)


def test_words_on_a_ground_of_another_colour():
    canvas = Canvas(2, 0.5)
    canvas.text(1, 0.15, "white on black", 8, "center", colour="white", behind="black")
    rows, columns = ink(canvas)
    inside = canvas.pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert inside.min() == 0 and inside.max() == 255
    assert not inside[[0, -1]].any() and not inside[:, [0, -1]].any()


def test_an_outline_is_two_pixels_wide_and_inside_its_rectangle():
    canvas = Canvas(1, 1)
    canvas.rectangle(0.1, 0.2, 0.5, 0.3, "black")
    expected = np.full((110, 110), 255)
    expected[22:55, 11:66] = 0
    expected[24:53, 13:64] = 255
    np.testing.assert_array_equal(canvas.pixels[..., 0], expected)


def test_what_is_saved_is_what_was_drawn(tmp_path):
    canvas = Canvas(1, 0.5)
    canvas.picture(0, 0, np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    path = canvas.save(tmp_path / "page.png")
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], canvas.pixels)
