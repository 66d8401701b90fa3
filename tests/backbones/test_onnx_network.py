"""ONNX files are read safely, cut at a layer and give the embeddings of onnx's own reference implementation."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cxrfeat._backbones import onnx_network
from cxrfeat._images.choices import NORMALISATION
from cxrfeat.errors import CxrfeatError, WeightsError


@pytest.fixture
def saved(tmp_path):
    def save(model, name="model.onnx", **options):
        onnx.save(model, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)


def reference(model, picture, preprocessing="torch", last=False):
    """All outputs of the original model by the reference implementation; the normalisation is written out here."""
    constants = NORMALISATION[preprocessing]
    scaled = [picture * scale + offset for scale, offset in zip(constants.scale, constants.offset, strict=True)]
    image = np.stack(scaled, axis=-1 if last else 0)[None].astype(np.float32)
    return ReferenceEvaluator(model).run(None, {"pixel_values": image})


def run(model, declared, picture, preprocessing="torch"):
    """Outputs of what an engine runs, by OpenVINO."""
    openvino = pytest.importorskip("openvino")
    made = onnx_network.engine_model(model, declared, preprocessing, len(picture))
    core = openvino.Core()
    network = core.read_model(made.SerializeToString(), b"")
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(picture[None, None].astype(np.float32))
    return {name: values for port, values in found.items() for name in port.get_names()}


@pytest.mark.parametrize("preprocessing", ["torch", "unit", "tf"])
@pytest.mark.parametrize(("tokens", "mapped"), [("class", False), ("mean", True)])
def test_a_transformer_gives_its_class_token_or_the_mean_of_its_patches(
    tiny_onnx, saved, picture, tokens, mapped, preprocessing
):
    model = tiny_onnx.vit()
    kept, declared, _ = onnx_network.cut(saved(model), "last_hidden_state", 32, tokens)
    assert (declared.special, declared.sides, declared.mapped) == (tiny_onnx.SPECIAL, (32, 32), mapped)
    found = run(kept, declared, picture, preprocessing)
    expected = reference(model, picture, preprocessing)[0]
    patches = expected[:, tiny_onnx.SPECIAL :]
    np.testing.assert_allclose(found["embedding"], expected[:, 0] if tokens == "class" else patches.mean(1), atol=1e-5)
    assert ("map" in found) == mapped
    if mapped:  # the registers are left out, and rows come before columns
        np.testing.assert_allclose(found["map"][0], patches[0].T.reshape(-1, 4, 4), atol=1e-5)
        assert onnx_network.place(kept, declared, 32) == (8.0, 3.5)


@pytest.mark.parametrize("last", [False, True])
def test_a_convolutional_network_takes_any_size_and_either_order_of_axes(tiny_onnx, saved, picture, last):
    model = tiny_onnx.convolutional(last=last)
    kept, declared, _ = onnx_network.cut(saved(model), "features", 32)
    assert declared.mapped and declared.sides[0] < 32 < declared.sides[1]
    for image in (picture, picture[:24, :24]):
        found = run(kept, declared, image)
        (expected,) = reference(model, image, last=last)
        expected = expected.transpose(0, 3, 1, 2) if last else expected
        np.testing.assert_allclose(found["map"], expected, atol=1e-4)
        np.testing.assert_allclose(found["embedding"], expected.mean((2, 3)), atol=1e-5)
        # Stride 2 without a shift, then 2 x 2 cells at 0 and 2, then three cells from the first one on, 4 apart.
        assert onnx_network.place(kept, declared, len(image)) == (8.0, 5.0)


def test_a_vector_is_an_embedding_without_maps(tiny_onnx, saved, picture):
    model = tiny_onnx.vit()
    kept, declared, _ = onnx_network.cut(saved(model), "pooler_output")
    assert declared.output == "vector" and not declared.mapped
    found = run(kept, declared, picture)
    np.testing.assert_allclose(found["embedding"], reference(model, picture)[1], atol=1e-5)


def test_what_is_not_needed_is_left_out(tiny_onnx, saved):
    kept, _, _ = onnx_network.cut(saved(tiny_onnx.vit()), "last_hidden_state", 32, "class")
    assert "logits" not in [name for node in kept.graph.node for name in node.output]
    assert len(kept.graph.initializer) == len(tiny_onnx.vit().graph.initializer) - 2


def test_without_a_layer_the_candidates_are_listed(tiny_onnx, saved):
    path = saved(tiny_onnx.vit())
    for layer in ("", "no such"):
        with pytest.raises(WeightsError, match=r"last_hidden_state \(1, 19, 16\); pooler_output \(1, 16\)"):
            onnx_network.cut(path, layer, 32)
    with pytest.raises(WeightsError, match="`class` token or the `mean`"):
        onnx_network.cut(path, "last_hidden_state", 32)
    assert onnx_network.cut(saved(tiny_onnx.convolutional()), size=32)[1].layer == "features"  # the only output


def test_the_same_weights_have_the_same_hash_in_any_container(tiny_onnx, saved, tmp_path):
    def sha256(model, name, layer="last_hidden_state", tokens="class", **options):
        return onnx_network.cut(saved(model, name, **options), layer, 32, tokens)[2]

    inside = sha256(tiny_onnx.vit(), "inside.onnx")
    outside = {"save_as_external_data": True, "location": "values.bin", "size_threshold": 0}
    assert sha256(tiny_onnx.vit(), "outside.onnx", **outside) == inside
    renamed = sha256(tiny_onnx.vit(prefix="encoder/"), "renamed.onnx", "encoder/last_hidden_state")
    assert renamed == inside
    constants = tiny_onnx.vit()  # values as operations, which other exporters write
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in constants.graph.initializer]
    nodes += constants.graph.node
    del constants.graph.initializer[:], constants.graph.node[:]
    constants.graph.node.extend(nodes)
    assert sha256(constants, "constants.onnx") == inside
    others = [
        sha256(tiny_onnx.vit(seed=1), "seed.onnx"),
        sha256(tiny_onnx.vit(), "mean.onnx", tokens="mean"),
    ]
    swapped = tiny_onnx.vit()
    a, b = [t for t in swapped.graph.initializer if tuple(t.dims) == (16, 16)][:2]
    a.raw_data, b.raw_data = b.raw_data, a.raw_data
    others.append(sha256(swapped, "swapped.onnx"))
    assert len({inside, *others}) == 4


def test_values_beside_the_file_must_be_whole_and_beside_it(tiny_onnx, saved, tmp_path):
    outside = {"save_as_external_data": True, "location": "values.bin", "size_threshold": 0}
    path = saved(tiny_onnx.vit(), "model.onnx", **outside)
    beside = tmp_path / "values.bin"
    content = beside.read_bytes()
    beside.write_bytes(content[:-8])
    with pytest.raises(WeightsError, match="cut off"):
        onnx_network.load(path)
    beside.unlink()
    with pytest.raises(WeightsError, match="not beside it"):
        onnx_network.load(path)
    (tmp_path / "secret").write_bytes(content)
    beside.symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="outside"):
        onnx_network.load(path)


@pytest.mark.parametrize("location", ["../values.bin", "/etc/passwd", "a\\b", "", "sub/../../values.bin"])
def test_values_elsewhere_are_never_read(tiny_onnx, saved, location):
    model = tiny_onnx.vit()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = saved(tiny_onnx.vit())
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="outside of its folder"):
        onnx_network.load(path)


def _lying(model):
    model.graph.initializer[0].dims[0] = 1 << 40


def _loop(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.insert(0, helper.make_node("Loop", [], ["x"], body=body))


def _endless(model):
    node = helper.make_node("f", ["x"], ["y"], domain="mine")
    model.functions.append(helper.make_function("mine", "f", ["x"], ["y"], [node], [helper.make_opsetid("mine", 1)]))
    model.graph.node.append(helper.make_node("f", ["pixel_values"], ["z"], domain="mine"))


def _laughs(model):
    """Ten levels of functions that call the one below ten times."""
    opsets = [helper.make_opsetid("mine", 1), helper.make_opsetid("", 17)]
    for level in range(10):
        call = ("Identity", "") if not level else (f"f{level - 1}", "mine")
        nodes = [helper.make_node(call[0], ["x"], ["y" if not i else f"y{i}"], domain=call[1]) for i in range(10)]
        model.functions.append(helper.make_function("mine", f"f{level}", ["x"], ["y"], nodes, opsets))
    model.graph.node.append(helper.make_node("f9", ["pixel_values"], ["z"], domain="mine"))


def _first_add(model):
    return next(node for node in model.graph.node if node.op_type == "Add")


def _huge(model):
    """A tensor of 4 TB from a few bytes."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "sides"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["sides"], ["big"]))
    model.graph.node.insert(1, helper.make_node("ReduceMax", ["big"], ["top"], keepdims=0))
    _first_add(model).input[1] = "top"


def _oblong(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 48


def _grey(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def _two(model):
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 16]))
    _first_add(model).input[1] = "mask"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_lying, "another size"),
        (_loop, "shapes are not fixed"),
        (_endless, "calls itself"),
        (_laughs, "operations"),
        (_huge, "too large to run"),
        (_oblong, "square"),
        (_grey, "1 channels"),
        (_two, "needs more than the image: mask"),
    ],
)
def test_hostile_and_unfit_networks_are_refused_in_a_sentence(tiny_onnx, saved, spoil, said):
    model = tiny_onnx.vit()
    spoil(model)
    path = saved(tiny_onnx.vit())
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CxrfeatError, match=said):
        onnx_network.cut(path, "last_hidden_state", 32, "class")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>", b"\x08\x08" * 99])
def test_what_is_no_network_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"not an ONNX file|cannot be used"):
        onnx_network.load(path)


def test_damaged_files_end_in_a_sentence(tiny_onnx, saved, tmp_path):
    """A hundred single-byte changes: read, or refused by one of our errors."""
    content = bytearray(saved(tiny_onnx.vit()).read_bytes())
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.onnx"
    for _ in range(100):
        changed = bytearray(content)
        changed[random.integers(len(content))] = random.integers(256)
        path.write_bytes(changed)
        try:
            onnx_network.cut(path, "last_hidden_state", 32, "class")
        except CxrfeatError:
            continue
