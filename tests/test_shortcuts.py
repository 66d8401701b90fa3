"""A label that the size, format or brightness of a file tells is found out, and noise is not."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrfeat import shortcuts
from cxrfeat._study import Study


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """120 noise images of 60 patients: `wide` are wider, `bright` are brighter, `chance` is nothing, `rare` has 3."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    rows = []
    for i in range(120):
        wide, bright, chance = (rng.random(3) < 0.4).tolist()
        pixels = rng.integers(60 * bright, 190 + 60 * bright, (64, 80 if wide else 64)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), pixels)
        rows.append([f"{i}", f"{i}.png", f"p{i // 2}", "train", wide, bright, chance, i < 3])
    columns = ["image_id", "path", "patient_id", "split", "wide", "bright", "chance", "rare"]
    table = pd.DataFrame(rows, columns=columns)
    labels = tuple(columns[4:])
    return Study(table.assign(**{c: table[c].astype(float) for c in labels}), labels, "films", folder)


def test_labels_that_a_property_tells_are_named_with_it(films):
    found = shortcuts(films)
    rows = {row["label"]: row for row in found.rows}
    assert rows["wide"]["width"] == rows["wide"]["aspect"] == 1.0
    assert rows["bright"]["brightness"] > 0.98 and rows["bright"]["border"] > 0.95
    assert rows["wide"]["together"] > 0.98
    assert abs(rows["wide"]["depth"] - 0.5) < 1e-9, "all are of one depth"
    assert 0.3 < rows["chance"]["best"] < 0.7
    assert np.isnan(rows["rare"]["best"]), "three images of two patients say nothing"
    warned = found.warnings()
    assert len(warned) == 2
    assert warned[0].startswith("wide: AUROC 1.000 without looking at the image (width alone: 1.000)")
    assert "120 images of 60 patients" in repr(found) and "<table>" in found._repr_html_()


def test_no_more_images_are_opened_than_allowed_and_unreadable_ones_are_left_out(films, tmp_path):
    assert shortcuts(films, limit=50).images == 50
    table = films.table.assign(path=[*films.table["path"][:100], *["gone.png"] * 20])
    assert shortcuts(Study(table, films.labels, "films", films.root)).images == 100


def test_patients_are_not_split_between_learning_and_scoring(films):
    """A property that names the patient would tell a patient's label, if folds were of images."""
    rng = np.random.default_rng(1)
    label = dict(zip(sorted(set(films.patients)), (rng.random(60) < 0.5).astype(float), strict=True))
    table = films.table.assign(wide=[label[p] for p in films.patients], view=films.patients)
    row = shortcuts(Study(table, ("wide",), "films", films.root)).rows[0]
    assert row["view"] < 0.65


def test_where_no_image_can_be_read_there_are_no_rows_and_a_sentence(films):
    found = shortcuts(Study(films.table.assign(path="gone.png"), films.labels, "films", films.root))
    assert found.rows == [] and found.images == 0
    assert found.warnings() == ["no image of study films can be read: nothing is scored without looking."]
