"""Maps by gradients, on the full graph: normalisation, backbone, pooling and head joined flat in one functional model.

The logit is differentiated, not the probability: a sigmoid near 0 or 1 would scale the map to nothing. (The paper's
variant differentiates the probability, as the paper does.) Everything after the mapped layer is small, so that the
gradient of each label costs a fraction of the one forward pass. Keras is imported when a method is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones import backends
from cxrfeat._explain.cam import Evidence, Floats
from cxrfeat._explain.explanation import CENTRED, PROBABILITY
from cxrfeat.errors import ExplainError


def grad_cam(features: Floats, gradients: Floats) -> Floats:
    """Grad-CAM: channels weighted by their mean gradient (Selvaraju et al., ICCV 2017, equations 1 and 2).

    From activations and gradients (n, gh, gw, dim) to signed maps (n, gh, gw), before the ReLU; so do the other
    methods.
    """
    return np.einsum("nxyk,nk->nxy", features, gradients.mean(axis=(1, 2)), optimize=True)


def grad_cam_plus_plus(features: Floats, gradients: Floats) -> Floats:
    """Grad-CAM++: positive gradients weighted cell by cell (Chattopadhay et al., WACV 2018, equations 10 and 19).

    The class score is taken as the exponential of the logit, as there; its value is a positive factor common to the
    whole map, and is left out.
    """
    total = features.sum(axis=(1, 2), keepdims=True)
    divisor = 2 * gradients**2 + total * gradients**3
    weight = np.divide(gradients**2, divisor, out=np.zeros_like(divisor), where=divisor != 0)
    channel = (weight * np.maximum(gradients, 0)).sum(axis=(1, 2))
    return np.einsum("nxyk,nk->nxy", features, channel, optimize=True)


def hires_cam(features: Floats, gradients: Floats) -> Floats:
    """HiResCAM: gradient times activation, cell by cell, summed over channels (Draelos and Carin, 2020, equation 3).

    Also equation 6 of the reference paper, which takes the gradient of the network's output; see `score_of`.
    """
    return np.einsum("nxyk,nxyk->nxy", features, gradients, optimize=True)


HEAD = "head"
FORMULAS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "paper": hires_cam,
}


class Gradients:
    """A gradient method on the full graph.

    `graphs` are Keras models, one per backbone: uint8 (n, size, size, 1) -> [embedding, features]; `join` adds the head
    to a Keras tensor (n, dim) and returns its logits (n, labels), see `dense` and `flat`; `score` is what of the logits
    is differentiated, see `score_of`. `model` is the full graph, flat: images -> [features of each backbone, embedding,
    logits]; `after` the part of it that comes after the features.
    """

    def __init__(
        self, name: str, graphs: Sequence[Any], join: Callable[[Any], Any], score: Callable[[Any], Any] = lambda z: z
    ) -> None:
        keras = backends.keras()
        self.name, self.score = name, score
        for number, graph in enumerate(graphs if len(graphs) > 1 else ()):
            for layer in graph.layers:  # one functional model cannot hold two layers called `embedding`
                layer.name = f"{graph.name}_{number}_{layer.name}"
        inputs = [graph.inputs[0] for graph in graphs]
        embeddings, features = zip(*(graph.outputs for graph in graphs), strict=True)
        embedding = keras.layers.Concatenate(name="embeddings")(list(embeddings)) if len(graphs) > 1 else embeddings[0]
        logits = join(embedding)
        self.model = keras.Model(inputs, [*features, embedding, logits], name="full_graph")
        # The same layers cut at the mapped one: what comes after it is all that a gradient has to pass.
        self.after = keras.Model(list(features), [embedding, logits], name="after_features")
        self.backend = backends.backend()
        # Sanity checks change the weights.
        images = inputs if len(inputs) > 1 else inputs[0]
        self._features = self.backend.compile(keras.Model(images, list(features), name="features"), frozen=False)

    def __call__(self, inputs: Sequence[npt.NDArray[np.uint8]]) -> Evidence:
        """See `cam.Method`."""

        def after(features: list[Any]) -> tuple[Any, Any, Any]:
            embedding, logits = self.after(features, training=False)
            return embedding, logits, self.score(logits)

        numpy, formula = backends.keras().ops.convert_to_numpy, FORMULAS[self.name]
        features = self._features(*(batch[..., None] for batch in inputs))
        (embedding, logits), columns = self.backend.gradients(after, features)
        parts: list[list[Floats]] = [[] for _ in features]
        arrays: list[Floats] = [feature.astype(np.float64) for feature in features]
        for gradients in columns:
            for k, gradient in enumerate(gradients):
                if gradient is None:
                    raise ExplainError("the head's logits do not depend on the features, so they have no gradient.")
                parts[k].append(formula(arrays[k], numpy(gradient).astype(np.float64)))
        return Evidence(
            numpy(embedding), numpy(logits).astype(np.float64), tuple(np.stack(maps, axis=1) for maps in parts)
        )


def score_of(what: str, softmax: bool, fitted: npt.NDArray[np.bool_]) -> Callable[[Any], Any]:
    """What is differentiated, as a function of the logits (n, labels): they, they less their mean, or probabilities.

    Mean and softmax run over the labels that the head has learnt, bool (labels,).
    """
    ops, learnt = backends.keras().ops, np.flatnonzero(fitted)
    if what == CENTRED:
        return lambda z: z - ops.mean(ops.take(z, learnt, axis=1), axis=1, keepdims=True)
    if what == PROBABILITY:
        return lambda z: ops.softmax(ops.where(fitted, z, -np.inf)) if softmax else ops.sigmoid(z)
    return lambda z: z


def dense(coef: Floats, intercept: Floats) -> Callable[[Any], Any]:
    """Join a linear head as one Dense layer, a scaler already folded into its weights.

    Labels the head has not learnt (NaN) get zero weights, so that they do not poison the gradients of the others.
    """

    def join(embedding: Any) -> Any:
        layer = backends.keras().layers.Dense(len(coef), name="linear_head")
        logits = layer(embedding)
        layer.set_weights([np.nan_to_num(coef).T.astype(np.float32), np.nan_to_num(intercept).astype(np.float32)])
        return logits

    return join


def flat(model: Any) -> Callable[[Any], Any]:
    """Join a Keras head, (n, dim) -> probabilities, layer by layer, so that no model is nested in the full graph.

    Its logits are in a layer `logits`; what follows them is left out.
    """

    def join(embedding: Any) -> Any:
        # Heads are chains of layers; were one not, its logits would differ from the head's own, and that is checked.
        # Calling the layers themselves shares the head's weights and nests no model.
        tensor = embedding
        for layer in model.layers[1:]:
            tensor = layer(tensor)
            if layer.name == "logits":
                return tensor
        raise ExplainError("the Keras head has no layer `logits` to differentiate.")

    return join


def cascade(method: Gradients, seed: int = 0) -> Iterator[str]:
    """Randomise the graph step by step, in place: yield `head`, then the stages, as in `stride 32` ... `stride 2`.

    What was random stays random (Adebayo et al., NeurIPS 2018, section 3.1). Head kernels are shuffled, so that their
    scale stays; backbone weights are drawn as `random:SEED` draws them.
    """
    from cxrfeat._backbones.graph import draw, layer_variables

    for name, layers in stages_of(method).items():
        for layer in layers:
            if name == HEAD:
                rng, weights = np.random.default_rng([seed, len(layer.weights)]), layer.get_weights()
                # Column by column: every output keeps its own set of weights, and loses which feature they belong to.
                layer.set_weights([rng.permuted(w, axis=0) if w.ndim > 1 else w for w in weights])
                continue
            variables = layer_variables(layer)
            drawn = draw({f"sanity/{key}": tuple(v.shape) for key, v in variables.items()}, seed)
            for variable, values in zip(variables.values(), drawn.values(), strict=True):
                variable.assign(values)
        yield name


def stages_of(method: Gradients) -> dict[str, list[Any]]:
    """Layers with weights by stage, from the head down: a stage is all layers whose cells are as many pixels wide.

    Networks halve their maps from stage to stage, so that this follows from the graph and not from the layers' names.
    Of several backbones, a stage holds the layers of all of them.
    """
    from cxrfeat._backbones.graph import places

    head, where = {id(layer) for layer in method.after.layers}, places(method.model)
    found: dict[int, list[Any]] = {}
    for layer in method.model.layers:
        if layer.weights and id(layer) not in head:
            found.setdefault(where[layer.name].stride, []).append(layer)
    stages = {f"stride {stride}": found[stride] for stride in sorted(found, reverse=True)}
    return {HEAD: [layer for layer in method.after.layers if layer.weights], **stages}
