"""The one path to the network: right scale, right place, right orientation, no aliasing."""

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from cxrfeat._images.choices import FILTERS, GEOMETRIES, NORMALISATION, POLICIES, Policy
from cxrfeat._images.prepare import View, content, matrix, squares
from cxrfeat._images.resize import _averaged
from cxrfeat._recipe import Recipe
from cxrfeat.errors import ImageError, RecipeError


def blob(shape, x, y, radius=6.0):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))).astype(np.uint8)


def centre(picture):
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    weight = picture.astype(float) / picture.sum()
    return (columns * weight).sum(), (rows * weight).sum()


def test_pass_0_of_a_whole_factor_is_the_mean_of_blocks():
    grey = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    means = grey.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.abs(View(grey, 64).render() - means).max() <= 0.51


def test_an_average_by_products_of_matrices_has_opencvs_bits():
    """Every size that 1024 pixels can be averaged to exactly, on noise and on the values that round worst."""
    rng, taken = np.random.default_rng(0), 0
    for size in range(1, 1024):
        grey = rng.integers(0, 256, (32, 1024), dtype=np.uint8) if size % 8 else rng.choice([0, 255], (32, 1024))
        grey = grey.astype(np.uint8)
        for pixels, to in ((grey, (size, 7)), (grey.T, (7, size)), (grey[:12], (size, 12))):
            if (found := _averaged(pixels, to)) is not None:
                expected = cv2.resize(np.ascontiguousarray(pixels), to, interpolation=cv2.INTER_AREA)
                np.testing.assert_array_equal(found, expected)
                taken += 1
    assert taken > 700


@pytest.mark.parametrize("size", [224, 320, 384, 400, 448])
def test_the_usual_sizes_are_averaged_by_products_of_matrices(size):
    grey = np.random.default_rng(0).integers(0, 256, (1024, 1024), dtype=np.uint8)
    assert _averaged(grey, (size, size)) is not None
    expected = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(View(grey, size).render(), expected)
    assert all(_averaged(film, (size, size)) is None for film in (grey[:, :1023], grey[: 2 * size, : 2 * size]))


def test_an_image_of_the_networks_size_is_untouched():
    grey = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(View(grey, 64).render(), grey)


SQUARES = [("stretch", 0), ("crop", 0), ("crop", 140), ("pad", 0), ("pad", 100)]
STRONG = Policy("p", 10, 0.05, 0.05, 5, 0.1, 0.5)


@pytest.mark.parametrize("shape", [(256, 256), (200, 330), (401, 307), (90, 70)])
@pytest.mark.parametrize(("square", "resize"), SQUARES)
@pytest.mark.parametrize("filter_", ["area", "skimage"])
def test_geometry_tells_where_the_original_is_shown(shape, square, resize, filter_):
    # A blob put where the geometry says an input pixel comes from must appear at that input pixel.
    size = 128
    for number in range(4):
        warp = matrix(STRONG, 0, str(shape), number) if number else None
        target = np.array([50.0, 70.0, 1.0])
        x, y = View(np.zeros(shape, np.uint8), size, filter_, square, resize).geometry_of(warp) @ target
        # On mid-grey, which to skimage's filter is what lies beyond the border.
        film = np.maximum(blob(shape, x, y), 127)
        picture = View(film, size, filter_, square, resize).render(warp)
        assert picture.shape == (size, size) and picture.dtype == FILTERS[filter_].dtype
        np.testing.assert_allclose(centre(np.clip(picture.astype(float) - 140, 0, None)), target[:2], atol=0.35)


@pytest.mark.parametrize(("square", "resize"), SQUARES)
def test_a_square_film_of_the_networks_size_is_itself_in_every_geometry(square, resize):
    grey = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    view = View(grey, 64, "area", square, 64 if resize else 0)
    np.testing.assert_array_equal(view.render(), grey)
    np.testing.assert_allclose(view.geometry_of(), np.eye(2, 3), atol=1e-12)


def bordered(film):
    """A film in a border of black above and white at the right, with noise, a mark in it, and its place."""
    rng = np.random.default_rng(1)
    h, w = film.shape
    framed = np.zeros((h + 17, w + 9), np.uint8)
    framed[:, w:] = 255
    framed[17:, :w] = film
    border = np.ones(framed.shape, bool)
    border[17:, :w] = False
    framed[border] = np.clip(framed[border].astype(int) + rng.integers(-5, 6, border.sum()), 0, 255)
    framed[8, 3:5] = 200
    return framed


@pytest.mark.parametrize(("square", "resize"), SQUARES)
def test_borders_are_cut_off_and_the_geometry_follows(square, resize):
    shape, size, target = (200, 330), 128, np.array([50.0, 70.0, 1.0])
    options = {"size": size, "interpolation": "area", "geometry": square, "resize": resize}
    noise = np.random.default_rng(0).integers(60, 128, shape, dtype=np.uint8)
    recipe = Recipe("net", "random:0", "", "relu", "torch", **options, crop_borders=True)
    whole, cut = View.of(bordered(noise), recipe), View(noise, **options)
    assert (whole.origin, whole.grey.shape) == ((0, 17), shape)
    assert View.of(bordered(noise), replace(recipe, crop_borders=False)).grey.shape == (217, 339), "kept unless asked"
    np.testing.assert_array_equal(whole.render(), cut.render())
    for number in range(3):
        warp = matrix(STRONG, 0, "a", number) if number else None
        np.testing.assert_array_equal(whole.render(warp), cut.render(warp))
        x, y = whole.geometry_of(warp) @ target
        found = View.of(np.maximum(bordered(noise), blob((217, 339), x, y)), recipe).render(warp)
        np.testing.assert_allclose(centre(np.clip(found.astype(float) - 140, 0, None)), target[:2], atol=0.35)


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_that_is_dark_or_bright_itself_stays_whole(value):
    grey = np.full((100, 120), value, np.uint8)
    assert content(grey) == (0, 0, 120, 100)
    grey[40:50, 40:60] = 128
    assert content(grey) == (0, 0, 120, 100)
    grey[10:90, 20:110] = 128
    assert content(grey) == (20, 10, 110, 90)


@pytest.mark.parametrize(
    ("square", "resize", "seen"),
    [("stretch", 0, (0, 0, 330, 200)), ("crop", 0, (65, 0, 265, 200)), ("pad", 0, (0, 0, 330, 200)),
     ("crop", 256, (109, 44, 221, 156)), ("pad", 64, (0, 0, 330, 200))],
)  # fmt: skip
def test_what_the_network_saw_of_a_film(square, resize, seen):
    view = View(np.zeros((200, 330), np.uint8), 128 if resize != 256 else 143, "area", square, resize)
    np.testing.assert_allclose(view.seen, seen, atol=1)


def test_crop_and_pad_keep_the_aspect_and_lose_or_add_only_what_they_say():
    grey = np.random.default_rng(0).integers(1, 256, (60, 101), dtype=np.uint8)
    np.testing.assert_array_equal(View(grey, 60, "area", "crop").render(), grey[:, 20:80])
    padded = View(grey, 101, "area", "pad").render()
    np.testing.assert_array_equal(padded[20:80], grey)
    assert not padded[:20].any() and not padded[80:].any()
    # Resized first: the longer side is 50, and black makes it 64.
    smaller = View(grey, 64, "area", "pad", 50).render()
    assert not smaller[:17].any() and not smaller[:, :7].any() and smaller[25:40, 7:57].all()


def test_a_padded_film_has_black_around_it_in_every_pass():
    grey = np.full((64, 128), 200, np.uint8)
    shifted = View(grey, 64, "area", "pad").render(np.array([[1, 0, 0.1], [0, 1, 0.1]]), "nearest")
    assert not shifted[:8].any() and not shifted[-16:].any()


@pytest.mark.parametrize("shape", [(301, 200), (200, 303), (100, 100), (97, 150)])
def test_pillow_bilinear_and_bicubic_are_torchvisions_resize_and_centre_crop(shape):
    """`Resize(R)`, `CenterCrop(S)` on a Pillow image, by their documented rules."""
    from PIL import Image

    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (h, w), image = shape, Image.fromarray(grey)
    short = min(h, w)
    scaled = (int(73 * w / short), int(73 * h / short))
    left, top = (round((side - 64) / 2.0) for side in scaled)
    for name in ("BILINEAR", "BICUBIC"):
        picture = image.resize(scaled, Image.Resampling[name]).crop((left, top, left + 64, top + 64))
        found = View(grey, 64, f"pillow-{name.lower()}", "crop", 73).render()
        np.testing.assert_array_equal(found, np.asarray(picture))


def test_skimage_is_torchxrayvisions_resizer():
    """The values are TorchXRayVision 1.5.7's with scikit-image 0.26."""
    grey = (np.arange(12)[:, None] * 20 + np.arange(9)[None] * 3).astype(np.uint8)
    found = View(grey, 4, "skimage", "crop").render()
    expected = [
        [-487.743, -477.017, -426.617, -352.357],
        [-207.212, -171.670, -117.458, -61.587],
        [128.787, 189.741, 243.952, 274.412],
        [414.832, 493.818, 544.217, 550.219],
    ]
    constants = NORMALISATION["xrv"]
    np.testing.assert_allclose(found * constants.scale[0] + constants.offset[0], expected, atol=2e-3)


def test_the_identity_warp_agrees_with_pass_0():
    grey = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8), (0, 0), 2)
    view = View(grey, 224)
    difference = view.render(np.eye(2, 3)).astype(int) - view.render()
    assert np.abs(difference).mean() < 1.0
    assert abs(difference.mean()) < 0.2


def test_a_warped_pass_is_free_of_aliasing():
    # Stripes finer than the network can show must become grey, in a warped pass as in pass 0.
    stripes = np.zeros((1024, 1024), np.uint8)
    stripes[:, ::2] = 255
    turned = View(stripes, 224).render(matrix(Policy("turn", rotation=5), 0, "x", 1))
    assert turned[40:-40, 40:-40].std() < 3


def test_squares_are_pass_0_first_and_each_warp_alone():
    grey = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)
    policy = POLICIES["paper"]
    recipe = Recipe("net", "random:0", "", "relu", "torch", 64, augmentation=asdict(policy), passes=2)
    view, stack = View.of(grey, recipe), squares(grey, recipe, "a").pixels
    np.testing.assert_array_equal(stack[0], view.render())
    np.testing.assert_array_equal(stack[2], view.render(matrix(policy, 0, "a", 2), policy.border))
    np.testing.assert_array_equal(squares(grey, recipe, "a", first=1).pixels, stack[1:])


@pytest.mark.parametrize("mode", ["torch", "caffe", "tf"])
def test_normalisation_equals_keras(mode):
    keras_utils = pytest.importorskip("keras.applications.imagenet_utils")
    grey = np.arange(256, dtype=np.float32).reshape(16, 16, 1)
    expected = keras_utils.preprocess_input(np.repeat(grey, 3, axis=2), data_format="channels_last", mode=mode)
    constants = NORMALISATION[mode]
    np.testing.assert_allclose(grey * np.array(constants.scale) + np.array(constants.offset), expected, atol=1e-4)


def test_xrv_is_torchxrayvisions_scale_on_one_channel():
    constants = NORMALISATION["xrv"]
    grey = np.arange(256, dtype=np.float32)
    np.testing.assert_allclose(grey * constants.scale + constants.offset, (2 * (grey / 255) - 1) * 1024, atol=1e-3)


def test_unit_is_the_papers_0_to_1():
    assert NORMALISATION["unit"].scale == (1 / 255,) * 3
    assert NORMALISATION["unit"].offset == (0.0,) * 3


@pytest.mark.parametrize(("shape", "size"), [((1024, 1024), 400), ((300, 421), 224), ((100, 100), 224)])
def test_nearest_is_that_of_the_papers_generator(shape, size):
    """Keras's ImageDataGenerator resizes by Pillow's nearest."""
    from PIL import Image

    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(View(grey, size, "nearest").render(), expected)


@pytest.mark.parametrize("what", ["interpolation", "geometry"])
def test_a_recipe_with_an_unknown_filter_or_geometry_is_named(what):
    recipe = Recipe("net", "random:0", "", "relu", "torch", 32, **{what: "lanczos"})
    with pytest.raises(RecipeError, match=f"{what} 'lanczos' is not one of"):
        View.of(np.zeros((64, 64), np.uint8), recipe)


@pytest.mark.parametrize("how", [{"geometry": "pad"}, {"geometry": "crop", "resize": 64}, {"interpolation": "skimage"}])
def test_a_line_of_pixels_is_refused_before_it_takes_memory(how):
    """8 x 8 million pixels are within the limit of a file; padded to a square they are a hundred terabytes."""
    recipe = Recipe("net", "random:0", "", "relu", "torch", 32, **how)
    line = np.broadcast_to(np.uint8(9), (8, 1 << 23))
    with pytest.raises(ImageError, match="8388608 x 8 pixels, too oblong"):
        View.of(line, recipe)
    assert View.of(line[:, :1000], recipe).render().shape == (32, 32)


def test_a_recipe_decides_the_whole_view():
    names = {"size": 64, "interpolation": "skimage", "geometry": "crop", "resize": 70}
    view = View.of(np.zeros((100, 80), np.uint8), Recipe("net", "random:0", "", "relu", "torch", **names))
    assert {name: getattr(view, name) for name in names} == names
    assert {"stretch", "crop", "pad"} == set(GEOMETRIES)
