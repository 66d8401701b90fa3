"""Tables as people have them are read, or refused with the row, the value and the option that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrfeat import read_study
from cxrfeat._split import resolve_splits
from cxrfeat.errors import HeadError, NotFoundError, StudyError

ROWS = [
    ["file", "mrn", "Effusion", "Station"],
    ["a.png", "Müller", "1", "Höhe"],
    ["b.png", "Ünal", "0", "Tal"],
    ["c.png", "Jørn", "", "Tal"],
    ["d.png", "José", "1", "Höhe"],
]
COLUMNS = {"path": "file", "patient": "mrn"}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in "abcdef":
        (tmp_path / f"{name}.png").touch()
    return tmp_path


def text(separator: str = ",", rows=ROWS) -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


def check(study) -> None:
    assert study.patients.tolist() == ["Müller", "Ünal", "Jørn", "José"]
    np.testing.assert_array_equal(study.y[:, 0], [1, 0, np.nan, 1])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators(folder, encoding, separator, caplog):
    (folder / "t.csv").write_bytes(text(separator).encode(encoding))
    check(read_study(folder / "t.csv", **COLUMNS))
    guessed = encoding in ("latin-1", "cp1252")
    assert (
        any("row 2: not UTF-8; read as cp1252. Name another with `encoding`" in m for m in caplog.messages) == guessed
    )


def test_an_encoding_may_be_named(folder):
    (folder / "t.csv").write_bytes(text().replace("ø", "ř").encode("cp1250"))
    assert read_study(folder / "t.csv", **COLUMNS, encoding="cp1250").patients[2] == "Jřrn"


def test_excel(folder, caplog):
    with pd.ExcelWriter(folder / "t.xlsx") as book:
        pd.DataFrame(ROWS[1:], columns=ROWS[0]).to_excel(book, sheet_name="films", index=False)
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="notes", index=False)
    check(read_study(folder / "t.xlsx", **COLUMNS))
    assert any("has 2 sheets; the first, 'films', is read" in message for message in caplog.messages)
    numbers = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "patient_id": [7, 8, 9], "Mass": [1, 0, None]})
    numbers.to_excel(folder / "n.xlsx", index=False)
    study = read_study(folder / "n.xlsx")
    assert study.patients.tolist() == ["7", "8", "9"]
    np.testing.assert_array_equal(study.y[:, 0], [1, 0, np.nan])
    (folder / "bad.xlsx").write_bytes(b"PK nothing")
    with pytest.raises(StudyError, match="is not an Excel workbook"):
        read_study(folder / "bad.xlsx")


def test_blank_rows_are_left_out_and_rows_keep_the_numbers_of_the_file(folder):
    lines = text().splitlines()
    blank = [*lines[:2], "", " , ,,", *lines[2:], ",,,", "", ""]
    (folder / "t.csv").write_text("\n".join(blank), encoding="utf-8")
    check(read_study(folder / "t.csv", **COLUMNS))
    (folder / "t.csv").write_text("\n".join(blank).replace("d.png,José,1", "d.png,José,x"), encoding="utf-8")
    with pytest.raises(StudyError, match="row 7, column 'Effusion': 'x' is not a label"):
        read_study(folder / "t.csv", **COLUMNS)


def test_a_row_with_too_many_cells_is_named(folder):
    (folder / "t.csv").write_text("path,patient_id,Mass\na.png,1,1\nb.png,2,0,surplus\n")
    with pytest.raises(StudyError, match="Expected 3 fields in line 3, saw 4"):
        read_study(folder / "t.csv")


def test_a_minus_one_is_refused_with_its_row_or_read_as_asked(folder):
    """It used to make the column no label at all, without a word."""
    rows = [["path", "patient_id", "Effusion"], *([f"{n}.png", str(i), str(i % 2)] for i, n in enumerate("abcdef"))]
    rows[3][2] = "-1"
    (folder / "t.csv").write_text(text(rows=rows))
    expected = "row 4, column 'Effusion': '-1' is not a label.*`uncertain` what it means: unknown, positive or negative"
    with pytest.raises(StudyError, match=expected):
        read_study(folder / "t.csv")
    for policy, value in {"unknown": np.nan, "positive": 1.0, "negative": 0.0}.items():
        study = read_study(folder / "t.csv", uncertain=policy)
        np.testing.assert_array_equal(study.y[:, 0], [0, 1, value, 1, 0, 1])
        assert study.provenance["uncertain"] == policy


def test_words_for_unknown_do_not_keep_a_column_from_being_a_label(folder):
    rows = [
        ["path", "patient_id", "wet"],
        *([f"{n}.png", str(i), "NA" if i > 1 else str(i)] for i, n in enumerate("abcdef")),
    ]
    (folder / "t.csv").write_text(text(rows=rows))
    np.testing.assert_array_equal(read_study(folder / "t.csv").y[:, 0], [0, 1] + [np.nan] * 4)


def test_one_bad_cell_among_many_does_not_drop_a_label(folder):
    rows = [["path", "patient_id", "wet"], *([f"{n}.png", str(i), str(i % 2)] for i, n in enumerate("abcdef"))]
    (folder / "t.csv").write_text(text(rows=[rows[0], *rows[1:] * 4, ["a.png", "0", "2"]]))
    with pytest.raises(StudyError, match=r"row 26, column 'wet': '2' is not a label.*`labels`"):
        read_study(folder / "t.csv", drop_duplicates=True)


def test_doubled_columns(folder):
    (folder / "t.csv").write_text("path,patient_id,Mass,Mass,note,note\n" + "a.png,1,1,0,x,y\nb.png,2,0,0,x,y\n")
    with pytest.raises(StudyError, match=r"row 1: 2 columns are called 'Mass'. Rename or delete one"):
        read_study(folder / "t.csv")
    (folder / "t.csv").write_text("path,patient_id,Mass,mass,note\n" + "a.png,1,1,0,x\nb.png,2,0,0,x\n")
    with pytest.raises(StudyError, match="row 1: the columns 'Mass' and 'mass' are the same label"):
        read_study(folder / "t.csv")
    rows = "".join(f"{n}.png,{i},{i % 2},x,y\n" for i, n in enumerate("abcdef"))
    (folder / "t.csv").write_text("path,patient_id,Mass,note,note\n" + rows)
    assert read_study(folder / "t.csv").labels == ("Mass",), "columns that nobody asks for may be doubled"


@pytest.mark.parametrize(("separator", "sign"), [(", ", ","), (";", ";"), ("/", "/")])
def test_the_wrong_separator_of_findings_is_noticed(folder, separator, sign):
    cells = ["Atelectasis", f"Cardiomegaly{separator}Effusion", "No Finding", "Mass"]
    rows = [["path", "patient_id", "found"]]
    rows += [[f"{name}.png", str(i), f'"{cells[i]}"'] for i, name in enumerate("abcd")]
    (folder / "t.csv").write_text(text(rows=rows))
    with pytest.raises(StudyError, match=f"row 3: .* looks like several findings; .*`separator={sign}`"):
        read_study(folder / "t.csv", findings="found")
    study = read_study(folder / "t.csv", findings="found", separator=sign)
    assert study.labels == ("Atelectasis", "Cardiomegaly", "Effusion", "Mass")


def test_rows_are_chosen_by_a_column(folder):
    rows = [["path", "patient_id", "Mass", "kind", "side"]]
    rows += [[f"{n}.png", str(i), str(i % 2), "CT" if i == 1 else "X-ray", "lr"[i % 2]] for i, n in enumerate("abcdef")]
    rows[2][2] = "lots"  # nobody's business: it is a CT
    (folder / "t.csv").write_text(text(rows=rows))
    study = read_study(folder / "t.csv", where={"kind": "X-ray"})
    assert len(study) == 5
    assert len(read_study(folder / "t.csv", where=["kind=X-ray", "side=l", "side=r"])) == 5
    with pytest.raises(StudyError, match="no row has 'kind' = MR; it has X-ray, CT"):
        read_study(folder / "t.csv", where=["kind=MR"])
    with pytest.raises(StudyError, match="no column 'sort'"):
        read_study(folder / "t.csv", where=["sort=X-ray"])
    with pytest.raises(StudyError, match="takes COLUMN=VALUE, not 'kind'"):
        read_study(folder / "t.csv", where=["kind"])


def test_duplicates_are_refused_with_the_row_or_dropped(folder):
    rows = [["path", "patient_id", "Mass"], *([f"{n}.png", str(i), str(i % 2)] for i, n in enumerate("abcdef"))]
    (folder / "t.csv").write_text(text(rows=[*rows, ["a.png", "0", "1"]]))
    with pytest.raises(StudyError, match=r"row 8: image_id 'a.png' is duplicated.*`drop_duplicates=True`"):
        read_study(folder / "t.csv")
    assert read_study(folder / "t.csv", drop_duplicates=True).y[0, 0] == 0


def test_names_without_an_ending_and_paths_of_windows(folder):
    rows = [["path", "patient_id", "Mass"], *([n, str(i), str(i % 2)] for i, n in enumerate("abcdef"))]
    (folder / "t.csv").write_text(text(rows=rows))
    study = read_study(folder / "t.csv")
    assert [path.name for path in study.paths()] == [f"{n}.png" for n in "abcdef"]
    assert study.ids.tolist() == list("abcdef")
    (folder / "a.jpg").touch()
    with pytest.raises(NotFoundError, match="1 of 6 images"):  # which of the two is meant, nobody knows
        read_study(folder / "t.csv")
    (folder / "a.jpg").unlink()
    (folder / "films").mkdir()
    for name in "abcdef":
        (folder / f"{name}.png").rename(folder / "films" / f"{name}.png")
    rows = [["path", "patient_id", "Mass"], *([f"films\\{n}.png", str(i), str(i % 2)] for i, n in enumerate("abcdef"))]
    (folder / "t.csv").write_text(text(rows=rows))
    assert all(path.is_file() for path in read_study(folder / "t.csv").paths())
    (folder / "t.csv").write_text(text(rows=rows).replace("films\\", "D:\\archive\\"))
    with pytest.raises(StudyError, match=r"row 2: 'D:.*a\.png' is a path of another machine; .*`images`"):
        read_study(folder / "t.csv")
    assert all(p.is_file() for p in read_study(folder / "t.csv", images=folder / "films").paths())


def test_a_table_without_labels_is_a_study_that_can_be_predicted(folder, caplog):
    (folder / "t.csv").write_text("path,patient_id,story\na.png,1,long\nb.png,1,short\n")
    study = read_study(folder / "t.csv")
    assert (study.labels, study.splits, study.y.shape) == ((), (), (2, 0))
    assert any("has no label column" in message for message in caplog.messages)
    again = read_study(study.save(folder / "studies" / "t.csv"))
    assert (again.labels, len(again), again.sha256) == ((), 2, study.sha256)
    assert repr(again) == "Study 't': 2 images, 1 patients, 0 labels"
    assert "no finding" not in repr(again.describe())
    with pytest.raises(HeadError, match="has no labels to learn; it can be predicted only"):
        resolve_splits(again, 0)
