"""Importing a checkpoint: read, recognised, converted and kept in the library, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cxrfeat import _files as files
from cxrfeat._backbones import library
from cxrfeat._backbones.checkpoints import convert, reader
from cxrfeat._backbones.library import Card
from cxrfeat.errors import WeightsError

_log = logging.getLogger(__name__)


def import_file(
    path: str | Path,
    name: str,
    layout: str | None = None,
    labels: Sequence[str] | None = None,
    need_classifier: bool = False,
    overwrite: bool = False,
    origin: Mapping[str, Any] = MappingProxyType({}),
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> Card:
    """Keep the weights of a checkpoint under a name; see `cxrfeat.import_weights`.

    `origin` has fields of the card that are stated and not taken from the layout, `more` files to keep beside it.
    """
    path = Path(path)
    library.check_name(name)
    checkpoint = reader.read(path)
    found = convert.recognise(checkpoint)
    chosen = convert.layout_of(checkpoint, found, layout)
    backbone, top = convert.arrays(checkpoint, found)
    outputs = top["bias"].size if top else 0
    given = None if labels is None else tuple("" if label == "-" else label for label in labels)
    named = given if given is not None else chosen.labels if outputs == len(chosen.labels) else ()
    if (labels is not None or need_classifier) and (not outputs or len(named) != outputs):
        has = f"a classifier of {outputs} outputs" if outputs else "no classifier"
        why = f"`labels` names {len(named)}" if labels is not None else f"the layout {chosen.name} names no such labels"
        raise WeightsError(f"{path} has {has}, and {why}. Give `labels`, one for each output, `-` to leave one out.")
    if doubled := sorted({label for label in named if label and named.count(label) > 1}):
        raise WeightsError(f"`labels` has {doubled[0]!r} twice.")
    if outputs and not named:
        _log.info("the classifier of %s is left out: its %d outputs have no names.", path.name, outputs)
    known = {key: getattr(chosen, key) for key in ("trained_on", "licence", "reference", "pretraining")}
    known |= {**origin, "options": {**chosen.options, **origin.get("options", {})}}
    card = Card(
        name=name,
        backbone=found.backbone,
        values_sha256="",
        channels=found.channels,
        layout=chosen.name,
        labels=named,
        op_threshs=chosen.op_threshs if len(chosen.op_threshs) == len(named) else (),
        source=path.name,
        source_sha256=files.sha256(path),
        **known,
    )
    return library.save_arrays(card, backbone, top if named else None, more, overwrite)
