"""The one path to the network: right scale, right place, right orientation, no aliasing."""

import cv2
import numpy as np
import pytest

from cxrfeat._images.choices import INTERPOLATIONS, NORMALISATION, POLICIES, Policy
from cxrfeat._images.prepare import geometry, matrix, passes, render
from cxrfeat.errors import RecipeError


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
    assert np.abs(render(grey, 64) - means).max() <= 0.51


def test_an_image_of_the_networks_size_is_untouched():
    grey = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(render(grey, 64), grey)


@pytest.mark.parametrize("shape", [(256, 256), (200, 330), (401, 307), (90, 70)])
@pytest.mark.parametrize("pass_", [None, 1, 2, 3])
def test_geometry_tells_where_the_original_is_shown(shape, pass_):
    # A blob put where the geometry says an input pixel comes from must appear at that input pixel.
    size = 128
    warp = None if pass_ is None else matrix(Policy("p", 10, 0.05, 0.05, 5, 0.1, 0.5), 0, str(shape), pass_)
    target = np.array([50.0, 70.0, 1.0])
    x, y = geometry(shape, size, warp) @ target
    found = centre(render(blob(shape, x, y), size, warp))
    np.testing.assert_allclose(found, target[:2], atol=0.35)


def test_the_identity_warp_agrees_with_pass_0():
    grey = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8), (0, 0), 2)
    difference = render(grey, 224, np.eye(2, 3)).astype(int) - render(grey, 224)
    assert np.abs(difference).mean() < 1.0
    assert abs(difference.mean()) < 0.2


def test_a_warped_pass_is_free_of_aliasing():
    # Stripes finer than the network can show must become grey, in a warped pass as in pass 0.
    stripes = np.zeros((1024, 1024), np.uint8)
    stripes[:, ::2] = 255
    turned = render(stripes, 224, matrix(Policy("turn", rotation=5), 0, "x", 1))
    assert turned[40:-40, 40:-40].std() < 3


def test_passes_draws_pass_0_first_and_each_warp_alone():
    grey = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)
    policy = POLICIES["paper"]
    warps = [matrix(policy, 0, "a", k) for k in (1, 2)]
    stack = passes(grey, 64, warps, policy)
    np.testing.assert_array_equal(stack[0], render(grey, 64))
    np.testing.assert_array_equal(stack[2], render(grey, 64, warps[1], border=policy.border))


@pytest.mark.parametrize("mode", ["torch", "caffe"])
def test_normalisation_equals_keras(mode):
    keras_utils = pytest.importorskip("keras.applications.imagenet_utils")
    grey = np.arange(256, dtype=np.float32).reshape(16, 16, 1)
    expected = keras_utils.preprocess_input(np.repeat(grey, 3, axis=2), data_format="channels_last", mode=mode)
    constants = NORMALISATION[mode]
    np.testing.assert_allclose(grey * np.array(constants.scale) + np.array(constants.offset), expected, atol=1e-4)


def test_unit_is_the_papers_0_to_1():
    assert NORMALISATION["unit"].scale == (1 / 255,) * 3
    assert NORMALISATION["unit"].offset == (0.0,) * 3


@pytest.mark.parametrize(("shape", "size"), [((1024, 1024), 400), ((300, 421), 224), ((100, 100), 224)])
def test_nearest_is_that_of_the_papers_generator(shape, size):
    """Keras's ImageDataGenerator resizes by Pillow's nearest."""
    from PIL import Image

    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(render(grey, size, interpolation="nearest"), expected)


def test_an_unknown_interpolation_is_named():
    with pytest.raises(RecipeError, match="lanczos"):
        render(np.zeros((64, 64), np.uint8), 32, interpolation="lanczos")
    assert set(INTERPOLATIONS) == {"area", "linear", "cubic", "nearest"}
