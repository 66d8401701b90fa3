"""What a network may compute in; one entry says all that engines, checks and messages need to know of it."""

from __future__ import annotations

from dataclasses import dataclass

from cxrfeat.errors import RecipeError


@dataclass(frozen=True)
class Precision:
    """One precision.

    `hint` and `capability` are OpenVINO's words for what it computes in and for what the processor must have, and
    `instructions` those that users know. `dtype` is Keras's policy; empty where Keras does not compute so. `canary` is
    how far the embedding of the test image may be from the expected one, as a share of its largest value: engines agree
    within a part of it, a damaged network is off by far more. `probability` is how far two probabilities of the same
    image may be, computed on two processors. `calibrated`: the network is quantised on a study's images, and the hash
    of the quantised network is in the recipe.
    """

    name: str
    hint: str
    capability: str = "FP32"
    instructions: str = ""
    dtype: str = ""
    canary: float = 1e-3
    probability: float = 2e-3
    calibrated: bool = False


PRECISIONS = {
    one.name: one
    for one in (
        Precision("float32", "f32", dtype="float32"),
        Precision("bfloat16", "bf16", "BF16", "AVX512_BF16 or AMX", "mixed_bfloat16", canary=0.03, probability=0.02),
        Precision("float16", "f16", "FP16", "AVX512_FP16 or AMX-FP16", "mixed_float16", canary=0.02, probability=0.01),
        # What is not quantised stays float32, so that values do not depend on which of the others a processor has.
        Precision("int8", "f32", "VNNI", "AVX512_VNNI or AVX_VNNI", canary=0.01, probability=5e-3, calibrated=True),
    )
}


def precision(name: str) -> Precision:
    """Return the entry of a name; an unknown one is a RecipeError."""
    if name not in PRECISIONS:
        raise RecipeError(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}.")
    return PRECISIONS[name]
