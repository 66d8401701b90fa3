"""The 14 findings of ChestX-ray14, their order, and the other names people give them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cxrfeat.errors import StudyError

NIH_LABELS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""In the order of Wang et al., CVPR 2017, which every table and figure keeps."""

NO_FINDING = "No Finding"

_SYNONYMS = {
    "infiltrate": "Infiltration",
    "pleural effusion": "Effusion",
    "pleural thickening": "Pleural_Thickening",
    "oedema": "Edema",
}
_BY_FOLDED = {name.lower().replace("_", " "): name for name in NIH_LABELS}


def canonical(name: str) -> str:
    """Return the standard spelling of a finding, as Infiltration of "infiltrate"; other names are only stripped."""
    folded = " ".join(name.lower().replace("_", " ").split())
    return _BY_FOLDED.get(folded) or _SYNONYMS.get(folded) or name.strip()


def choose(wanted: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of `known` that `wanted` names, synonyms included, in the order wanted.

    Raises a StudyError if a name is not among `known`.
    """
    chosen, strange = choose_known(wanted, known)
    if strange:
        raise StudyError(strange[0])
    return chosen


def choose_known(wanted: Iterable[str], known: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the labels that are known as `choose` does, and a sentence for each name that is not.

    Raises a StudyError if names are given and none is known.
    """
    names = {name: name if name in known else canonical(name) for name in wanted}
    chosen = tuple(dict.fromkeys(label for label in names.values() if label in known))
    strange = [
        f"unknown label {name!r}; the labels are {', '.join(known)}."
        for name, label in names.items()
        if label not in known
    ]
    if strange and not chosen:
        raise StudyError(strange[0])
    return chosen, strange
