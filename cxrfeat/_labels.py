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
    """Return the standard spelling of a finding; a name that is not one of the 14 comes back stripped, unchanged.

    Parameters
    ----------
    name : str
        In any case, with blanks or underscores.

    Examples
    --------
    >>> canonical("Infiltrate"), canonical("pleural thickening"), canonical("Scoliosis")
    ('Infiltration', 'Pleural_Thickening', 'Scoliosis')
    """
    folded = " ".join(name.lower().replace("_", " ").split())
    return _BY_FOLDED.get(folded) or _SYNONYMS.get(folded) or name.strip()


def choose(wanted: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of `known` that `wanted` names, in the order wanted.

    Parameters
    ----------
    wanted : iterable of str
        Names, synonyms allowed.
    known : sequence of str
        The labels there are.

    Raises
    ------
    StudyError
        If a name is not among `known`, even by a synonym.
    """
    chosen = []
    for name in wanted:
        label = name if name in known else canonical(name)
        if label not in known:
            raise StudyError(f"unknown label {name!r}; the labels are {', '.join(known)}.")
        chosen.append(label)
    return tuple(dict.fromkeys(chosen))


def choose_known(wanted: Iterable[str], known: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the labels that are known, and a sentence for each that is not; for work that goes on without it.

    Parameters
    ----------
    wanted : iterable of str
        Names, synonyms allowed.
    known : sequence of str
        The labels there are.

    Raises
    ------
    StudyError
        If names are given and none is known.
    """
    chosen: list[str] = []
    strange: list[StudyError] = []
    for name in wanted:
        try:
            chosen += choose([name], known)
        except StudyError as error:
            strange.append(error)
    if strange and not chosen:
        raise strange[0]
    return tuple(dict.fromkeys(chosen)), [str(error) for error in strange]
