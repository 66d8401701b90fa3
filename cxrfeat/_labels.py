"""Names of findings: the 14 of ChestX-ray14 and their order, other names for the same, and what is a kind of what."""

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

_STANDARD = (
    *NIH_LABELS, NO_FINDING, "Bacterial Pneumonia", "Clavicle Fracture", "COVID-19", "Lung Lesion", "Lung Opacity",
    "Rib Fracture", "Viral Pneumonia",
)  # fmt: skip
_BY_FOLDED = {name.lower().replace("_", " "): name for name in _STANDARD} | {
    "airspace opacity": "Lung Opacity",
    "covid": "COVID-19",
    "covid 19": "COVID-19",
    "covid19": "COVID-19",
    "enlarged heart": "Cardiomegaly",
    "infiltrate": "Infiltration",
    "infiltrates": "Infiltration",
    "nodule or mass": "Nodule/Mass",
    "oedema": "Edema",
    "pleural effusion": "Effusion",
    "pulmonary edema": "Edema",
    "pulmonary fibrosis": "Fibrosis",
    "pulmonary oedema": "Edema",
    "tb": "Tuberculosis",
}
"""Standard names by what people write, in small letters."""

_KINDS = {
    "Lung Opacity": ("Atelectasis", "Consolidation", "Edema", "Infiltration", "Lung Lesion", "Pneumonia"),
    "Lung Lesion": ("Nodule/Mass", "Lung tumor"),
    "Nodule/Mass": ("Mass", "Nodule"),
    "Enlarged Cardiomediastinum": ("Cardiomegaly",),
    "Pleural Other": ("Pleural_Thickening",),
    "Fracture": ("Clavicle Fracture", "Rib Fracture"),
    "Pneumonia": ("Viral Pneumonia", "Bacterial Pneumonia", "Fungal Pneumonia"),
    "Viral Pneumonia": ("COVID-19", "SARS"),
}
PARENTS = {kind: parent for parent, kinds in _KINDS.items() for kind in kinds}
"""What a finding is a kind of, as in Irvin et al., AAAI 2019, Figure 1, and in the collections of COVID-19."""


def kinds_of(label: str, known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of the labels known, those that are kinds of a finding, and those that it is a kind of."""
    above = _above(label)
    return [name for name in known if label in _above(name)], [name for name in known if name in above]


def _above(label: str) -> tuple[str, ...]:
    parent = PARENTS.get(canonical(label))
    return (parent, *_above(parent)) if parent else ()


def canonical(name: str) -> str:
    """Return the standard spelling of a finding, as Infiltration of "infiltrate"; other names are only stripped."""
    folded = " ".join(name.lower().replace("_", " ").split())
    return _BY_FOLDED.get(folded, name.strip())


def nih_first(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels with the 14 NIH findings first and in their order, the others as they come."""
    found = tuple(labels)
    return tuple(name for name in NIH_LABELS if name in found) + tuple(n for n in found if n not in NIH_LABELS)


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
