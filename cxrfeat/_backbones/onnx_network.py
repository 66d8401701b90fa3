"""Networks from ONNX files: read safely, cut at a layer, and made into what an engine runs.

A file is data and stays data: no operator outside of OpenVINO's own runs, nothing is looked up on a disk but the
external data beside the file, and sizes are checked before memory is taken. What is kept is the part of the network
that leads to the embedding. Its identity is the hash of that computation, values included: the same weights give the
same hash whether they lie in the file or beside it, and whatever its tensors are called.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cxrfeat._images.choices import NORMALISATION
from cxrfeat.errors import EngineError, WeightsError

MAX_BYTES = 2_000_000_000
"""Of a network with its values: protobuf takes no more."""
MAX_NODES = 100_000
MAX_ELEMENTS = 1 << 30
"""Of one tensor while the network runs."""
MAX_CHANNELS = 16_384
"""Widest embedding."""
TOKENS = ("class", "mean")
_CONTROL = ("If", "Loop", "Scan", "SequenceMap")


@dataclass(frozen=True)
class Cut:
    """What a network is besides its values: where it is cut, and how an embedding is made of that tensor.

    `output` is `map` (n, dim, rows, columns), `map last` (n, rows, columns, dim), `class` or `mean` of tokens (n,
    tokens, dim), or `vector` (n, dim). `special` tokens come before those of patches. `sides` are the smallest and
    the largest input, in pixels; `last` says that the input's channels are its last axis. At `size` pixels the map has
    `cells` along a side.
    """

    layer: str
    output: str
    dim: int
    channels: int
    sides: tuple[int, int]
    size: int
    last: bool = False
    special: int = 0
    cells: int = 0

    @property
    def mapped(self) -> bool:
        """Whether the embedding is an average of cells, so that there are maps."""
        return self.output in ("map", "map last", "mean")

    @classmethod
    def of(cls, declared: Mapping[str, Any]) -> Cut:
        """Read what `asdict` of this wrote and JSON kept."""
        return cls(**{**declared, "sides": tuple(declared["sides"])})


def load(path: Path) -> onnx.ModelProto:
    """Read a file with the values beside it; anything else than a sound network is a WeightsError."""
    _check(path.stat().st_size <= MAX_BYTES, path, f"it has more than {MAX_BYTES / 1e9:.0f} GB")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's kinds differ by its version
        raise WeightsError(f"{path} is not an ONNX file.") from error
    _check(bool(model.graph.node) and bool(model.opset_import), path, "it has no network")
    _check(not model.graph.sparse_initializer, path, "it has sparse values, which are not read")
    model = _inlined(model, path)
    _check(len(model.graph.node) <= MAX_NODES, path, f"it has more than {MAX_NODES:,} operations")
    left = MAX_BYTES - path.stat().st_size
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            left -= _take_in(tensor, path)
            _check(left >= 0, path, f"it has more than {MAX_BYTES / 1e9:.0f} GB with the values beside it")
        _check_size(tensor, path)
    for node in model.graph.node:
        _check(node.op_type not in _CONTROL, path, f"it has a {node.op_type}, so that its shapes are not fixed. Export "
               "it for one input size, without dynamic axes but the first")  # fmt: skip
        _check(
            not any(a.type in (a.GRAPH, a.GRAPHS, a.SPARSE_TENSOR) for a in node.attribute),
            path,
            f"its {node.op_type} {node.name!r} has a network of its own, which is not read",
        )
    return model


def cut(
    path: Path, layer: str = "", size: int = 0, tokens: str = "", channels: int = 3
) -> tuple[onnx.ModelProto, Cut, str]:
    """Cut the network of a file at a tensor; return it, what it is, and its hash.

    Without `layer`, or with one that gives no embedding, the WeightsError lists the candidates and their shapes.
    """
    try:
        return _cut(load(path), path, layer, size, tokens, channels)
    except (TypeError, ValueError, LookupError, AttributeError) as error:  # of a damaged file, anywhere
        raise WeightsError(f"{path} is damaged: {error}.") from error


def _cut(
    model: onnx.ModelProto, path: Path, layer: str, size: int, tokens: str, channels: int
) -> tuple[onnx.ModelProto, Cut, str]:
    image = _image(model, path)
    shape, last, fixed = _input(image, path, size, channels)
    shapes = _shapes(model, {image.name: shape}, path)
    found = {name: s for name, s in shapes.items() if _output(s, "")}
    outputs = [output.name for output in model.graph.output]
    if not layer and len(outputs) == 1 and outputs[0] in found:
        layer = outputs[0]
    if layer not in found:
        last_ones = [*[name for name in outputs if name in found], *[n for n in reversed(found) if n not in outputs]]
        listed = "; ".join(f"{name} {found[name]}" for name in last_ones[:12])
        what = f"{path} has no tensor {layer!r} that gives an embedding" if layer else f"{path} needs a `layer`"
        raise WeightsError(
            f"{what}: a map (1, dim, rows, columns), tokens (1, tokens, dim), or a vector (1, dim). Candidates at "
            f"{shape[1 if last else 2]} pixels, outputs first: {listed or 'none'}."
        )
    kept = _kept(model, layer, path)
    side = shape[1 if last else 2]
    output = _output(found[layer], tokens)
    if output == "tokens":
        raise WeightsError(
            f"{layer!r} of {path} is a matrix of tokens {found[layer]}: say by `tokens` whether the embedding is the "
            "`class` token or the `mean` of the patches. There are maps for the mean alone."
        )
    if tokens and output not in TOKENS:
        raise WeightsError(f"{layer!r} of {path} has the shape {found[layer]}, which is no matrix of tokens.")
    special = 0
    if output in TOKENS:
        special = found[layer][1] - _patches(kept, found[layer][1], shapes, side, path)
        _check(special > 0 or output == "mean", path, f"{layer!r} has {found[layer][1]} tokens, all of them patches: "
               "there is no class token")  # fmt: skip
    dim = found[layer][{"map": 1, "map last": 3, "vector": 1}.get(output, 2)]
    sides = (side, side) if fixed else (_SMALLEST, _LARGEST)
    declared = Cut(layer, output, dim, channels, sides, side, last, special, _cells(found[layer], output, special))
    means = fingerprint(kept), output, special, last, channels
    return kept, declared, hashlib.sha256(repr(means).encode()).hexdigest()


_SMALLEST, _LARGEST = 16, 8192


def engine_model(model: onnx.ModelProto, declared: Cut, preprocessing: str, size: int) -> onnx.ModelProto:
    """The network between an image and its embedding, with fixed shapes.

    `image` float32 (1, 1, size, size), grey values 0 to 255 -> `embedding` float32 (1, dim), and `map` float32 (1, dim,
    gh, gw) where there is one.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, net = made.graph, _Builder(made)
    source, target = graph.input[0], graph.output[0]
    constants = NORMALISATION[preprocessing]
    scale = np.asarray(constants.scale, np.float32).reshape(1, -1, 1, 1)
    offset = np.asarray(constants.offset, np.float32).reshape(1, -1, 1, 1)
    # Not by broadcasting, which OpenVINO 2026.4 folds into the first convolution and then has one channel too few.
    grey = net.add("Concat", ["image"] * declared.channels, axis=1)
    x = net.add("Add", [net.add("Mul", [grey, net.constant(scale)]), net.constant(offset)])
    if declared.last:
        x = net.add("Transpose", [x], perm=[0, 2, 3, 1])
    kind = source.type.tensor_type.elem_type
    before = [*net.nodes, helper.make_node("Cast", [x], [source.name], name="cxrfeat/input", to=kind)]
    net.nodes = []
    y = net.add("Cast", [target.name], to=onnx.TensorProto.FLOAT)
    outputs = [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, [1, declared.dim])]
    if declared.output == "class":
        y = net.add("Gather", [y, net.constant(np.array([0]))], axis=1)
    elif declared.mapped:
        y = _map(net, y, declared, _grid(model, declared, size))
        net.nodes.append(helper.make_node("Identity", [y], ["map"], name="cxrfeat/map"))
        outputs.append(helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, [1, declared.dim, None, None]))
        y = net.add("GlobalAveragePool", [y])
    net.nodes.append(
        helper.make_node(
            "Reshape", [y, net.constant(np.array([1, declared.dim]))], ["embedding"], name="cxrfeat/embedding"
        )
    )
    nodes = [*before, *graph.node, *net.nodes]
    for repeated in (graph.node, graph.input, graph.output, graph.value_info):
        del repeated[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, size, size]))
    graph.output.extend(outputs)
    return made


def fingerprint(model: onnx.ModelProto) -> str:
    """Hash of what a network computes: operations, their order of inputs, and values; names play no part."""
    known = {value.name: f"input {i}" for i, value in enumerate(model.graph.input)} | {"": ""}
    known |= {tensor.name: _value_sha256(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = _value_sha256(node.attribute[0].t)
            continue
        if node.op_type == "Identity":
            known[node.output[0]] = known[node.input[0]]
            continue
        attributes = sorted((a.name, _canonical(a)) for a in node.attribute)
        content = repr((node.domain, node.op_type, attributes, [known[name] for name in node.input]))
        for i, name in enumerate(node.output):
            known[name] = hashlib.sha256(f"{content}{i}".encode()).hexdigest()
    opsets = sorted((o.domain, o.version) for o in model.opset_import)
    return hashlib.sha256(repr((opsets, known[model.graph.output[0].name])).encode()).hexdigest()


def place(model: onnx.ModelProto, declared: Cut, size: int) -> tuple[float, float]:
    """Pixels of the input per cell of the map, and the centre of the first cell.

    As strides and paddings of the convolutions and poolings say, if they add up to the grid; else every cell has an
    even share of the input.
    """
    cells = _grid(model, declared, size)
    stride, centre = _places(model, size)
    if not stride or math.ceil(size / stride) not in range(cells - 1, cells + 2):
        stride, centre = size / cells, size / cells / 2 - 0.5
    return stride, centre


class _Builder:
    """Nodes and constants that are added to a network, under names of ours."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.model, self.count = model, 0

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        self.count += 1
        name = f"cxrfeat/{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: Any) -> str:
        self.count += 1
        name = f"cxrfeat/{self.count}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _map(net: _Builder, y: str, declared: Cut, cells: int) -> str:
    if declared.output == "map":
        return y
    if declared.output == "map last":
        return net.add("Transpose", [y], perm=[0, 3, 1, 2])
    patches = net.constant(np.arange(declared.special, declared.special + cells**2))
    y = net.add("Transpose", [net.add("Gather", [y, patches], axis=1)], perm=[0, 2, 1])
    return net.add("Reshape", [y, net.constant(np.array([1, declared.dim, cells, cells]))])


def _check(sound: bool, path: Path, why: str) -> None:
    if not sound:
        raise WeightsError(f"{path} cannot be used: {why}.")


def _inlined(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Replace calls of a model's own functions by what they do, unless that has no end."""
    if not model.functions:
        return model
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def count(nodes: Iterator[Any], above: tuple[tuple[str, str], ...] = ()) -> int:
        total = 0
        for node in nodes:
            key = node.domain, node.op_type
            if key in functions and key not in sizes:
                _check(key not in above and len(above) < 50, path, f"its function {node.op_type} calls itself")
                sizes[key] = count(functions[key].node, (*above, key))
            total += sizes.get(key, 1)
        return total

    _check(count(model.graph.node) <= MAX_NODES, path, f"it has more than {MAX_NODES:,} operations")
    from onnx import inliner

    return inliner.inline_local_functions(model)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == attribute.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _take_in(tensor: onnx.TensorProto, path: Path) -> int:
    """Put values that lie beside the file into their tensor; return how many bytes they have."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    name = said.get("location", "")
    place = path.parent / name
    inside = bool(name) and "\\" not in name and path.parent.resolve() in place.resolve().parents
    _check(
        inside and not place.is_symlink(), path, f"its values {tensor.name!r} are at {name!r}, outside of its folder"
    )
    _check(place.is_file(), path, f"the file {name!r} with its values is not beside it")
    size = _bytes(tensor, path)
    try:
        begin, length = int(said.get("offset", 0)), int(said.get("length", size))
    except ValueError:
        begin, length = -1, 0
    room = place.stat().st_size
    _check(begin >= 0 and length == size and begin + length <= room, path, f"{name!r} is cut off: it has {room:,} "
           f"bytes and ends before {tensor.name!r}")  # fmt: skip
    with place.open("rb") as file:
        file.seek(begin)
        tensor.raw_data = file.read(length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    return length


def _bytes(tensor: onnx.TensorProto, path: Path) -> int:
    """How many bytes a tensor's values have by its shape and type."""
    try:
        item = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        item = 0
    sound = item > 0 and tensor.data_type != onnx.TensorProto.STRING and all(side >= 0 for side in tensor.dims)
    _check(sound, path, f"the type or shape of its values {tensor.name!r} is not known")
    return math.prod(tensor.dims) * item


def _check_size(tensor: onnx.TensorProto, path: Path) -> None:
    if tensor.data_type == onnx.TensorProto.STRING:
        _check(not tensor.raw_data, path, "it has texts where values are expected")
        return
    size, found = _bytes(tensor, path), len(tensor.raw_data)
    if not found and size:
        try:
            found = numpy_helper.to_array(tensor).nbytes
        except (ValueError, TypeError, KeyError):
            found = -1
    _check(found == size, path, f"its values {tensor.name!r} have the shape {tuple(tensor.dims)} and another size")


def _image(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    """The input that takes images: the only one of four axes."""
    values = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in values]
    found = [value for value in inputs if len(value.type.tensor_type.shape.dim) == 4]
    listed = ", ".join(value.name for value in inputs) or "none"
    _check(len(found) == 1, path, f"one input of four axes is expected for images; its inputs are {listed}")
    return found[0]


def _input(image: onnx.ValueInfoProto, path: Path, size: int, channels: int) -> tuple[list[int], bool, bool]:
    """Shape of the input at a size, whether channels are its last axis, and whether the file fixes the size."""
    sides = [d.dim_value if d.HasField("dim_value") else 0 for d in image.type.tensor_type.shape.dim]
    last = sides[1] not in (1, 3) and sides[3] in (1, 3)
    batch, own, rows, columns = (sides[i] for i in ((0, 3, 1, 2) if last else (0, 1, 2, 3)))
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.UINT8)
    _check(image.type.tensor_type.elem_type in kinds, path, f"its input {image.name!r} takes no images")
    _check(batch in (0, 1), path, f"it takes {batch} images at a time. Export it for one image, or any number")
    _check(rows == columns, path, f"its input has {rows} x {columns} pixels, and cxrfeat's images are square")
    _check(own in (0, channels), path, f"it takes {own} channels, and `preprocessing` gives {channels}")
    _check(not size or rows in (0, size), path, f"it takes {rows} pixels, and `size` is {size}")
    _check(bool(size or rows), path, "it does not say which input it takes: name its `size` in pixels")
    side = rows or size
    _check(side <= _LARGEST, path, f"it takes {side} pixels, more than {_LARGEST}")
    return ([1, side, side, channels] if last else [1, channels, side, side]), last, bool(rows)


def _shapes(model: onnx.ModelProto, sides: Mapping[str, list[int]], path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that OpenVINO knows by their names, for inputs of the shapes given."""
    from cxrfeat._backbones.openvino_engine import core

    try:
        network = core().read_model(model.SerializeToString(), b"")
        by_name = {name: port for port in network.inputs for name in port.get_names()}
        network.reshape({by_name[name]: shape for name, shape in sides.items()})
        ports = [port for node in network.get_ordered_ops() for port in node.outputs()]
        known = [(port, port.get_partial_shape()) for port in ports]
    except Exception as error:  # the package raises many kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise EngineError(f"OpenVINO cannot read {path}: {lines[-1] if lines else type(error).__name__}") from error
    found: dict[str, tuple[int, ...]] = {}
    for port, shape in known:
        if shape.is_static:
            fixed = tuple(shape.to_shape())
            _check(math.prod(fixed) <= MAX_ELEMENTS, path, f"it makes a tensor of shape {fixed}, too large to run")
            found |= dict.fromkeys(sorted(port.get_names()), fixed)
    return found


def _output(shape: tuple[int, ...], tokens: str) -> str:
    """What a tensor of that shape is: see `Cut`; empty if no embedding is made of it."""
    if len(shape) not in (2, 3, 4) or shape[0] != 1 or not all(shape):
        return ""
    if len(shape) == 4:
        kind = "map" if shape[2] == shape[3] else "map last" if shape[1] == shape[2] else ""
    else:
        kind = "vector" if len(shape) == 2 else (tokens or "tokens") if shape[1] > 1 else ""
    dim = shape[1] if kind == "map" else shape[-1]
    return kind if 4 < dim <= MAX_CHANNELS else ""


def _kept(model: onnx.ModelProto, layer: str, path: Path) -> onnx.ModelProto:
    """The part of a network that leads to a tensor."""
    graph = model.graph
    made = [name for node in graph.node for name in node.output if name]
    _check(len(made) == len(set(made)), path, "two of its tensors have one name")
    needed, nodes = {layer}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= {name for name in node.input if name}
            nodes.append(node)
    values = [tensor for tensor in graph.initializer if tensor.name in needed]
    image = _image(model, path)
    given = {*(tensor.name for tensor in values), *(name for node in nodes for name in node.output), image.name}
    _check(image.name in needed, path, f"{layer!r} does not depend on the image")
    missing = ", ".join(sorted(needed - given))
    _check(not missing, path, f"{layer!r} needs more than the image: {missing}. Export the image encoder alone")
    output = helper.make_tensor_value_info(layer, onnx.TensorProto.FLOAT, None)
    cut_graph = helper.make_graph(nodes[::-1], "cxrfeat", [image], [output], values)
    return helper.make_model(
        cut_graph, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name="cxrfeat"
    )


def _patches(model: onnx.ModelProto, count: int, shapes: Mapping[str, tuple[int, ...]], side: int, path: Path) -> int:
    """How many of the tokens are patches: as many as the first convolution has cells, or else the largest square."""
    for node in model.graph.node:
        shape = shapes.get(node.output[0], ())
        if node.op_type == "Conv" and len(shape) == 4 and 0 <= count - shape[2] * shape[3] <= _MOST_SPECIAL:
            return shape[2] * shape[3]
    cells = math.isqrt(count)
    square = side % cells == 0 and count - cells**2 <= _MOST_SPECIAL
    _check(square, path, f"{count} tokens are no square of patches after at most {_MOST_SPECIAL} other tokens")
    return cells**2


_MOST_SPECIAL = 32


def _grid(model: onnx.ModelProto, declared: Cut, size: int) -> int:
    """Cells of the map along one side, for an input of that size."""
    if size == declared.size:
        return declared.cells
    shape = [1, size, size, declared.channels] if declared.last else [1, declared.channels, size, size]
    found = _shapes(model, {model.graph.input[0].name: shape}, Path(declared.layer)).get(declared.layer, (0, 0, 0))
    return _cells(found, declared.output, declared.special)


def _cells(shape: tuple[int, ...], output: str, special: int) -> int:
    """Cells along one side of the map that is made of a tensor, 0 if there is none."""
    if output in ("map", "map last"):
        return shape[2]
    if output != "mean":
        return 0
    cells = math.isqrt(max(shape[1] - special, 0))
    if not cells or cells**2 != shape[1] - special:
        raise EngineError(f"{shape[1]} tokens, {special} of them special, are no square of patches.")
    return cells


def _places(model: onnx.ModelProto, size: int) -> tuple[float, float]:
    """Stride and first centre of the output's cells by the strides and paddings on the way (see `graph.places`)."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    known = {model.graph.input[0].name: (1.0, 0.0, size)}
    for node in model.graph.node:
        before = [known[name] for name in node.input if name in known]
        if not before or node.op_type in _PLACELESS:
            continue
        stride, centre, side = max(before)
        if node.op_type in ("Conv", "MaxPool", "AveragePool"):
            step, shift, side = _moved(node, values, side)
            stride, centre = stride * step, centre + stride * shift
        elif node.op_type == "Pad" and node.input[1:2] and node.input[1] in values:
            amounts = numpy_helper.to_array(values[node.input[1]])
            stride, centre, side = stride, centre - stride * float(amounts[2]), side + int(amounts[2] + amounts[-2])
        known |= dict.fromkeys(node.output, (stride, centre, side))
    stride, centre, _ = known.get(model.graph.output[0].name, (0.0, 0.0, 0))
    return stride, centre


_PLACELESS = ("Shape", "Size", "ConstantOfShape", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean")


def _moved(node: onnx.NodeProto, values: Mapping[str, onnx.TensorProto], side: int) -> tuple[int, float, int]:
    """Stride of a convolution or pooling, where its first cell's centre lies, and how many cells there are."""
    said = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    kernel = said.get("kernel_shape") or (list(values[node.input[1]].dims)[2:] if node.input[1:] else [1])
    step, dilation = (said.get("strides") or [1])[0], (said.get("dilations") or [1])[0]
    reach = (kernel[0] - 1) * dilation
    pads = list(said.get("pads") or [0, 0, 0, 0])
    begin, total = pads[0], pads[0] + pads[len(pads) // 2]
    if said.get("auto_pad", b"").startswith(b"SAME"):
        total = max((-(-side // step) - 1) * step + reach + 1 - side, 0)
        begin = total // 2 if said["auto_pad"] == b"SAME_UPPER" else total - total // 2
    return step, reach / 2 - begin, (side + total - reach - 1) // step + 1


def _value_sha256(tensor: onnx.TensorProto) -> str:
    if tensor.data_type == onnx.TensorProto.STRING:
        return repr(list(tensor.string_data))
    values = np.ascontiguousarray(numpy_helper.to_array(tensor))
    digest = hashlib.sha256(f"{tensor.data_type}{values.shape}".encode())
    digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _canonical(attribute: onnx.AttributeProto) -> str:
    if attribute.type == attribute.TENSOR:
        return _value_sha256(attribute.t)
    if attribute.type == attribute.TENSORS:
        return repr([_value_sha256(tensor) for tensor in attribute.tensors])
    value = helper.get_attribute_value(attribute)
    return repr(list(value) if attribute.type in (attribute.FLOATS, attribute.INTS, attribute.STRINGS) else value)
