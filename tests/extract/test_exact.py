"""Embeddings are those of a plain keras.applications model: with its own input, and of warped renderings."""

import cv2
import numpy as np
import pytest

from cxrfeat._backbones import graph
from cxrfeat._images import choices, prepare
from cxrfeat._store import EmbeddingFile

SIZE = 32


def test_embeddings_equal_a_plain_keras_applications_model(make_study, run):
    keras = pytest.importorskip("keras")
    study = make_study(6)
    with EmbeddingFile.open(run(study, passes=1).path) as file:
        found = file.read(study.ids, passes=(0, 1))
    model = keras.applications.DenseNet121(include_top=False, weights=None, pooling="avg", input_shape=(SIZE, SIZE, 3))
    variables = graph.by_path(model)
    for name, values in graph.draw({name: tuple(v.shape) for name, v in variables.items()}, 0).items():
        variables[name].assign(values)
    policy = choices.POLICIES["mild"]
    pictures = []
    for image_id, path in zip(study.ids, study.paths(), strict=True):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        warp = prepare.matrix(policy, 0, str(image_id), 1)
        pictures += [
            cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA),
            prepare.View(grey, SIZE).render(warp),
        ]
    rgb = np.repeat(np.stack(pictures)[..., None], 3, axis=-1).astype(np.float32)
    expected = np.asarray(model(keras.applications.densenet.preprocess_input(rgb), training=False))
    by_pass = expected.reshape(len(study), 2, -1).swapaxes(0, 1)
    np.testing.assert_allclose(found, by_pass, rtol=0, atol=1e-4 * np.abs(expected).max())
