"""Gradient methods on the full graph, against finite differences, formulas written out by hand, and the closed form."""

import numpy as np
import pytest

from cxrfeat._explain.cam import class_maps
from cxrfeat._explain.gradcam import FORMULAS, Gradients, dense, flat, score_of


@pytest.fixture(scope="module")
def small(keras):
    """A tiny convolutional network with a hidden layer in its head, everything a few numbers wide."""
    keras.utils.set_random_seed(3)
    image = keras.Input((12, 12, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    features = keras.layers.Conv2D(4, 5, strides=3, activation="relu", name="conv")(x)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    head_in = keras.Input((4,))
    hidden = keras.layers.Dense(6, activation="tanh", name="hidden")(head_in)
    logits = keras.layers.Dense(2, name="logits")(hidden)
    head = keras.Model(head_in, keras.layers.Activation("sigmoid", name="probability")(logits))
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12), dtype=np.uint8)
    return keras.Model(image, [pooled, features]), head, images


def head_of(model):
    """The head in NumPy, straight from its weights."""
    w1, b1, w2, b2 = (np.asarray(w, dtype=np.float64) for w in model.get_weights())
    return lambda features: np.tanh(features.mean(axis=(0, 1)) @ w1 + b1) @ w2 + b2


def finite_differences(logits, features, label, step=1e-5):
    gradient = np.zeros_like(features)
    for at in np.ndindex(features.shape):
        up, down = features.copy(), features.copy()
        up[at] += step
        down[at] -= step
        gradient[at] = (logits(up)[label] - logits(down)[label]) / (2 * step)
    return gradient


def by_hand(name, features, gradient):
    """Each paper's formula, cell by cell and channel by channel."""
    gh, gw, channels = features.shape
    out = np.zeros((gh, gw))
    for k in range(channels):
        a, g = features[..., k], gradient[..., k]
        if name == "gradcam":
            out += g.sum() / (gh * gw) * a
        elif name == "gradcam++":
            weight = 0.0
            for y, x in np.ndindex(gh, gw):
                if g[y, x]:
                    alpha = g[y, x] ** 2 / (2 * g[y, x] ** 2 + a.sum() * g[y, x] ** 3)
                    weight += alpha * max(g[y, x], 0)
            out += weight * a
        else:
            out += g * a
    return out


@pytest.mark.parametrize("name", FORMULAS)
def test_every_method_against_finite_differences_and_its_formula(small, name):
    graph, head, images = small
    found = Gradients(name, [graph], flat(head))([images])
    features = np.asarray(graph(images[..., None])[1], dtype=np.float64)
    logits = head_of(head)
    for i in range(len(images)):
        np.testing.assert_allclose(found.logits[i], logits(features[i]), rtol=1e-5)
        for label in range(2):
            gradient = finite_differences(logits, features[i], label)
            expected = by_hand(name, features[i], gradient)
            np.testing.assert_allclose(found.parts[0][i, label], expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("what", ["probability", "logit less the mean over labels"])
def test_what_is_differentiated_against_finite_differences(small, what, softmax):
    """One label of three is not learnt: it is in no softmax and in no mean."""
    graph, _, images = small
    rng = np.random.default_rng(1)
    coef, intercept = rng.normal(size=(3, 4)), rng.normal(size=3)
    coef[1], intercept[1] = np.nan, np.nan
    method = Gradients("hirescam", [graph], dense(coef, intercept), score_of(what, softmax, np.isfinite(intercept)))
    found = method([images[:1]])
    features = np.asarray(graph(images[:1, ..., None])[1], dtype=np.float64)[0]

    def scores(at):
        z = (at.mean(axis=(0, 1)) @ np.nan_to_num(coef).T + np.nan_to_num(intercept))[[0, 2]]
        if what != "probability":
            return z - z.mean()
        return np.exp(z) / np.exp(z).sum() if softmax else 1 / (1 + np.exp(-z))

    for at, label in enumerate((0, 2)):
        expected = by_hand("hirescam", features, finite_differences(scores, features, at))
        np.testing.assert_allclose(found.parts[0][0, label], expected, rtol=2e-4, atol=1e-6)


def test_the_full_graph_holds_no_model_and_no_sigmoid(small, keras):
    graph, head, _ = small
    model = Gradients("gradcam", [graph], flat(head)).model
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert [layer.name for layer in model.layers][-1] == "logits"


def test_the_closed_form_is_grad_cam_on_a_real_backbone(trained, graph):
    """(closed form - intercept) / cells equals Grad-CAM before its ReLU."""
    from cxrfeat._heads import load_head

    coef, intercept = load_head(trained.run).linear
    images = trained.pixels[:4]
    found = Gradients("gradcam", [graph], dense(coef, intercept))([images])
    features = np.asarray(graph(images[..., None])[1])
    cells = features.shape[1] * features.shape[2]
    closed = (class_maps(features, coef, intercept) - intercept[:, None, None]) / cells
    np.testing.assert_allclose(found.parts[0], closed, atol=1e-5 * np.abs(closed).max())
    np.testing.assert_allclose(found.logits, class_maps(features, coef, intercept).mean(axis=(2, 3)), atol=1e-4)


def test_an_unlearnt_label_does_not_poison_the_others(small):
    graph, _, images = small
    coef, intercept = np.array([[1.0, 2, -1, 0.5], [np.nan] * 4]), np.array([0.1, np.nan])
    found = Gradients("gradcam", [graph], dense(coef, intercept))([images])
    assert np.isfinite(found.parts[0][:, 0]).all() and found.parts[0][:, 0].any()


def test_two_backbones_of_one_kind_stand_side_by_side(small, keras):
    _, _, images = small
    graphs = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        image = keras.Input((12, 12, 1), dtype="uint8", name="image")
        features = keras.layers.Conv2D(3, 4, strides=4, activation="relu", name="conv")(
            keras.layers.Rescaling(1 / 255, name="grey")(image)
        )
        graphs.append(keras.Model(image, [keras.layers.GlobalAveragePooling2D(name="embedding")(features), features]))
    maps = [np.asarray(g(images[..., None])[1], dtype=np.float64) for g in graphs]
    coef = np.random.default_rng(0).normal(size=(2, 6))
    found = Gradients("gradcam", graphs, dense(coef, np.zeros(2)))([images, images])
    for k, features in enumerate(maps):
        expected = class_maps(features, coef[:, 3 * k : 3 * k + 3], np.zeros(2)) / 9
        np.testing.assert_allclose(found.parts[k], expected, atol=1e-6)
