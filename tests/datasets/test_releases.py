"""Each public dataset is read as it is released: small tables with the real headers, codes, encodings and oddities."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrfeat import read_study
from cxrfeat._datasets.boxes import read_boxes
from cxrfeat._datasets.dataset import DATASETS
from cxrfeat._datasets.padchest import terms_of
from cxrfeat.errors import LeakageError, NotFoundError, StudyError

FINDINGS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


@pytest.fixture
def put(tmp_path):
    """Write files below a folder: text, compressed where the name says so; without text an empty image."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return tmp_path / "set"

    return write


def rows(study) -> pd.DataFrame:
    return study.table.set_index("image_id")


# ---------------------------------------------------------------------------------------------------------------- NIH

GOOGLE = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],Fracture,Pneumothorax,Airspace opacity,Nodule or mass,"
    "Set Id\r\n"
)


def test_google_s_labels_have_their_sets_and_are_unknown_to_nobody(put):
    folder = put(
        {
            "test_labels.csv": GOOGLE
            + "00000013_008.png,No Finding,8,13,60,M,AP,3056,2544,0.139,0.139,NO,NO,YES,NO,test\r\n"
            + "00000013_026.png,Cardiomegaly|Emphysema,26,13,57,M,AP,2500,2048,0.168,0.168,NO,YES,NO,NO,test\r\n",
            "validation_labels.csv": GOOGLE
            + "00000119_001.png,Atelectasis,1,119,56,F,PA,2500,2048,0.168,0.168,NO,NO,NO,YES,val\r\n",
            "images/00000013_008.png": "", "images/00000013_026.png": "", "images/00000119_001.png": "",
        }
    )  # fmt: skip
    study = read_study(folder)
    assert study.labels == ("Pneumothorax", "Nodule/Mass", "Lung Opacity", "Fracture")
    np.testing.assert_array_equal(study.y, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    assert study.table["split"].tolist() == ["test", "test", "val"]
    assert study.table["view"].tolist() == ["AP", "AP", "PA"]
    assert study.provenance["splits"] == {"origin": "as published"}


def test_a_relabelling_goes_before_the_labels_that_it_corrects(put):
    """The adjudicated Pneumothorax counts where there is one; Fracture is unknown where nobody looked."""
    from cxrfeat import merge_studies

    nih = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    folder = put(
        {
            "Data_Entry_2017_v2020.csv": nih + "00000013_008.png,Pneumothorax,8,13,60,M,AP\n"
            "00000013_026.png,Mass,26,13,57,M,AP\n00000014_000.png,No Finding,0,14,50,F,PA\n"
            "00000015_000.png,Pneumothorax,0,15,50,F,PA\n",
            "google/four_findings_expert_labels_test_labels.csv": GOOGLE
            + "00000013_008.png,Pneumothorax,8,13,60,M,AP,3056,2544,0.139,0.139,YES,NO,YES,NO,test\r\n",
            **{f"images/{n}.png": "" for n in ("00000013_008", "00000013_026", "00000014_000", "00000015_000")},
        }
    )
    ours, theirs = read_study(folder, name="nih"), read_study(folder / "google", images=folder / "images")
    with pytest.raises(LeakageError):  # patient 13 is in another split of each
        merge_studies(theirs, read_study(folder, resplit=True, seed=3, test=0, name="nih"), same_patients=True)
    merged = merge_studies(theirs, ours, same_patients=True, resplit=True)
    table = rows(merged)
    assert len(merged) == 4 and len(set(merged.patients)) == 3
    assert table.loc["00000013_008.png", ["Pneumothorax", "Fracture", "Mass"]].tolist() == [0, 1, 0]
    assert table.loc["00000015_000.png", "Pneumothorax"] == 1 and np.isnan(table.loc["00000015_000.png", "Fracture"])


# --------------------------------------------------------------------------------------------------------------- RSNA

RSNA = (
    "patientId,x,y,width,height,Target\n"
    "0004cfab-14fd-4e49-80ba-63a80b6bddd6,,,,,0\n"
    "00436515-870c-4b36-a041-de91049b9ab4,264.0,152.0,213.0,379.0,1\n"
    "00436515-870c-4b36-a041-de91049b9ab4,562.0,152.0,256.0,453.0,1\n"
    "00313ee0-9eaa-42f4-b0ab-c148ed3241cd,,,,,0\n"
)
FILMS = ("0004cfab-14fd-4e49-80ba-63a80b6bddd6", "00436515-870c-4b36-a041-de91049b9ab4",
         "00313ee0-9eaa-42f4-b0ab-c148ed3241cd")  # fmt: skip


def test_the_pneumonia_challenge(put, caplog):
    folder = put(
        {"stage_2_train_labels.csv": RSNA, **{f"stage_2_train_images/{name}.dcm": "" for name in FILMS}}
    )  # fmt: skip
    study = read_study(folder)
    assert (study.labels, study.ids.tolist()) == (("Pneumonia",), list(FILMS))
    assert study.y[:, 0].tolist() == [0, 1, 0]
    assert [path.suffix for path in study.paths()] == [".dcm"] * 3
    assert "each film counts as a patient of its own" in caplog.text
    found = read_boxes(folder)
    assert found[["x", "y", "width", "height"]].to_numpy().tolist() == [[264, 152, 213, 379], [562, 152, 256, 453]]
    assert set(found["frame_width"]) == {1024}


def test_the_mapping_of_the_rsna_gives_the_patients_of_the_nih(put):
    names = ["00030323_001.png", "00030323_010.png", "00000013_008.png"]
    mapping = [{"subset_img_id": film, "img_id": name} for film, name in zip(FILMS, names, strict=True)]
    files = {
        "stage_2_train_labels.csv": RSNA,
        "pneumonia-challenge-dataset-mappings_2018.json": json.dumps(mapping),
        **{f"stage_2_train_images/{name}.png": "" for name in FILMS},
    }
    study = read_study(put(files), test=0, val=0.4)
    assert study.patients.tolist() == ["30323", "30323", "13"]
    assert study.table["follow_up"].tolist() == [1, 10, 8]
    files["pneumonia-challenge-dataset-mappings_2018.json"] = json.dumps(mapping[1:])
    with pytest.raises(StudyError, match="does not name '0004cfab"):
        read_study(put(files))
    files["pneumonia-challenge-dataset-mappings_2018.json"] = "{}["
    with pytest.raises(StudyError, match="is not the mapping that the RSNA published"):
        read_study(put(files))


# ----------------------------------------------------------------------------------------------------------- CheXpert

CHEXPERT = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{FINDINGS}\n"
TRAIN = (
    "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"
    "CheXpert-v1.0/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n"
    "CheXpert-v1.0/train/patient00002/study1/view1_frontal.jpg,Female,83,Frontal,LL,,,,1.0,,,-1.0,,,,,,1.0,\n"
    "CheXpert-v1.0/train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,\n"
    "CheXpert-v1.0/train/patient00003/study1/view1_frontal.jpg,Unknown,0,Frontal,PA,,,,,,,,,,,,,,\n"
)
VALID = (
    "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,"
    "0.0,0.0,0.0,0.0,0.0\n"
)
IMAGES = [line.split(",")[0].removeprefix("CheXpert-v1.0/") for line in (TRAIN + VALID).splitlines()]


def chexpert(prefix: str = "", tables: str = "", **places: str) -> dict[str, str]:
    """The files of a release; `places` are folders for the images of `train` and `valid`."""
    files = {f"{tables}train.csv": CHEXPERT + TRAIN, f"{tables}valid.csv": CHEXPERT + VALID}
    for image in IMAGES:
        split, _, rest = image.partition("/")
        files[f"{prefix}{places.get(split, split)}/{rest}"] = ""
    return files


def test_chexpert_as_it_is(put):
    study = read_study(put(chexpert()), test=0)
    table = rows(study)
    assert set(study.labels) == {*FINDINGS.replace("Pleural Effusion", "Effusion").split(",")}
    first, second = table.loc["patient00001_study1_view1_frontal"], table.loc["patient00002_study2_view1_frontal"]
    assert (first["No Finding"], first["Pneumothorax"], first["Support Devices"]) == (1, 0, 1)
    assert np.isnan(first[["Cardiomegaly", "Edema"]].astype(float)).all(), "what is not mentioned is unknown"
    assert np.isnan(second["Atelectasis"]) and second["Lung Opacity"] == 1
    assert table["view"].tolist() == ["AP", "AP", "LL", "L", "PA", "AP"]
    assert table["sex"].tolist() == ["F", "F", "F", "F", "", "M"]
    assert np.isnan(table["age"].iloc[4]) and table["age"].iloc[0] == 68
    assert table["split"].tolist() == ["train"] * 5 + ["val"]
    assert table["study_id"].iloc[3] == "patient00002_study1"
    assert study.patients.tolist()[1:4] == ["patient00002"] * 3
    assert study.provenance["uncertain"] == "unknown"


def test_uncertain_is_what_is_asked_and_recorded(put):
    folder = put(chexpert())
    row = "patient00002_study2_view1_frontal"
    study = read_study(folder, uncertain=["positive", "Atelectasis=negative", "Pleural Effusion=0.7"])
    found = rows(study).loc[row, ["Cardiomegaly", "Atelectasis", "Effusion"]].tolist()
    assert found == [1, 0, 0.7]
    assert np.isnan(study.y[1, study.labels.index("Effusion")]), "a probability is unknown to what takes 1 and 0"
    assert study.targets[1, study.labels.index("Effusion")] == 0.7
    assert study.provenance["uncertain"] == {"others": "positive", "Atelectasis": "negative", "Effusion": "0.7"}
    assert study.provenance["soft"] == ["Effusion"]
    said = "uncertain: others positive, Atelectasis negative, Effusion 0.7; unmentioned: unknown"
    assert said in study.describe().notes()
    soft = read_study(folder, soft=True)
    assert "Edema: unknown for 5 images, 1 of them with a probability" in soft.describe().notes()
    assert rows(soft).loc[row, "Edema"] == 0.5
    again = read_study(soft.save(folder / "studies" / "soft.csv"))
    assert (again.sha256, again.labels) == (soft.sha256, soft.labels)
    with pytest.raises(StudyError, match="names the label 'Goitre'"):
        read_study(folder, uncertain={"Goitre": "positive"})
    with pytest.raises(StudyError, match=r"unknown, positive, negative or a probability .* not 'present'"):
        read_study(folder, uncertain="present")


def test_a_probability_is_refused_in_a_study_that_does_not_say_it_is_soft(put):
    folder = put(chexpert())
    path = read_study(folder, uncertain=0.6).save(folder / "studies" / "soft.csv")
    (path.parent / "soft.provenance.json").unlink()
    with pytest.raises(StudyError, match=r"row 3, column 'Atelectasis': '0.6' is not a label"):
        read_study(path)


def test_what_is_not_mentioned_may_be_negative_but_for_images_without_any_label(put):
    study = read_study(put(chexpert()), unmentioned="negative", test=0)
    table = rows(study)
    assert table.loc["patient00001_study1_view1_frontal", "Cardiomegaly"] == 0
    assert table.loc["patient00002_study1_view1_frontal", "No Finding"] == 0
    assert np.isnan(table.loc["patient00002_study2_view1_frontal", "Edema"]), "uncertain is not unmentioned"
    assert np.isnan(study.y[4]).all()
    assert study.provenance["unmentioned"] == "negative"


@pytest.mark.parametrize(
    ("prefix", "tables", "places"),
    [
        ("", "", {}),
        ("CheXpert-v1.0-small/", "CheXpert-v1.0-small/", {}),
        ("", "CheXpert-v1.0 batch 1 (validate & csv)/",
         {"train": "CheXpert-v1.0 batch 2 (train 1)", "valid": "CheXpert-v1.0 batch 1 (validate & csv)/valid"}),
    ],
)  # fmt: skip
def test_folders_of_chexpert(put, prefix, tables, places):
    study = read_study(put(chexpert(prefix, tables, **places)))
    assert all(path.is_file() for path in study.paths())
    assert len(study) == 6


def test_train_alone_gets_a_test_split_and_wrong_codes_are_named(put):
    folder = put({"train.csv": CHEXPERT + TRAIN})
    assert read_study(folder, missing="keep").splits == ("train", "val", "test")
    put({"train.csv": CHEXPERT + TRAIN.replace("-1.0,-1.0", "2,-1.0", 1)})
    with pytest.raises(StudyError, match=r"train.csv, row 3, column 'Edema': '2' is not one of 0"):
        read_study(folder, missing="keep")
    put({"train.csv": CHEXPERT + TRAIN.replace("train/patient00001", "train/p1")})
    with pytest.raises(StudyError, match=r"row 2: 'CheXpert-v1.0/train/p1/.*' is not a path as"):
        read_study(folder, missing="keep")


def test_chexlocalize_has_the_test_labels_and_its_contours_are_boxes(put):
    contours = {
        "patient64741_study1_view1_frontal": {
            "img_size": [2320, 2828], "Airspace Opacity": [[[100.5, 200], [300, 180], [250, 400]], [[1, 2], [5, 9]]],
        }
    }  # fmt: skip
    header = CHEXPERT.replace("Sex,Age,Frontal/Lateral,AP/PA,", "").replace("Lung Opacity", "Airspace Opacity")
    folder = put(
        {
            "CheXpert/test_labels.csv": header + "test/patient64741/study1/view1_frontal.jpg" + ",0.0" * 3 + ",1.0"
            + ",0.0" * 10 + "\n",
            "CheXpert/val_labels.csv": CHEXPERT + VALID,
            "CheXpert/test/patient64741/study1/view1_frontal.jpg": "",
            "CheXpert/val/patient64541/study1/view1_frontal.jpg": "",
            "CheXlocalize/gt_annotations_test.json": json.dumps(contours),
        }
    )  # fmt: skip
    study = read_study(folder)
    assert dict(zip(study.ids, study.table["split"], strict=True)) == {
        "patient64541_study1_view1_frontal": "val", "patient64741_study1_view1_frontal": "test",
    }  # fmt: skip
    assert all(path.is_file() for path in study.paths())
    assert rows(study).loc["patient64741_study1_view1_frontal", "Lung Opacity"] == 1
    found = read_boxes(folder)
    assert found[["x", "y", "width", "height"]].to_numpy().tolist() == [[100.5, 180, 199.5, 220], [1, 2, 4, 7]]
    assert set(found["label"]) == {"Lung Opacity"}
    assert (found["frame_width"].iloc[0], found["frame_height"].iloc[0]) == (2828, 2320)


def test_chexpert_plus_takes_labels_from_chexbert_and_no_report(put, caplog):
    table = (
        "path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,patient_report_date_order,report,"
        "section_findings,age,sex,race,split\n"
        'train/patient42142/study5/view1_frontal.jpg,train/patient42142/study5/view1_frontal.dcm,Frontal,AP,'
        'patient42142,5,"NARRATIVE:\nA ""long"" one, with Mr Smith",text,82.0,Male,White,train\n'
        "valid/patient64541/study1/view1_frontal.jpg,valid/patient64541/study1/view1_frontal.dcm,Frontal,PA,"
        "patient64541,1,x,y,73.0,Female,Asian,valid\n"
    )  # fmt: skip
    labels = dict.fromkeys(FINDINGS.split(",")) | {"Edema": -1.0, "Fracture": 1.0, "Pneumonia": 0.0}
    line = json.dumps({"path_to_image": "train/patient42142/study5/view1_frontal.jpg"} | labels)
    folder = put(
        {
            "df_chexpert_plus_240401.csv": table,
            "PNG/train/patient42142/study5/view1_frontal.png": "",
            "PNG/valid/patient64541/study1/view1_frontal.png": "",
        }
    )
    assert read_study(folder).labels == ()
    assert "the study has no labels" in caplog.text
    put({"chexbert_labels/report_fixed.json": line + "\n"})
    study = read_study(folder)
    first = study.table.iloc[0]
    assert (first["Fracture"], first["Pneumonia"], first["race"]) == (1, 0, "White")
    assert np.isnan(first["Edema"]) and np.isnan(study.y[1]).all()
    assert study.table["split"].tolist() == ["train", "val"]
    assert [path.suffix for path in study.paths()] == [".png", ".png"]
    assert "Smith" not in study.table.to_csv()


# -------------------------------------------------------------------------------------------------------------- MIMIC

LABELLED = "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
MIMIC = {
    "mimic-cxr-2.0.0-metadata.csv.gz":
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
        "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning\n"
        "02aa804e,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531,CHEST,postero-anterior,Erect\n"
        "174413ec,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506,213014.531,CHEST,lateral,Erect\n"
        "2a2277a9,10000764,57375967,CHEST (PORTABLE AP),AP,2544,3056,21800626,165500.312,CHEST,antero-posterior,\n"
        "e084de3b,10000898,50771383,,,2544,3056,21800626,165500.312,CHEST,,\n",
    "mimic-cxr-2.0.0-split.csv.gz":
        "dicom_id,study_id,subject_id,split\n02aa804e,50414267,10000032,train\n174413ec,50414267,10000032,train\n"
        "2a2277a9,57375967,10000764,validate\ne084de3b,50771383,10000898,test\n",
    "mimic-cxr-2.0.0-chexpert.csv.gz":
        "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
        f"Lung Lesion,Lung Opacity,{LABELLED}\n"
        "10000032,50414267,,,,,,,,,1.0,,,,,\n10000764,57375967,,,1.0,,,,,,,,,-1.0,,\n",
    "mimic-cxr-2.1.0-test-set-labeled.csv":
        "study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
        f"Airspace Opacity,{LABELLED}\n50771383,1.0,,0.0,,,,,1.0,,,,,,0.0\n",
}  # fmt: skip


@pytest.fixture
def mimic(put) -> Path:
    places = ["p10000032/s50414267/02aa804e", "p10000032/s50414267/174413ec", "p10000764/s57375967/2a2277a9",
              "p10000898/s50771383/e084de3b"]  # fmt: skip
    return put(MIMIC | {f"files/p10/{place}.jpg": "" for place in places})


def test_mimic_joins_images_to_the_labels_of_their_studies(mimic):
    study = read_study(mimic)
    table = rows(study)
    assert all(path.is_file() for path in study.paths())
    assert table["split"].tolist() == ["train", "train", "val", "test"]
    assert table["view"].tolist() == ["PA", "LATERAL", "AP", ""]
    assert table["No Finding"].tolist()[:2] == [1, 1], "both images of the study"
    assert table.loc["2a2277a9", "Consolidation"] == 1 and np.isnan(table.loc["2a2277a9", "Pneumonia"])
    assert np.isnan(study.y[3]).all(), "a study without labels has no row"
    assert study.patients.tolist() == ["10000032", "10000032", "10000764", "10000898"]
    assert rows(read_study(mimic, uncertain="positive")).loc["2a2277a9", "Pneumonia"] == 1
    assert len(read_study(mimic, one_per="study")) == 3


def test_the_table_that_is_named_has_the_labels(mimic):
    (mimic / "mimic-cxr-2.0.0-negbio.csv").write_text(MIMIC["mimic-cxr-2.0.0-chexpert.csv.gz"].replace("-1.0", "0.0"))
    row = rows(read_study(mimic / "mimic-cxr-2.0.0-negbio.csv")).loc["2a2277a9"]
    assert (row["Pneumonia"], row["Consolidation"]) == (0, 1)


def test_mimic_s_test_set_has_no_patients_and_gets_them_from_the_metadata(mimic):
    study = read_study(mimic / "mimic-cxr-2.1.0-test-set-labeled.csv")
    assert (study.ids.tolist(), study.patients.tolist(), study.splits) == (["e084de3b"], ["10000898"], ("test",))
    assert study.table.loc[0, ["Lung Opacity", "Consolidation"]].tolist() == [1, 0]
    (mimic / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    with pytest.raises(NotFoundError, match=r"has no mimic-cxr-2.0.0-split.csv.gz"):
        read_study(mimic)


# ----------------------------------------------------------------------------------------------------------- PadChest

PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,Report,MethodLabel,Labels,Localizations\n"
    "0,a.png,0,20140915,S1,P1,1930.0,F,POSTEROANTERIOR,PA,Manual,No,largo,Physician,"
    "\"['pulmonary fibrosis', 'pseudonodule', 'air bronchogram']\",[]\n"
    "1,b.png,0,20140915,S1,P1,1930.0,F,LATERAL,L,Manual,No,largo,Physician,\"['normal']\",[]\n"
    "2,c.png,54,20150101,S2,P2,1980.0,M,AP,AP_horizontal,Manual,No,x,RNN_model,"
    "\"['subcutaneous emphysema', ' hydropneumothorax', '']\",[]\n"
    "3,d.png,54,20150101,S3,P3,,O,,EXCLUDE,Manual,No,x,RNN_model,nan,[]\n"
    "4,e.png,54,20150101,S4,P4,1990.0,M,AP,AP,Manual,No,x,RNN_model,\"['exclude']\",[]\n"
    "5,f.png,54,20150101,S5,P5,1990.0,M,AP,AP,Manual,No,x,RNN_model,\"['unchanged', 'goiter']\",[]\n"
    "6,216840111366964013829543166512013353113303615_02-092-190.png,54,20150101,S6,P6,1990.0,M,AP,AP,Manual,No,x,"
    "RNN_model,['normal'],[]\n"
)
NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


@pytest.fixture
def padchest(put) -> Path:
    return put(
        {f"{NAME}.gz": PADCHEST} | {f"{'0' if name in 'ab' else '54'}/{name}.png": "" for name in "abcdef"}
    )  # fmt: skip


def test_padchest_labels_are_whole_terms_of_its_tree(padchest):
    study = read_study(padchest)
    table = rows(study)
    positive = {name: [label for label in study.labels if table.loc[f"{name}.png", label] == 1] for name in "abcdef"}
    assert positive["a"] == ["Infiltration", "Consolidation", "Fibrosis"], "air bronchogram is under both; no Nodule"
    assert positive["b"] == []
    assert positive["c"] == ["Effusion", "Pneumothorax"], "hydropneumothorax is both; no Emphysema"
    assert (study.y[1] == 0).all() and (study.y[5] == 0).all()
    assert np.isnan(study.y[3]).all() and np.isnan(study.y[4]).all()
    assert len(study) == 6, "without the file that is known to be broken"
    assert table["age"].tolist()[:3] == [84, 84, 35] and np.isnan(table["age"].iloc[3])
    assert all(path.is_file() for path in study.paths())
    assert "largo" not in study.table.to_csv()


def test_padchest_in_one_folder_with_other_terms(put, padchest):
    put({f"flat/{name}.png": "" for name in "abcdef"})
    study = read_study(padchest, images=padchest / "flat", labels=["Nodule", "subcutaneous emphysema"])
    assert study.labels == ("Nodule", "subcutaneous emphysema")
    assert study.y[2].tolist() == [0, 1]
    with pytest.raises(StudyError, match="'pig' is no label, and no cell"):
        read_study(padchest, labels=["pig"])
    put({f"{NAME}.gz": PADCHEST.replace("\"['normal']\"", "__import__('os')")})
    with pytest.raises(StudyError, match=r"row 3, column 'Labels': .* is no list of terms"):
        read_study(padchest)


def test_terms_under_a_term():
    assert terms_of("Pneumothorax") == {"pneumothorax", "hydropneumothorax"}
    assert "air bronchogram" in terms_of("Infiltration") & terms_of("Consolidation")
    assert terms_of("Emphysema") == {"emphysema"}


# -------------------------------------------------------------------------------------------------------------- VinDr

VINDR = (
    "image_id,rad_id,Aortic enlargement,Atelectasis,Lung Opacity,Nodule/Mass,Pleural effusion,Other disease,"
    "No finding\n"
)
VINDR_TEST = VINDR.replace("rad_id,", "").replace("Other disease", "Other diseases")


@pytest.fixture
def vindr(put) -> Path:
    votes = {"aa": ["1,0,0,0,1,0,0", "1,0,1,0,0,0,0", "0,0,0,0,0,0,1"], "bb": ["0,0,0,0,0,0,1"] * 3}
    train = "".join(f"{image},R{k},{row}\n" for image, three in votes.items() for k, row in enumerate(three))
    return put(
        {
            "annotations/image_labels_train.csv": VINDR + train,
            "annotations/image_labels_test.csv": VINDR_TEST + "cc,0,1,0,0,0,1,0\n",
            "annotations/annotations_train.csv": "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
            "aa,R0,Pleural effusion,10.5,20,110.5,220\naa,R2,No finding,,,,\nbb,R0,No finding,,,,\n",
            "train/aa.dicom": "", "train/bb.dicom": "", "test/cc.dicom": "",
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("readers", "expected"), [("any", [1, 1, 1]), ("majority", [1, 0, 0]), ("mean", [2 / 3, 1 / 3, 1 / 3])]
)
def test_vindr_s_three_readers(vindr, readers, expected):
    study = read_study(vindr, readers=readers)
    table = rows(study)
    np.testing.assert_allclose(table.loc["aa", ["Aortic enlargement", "Lung Opacity", "Effusion"]].tolist(), expected)
    assert "No finding" not in study.labels and "Other diseases" in study.labels
    assert table.loc["cc", ["Atelectasis", "Other diseases"]].tolist() == [1, 1]
    assert table["split"].tolist() in (["train", "val", "test"], ["val", "train", "test"])
    assert study.provenance["readers"] == readers
    assert ("soft" in study.provenance) == (readers == "mean")
    assert all(path.suffix == ".dicom" and path.is_file() for path in study.paths())


@pytest.mark.parametrize("source", ["annotations", "annotations/image_labels_train.csv"])
def test_vindr_by_its_annotations(vindr, source):
    (vindr / "train" / "bb.dicom").unlink()
    kept = [path.name for path in read_study(vindr / source, val=0, test=0, missing="keep").paths()]
    assert kept[:2] == ["aa.dicom", "bb"], "the ending of a file that is there"
    (vindr / "train" / "bb.png").touch()
    study = read_study(vindr / source, val=0, test=0)
    assert all(path.is_file() for path in study.paths())
    assert len(study) == (3 if source == "annotations" else 2)


def test_vindr_s_boxes_are_in_pixels_of_the_dicom_file(vindr, put, caplog):
    pydicom = pytest.importorskip("pydicom")
    with pytest.raises(NotFoundError, match="no box list"):
        read_boxes(vindr)
    assert "nothing says how large the images are" in caplog.text
    header = pydicom.Dataset()
    header.Rows, header.Columns = 3000, 2500
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    header.save_as(vindr / "train" / "aa.dicom", enforce_file_format=True)
    assert read_boxes(vindr)[["frame_width", "frame_height"]].to_numpy().tolist() == [[2500, 3000]]
    put({"annotations/train_meta.csv": "image_id,dim0,dim1\naa,3000,2500\n"})
    found = read_boxes(vindr)
    assert found[["x", "y", "width", "height", "frame_width", "frame_height"]].to_numpy().tolist() == [
        [10.5, 20, 100, 200, 2500, 3000]
    ]
    assert found["label"].tolist() == ["Effusion"]


def test_the_kaggle_table_of_vindr_has_a_row_per_box(put):
    table = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    for reader in ("R9", "R10", "R8"):
        table += f"aa,No finding,14,{reader},,,,\n"
    table += "bb,Cardiomegaly,3,R8,1,2,3,4\nbb,Cardiomegaly,3,R8,1,2,3,5\nbb,Pulmonary fibrosis,13,R9,1,2,3,4\n"
    table += "bb,Cardiomegaly,3,R10,691.0,1375.0,1653.0,1831.0\n"
    study = read_study(put({"train.csv": table}), missing="keep", val=0, test=0)
    assert study.labels == ("Cardiomegaly", "Fibrosis")
    np.testing.assert_array_equal(study.y, [[0, 0], [1, 0]])


# -------------------------------------------------------------------------------------------------------------- COVID

COVID = (
    "patientid,offset,sex,age,finding,RT_PCR_positive,survival,view,modality,date,location,folder,filename,doi,url,"
    "license,clinical_notes,other_notes,\n"
    '2,0,M,65,Pneumonia/Viral/COVID-19,Y,Y,PA,X-ray,"January 2, 2020",Vietnam,images,a.jpeg,,,CC,"On January, Mr",,\n'
    "2,3,M,65,Pneumonia/Viral/COVID-19,Y,Y,AP Supine,X-ray,2020,,images,b.jpeg,,,,,,\n"
    "2,3,M,65,Pneumonia/Viral/COVID-19,Y,Y,Axial,CT,2020,,volumes,c.nii.gz,,,,,,\n"
    "3,,F,,Pneumonia,,,PA,X-ray,2020,,images,d.jpg,,,,,,\n"
    "4,,F,30,Pneumonia/Bacterial/Streptococcus,,,L,X-ray,2020,,images,e.jpg,,,,,,\n"
    "5,,F,30,No Finding,,,PA,X-ray,2020,,images,f.jpg,,,,,,\n"
    ",,F,30,todo,,,PA,X-ray,2020,,images,g.jpg,,,,,,\n"
    "9,,F,30,Pneumonia/Bacterial/Streptococcus,,,L,X-ray,2020,,images,e.jpg,,,,,,\n"
)


@pytest.fixture
def covid(put) -> Path:
    return put(
        {"metadata.csv": COVID, **{f"images/{n}": "" for n in ("a.jpeg", "b.jpeg", *(f"{x}.jpg" for x in "defg"))}}
    )


def test_the_covid_collection(covid):
    study = read_study(covid)
    table = rows(study)
    assert study.labels == ("Pneumonia", "Bacterial Pneumonia", "COVID-19", "Streptococcus", "Viral Pneumonia")
    np.testing.assert_array_equal(
        study.y,
        [[1, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, *[np.nan] * 4], [1, 1, 0, 1, 0], [0] * 5, [np.nan] * 5],
    )
    assert study.ids.tolist() == ["a.jpeg", "b.jpeg", "d.jpg", "e.jpg", "f.jpg", "g.jpg"], "no CT, no film twice"
    assert study.patients.tolist() == ["2", "2", "3", "4", "5", "image g.jpg"]
    assert table["view"].tolist()[:2] == ["PA", "AP Supine"]
    assert "January" not in study.table.to_csv(), "no narrative"


def test_older_versions_of_the_covid_table_name_the_special_finding_alone(put):
    table = (
        "Patientid,offset,sex,age,finding,survival,view,date,location,filename,doi, url,license,notes\n"
        '1, ,,,COVID-19,,PA,2019,,a.jpg,,,,\n2,0,M,65,"COVID-19, ARDS",Y,PA,2020,,b.jpg,,,,\n'
        "3,4,M,74,SARS,N,PA,2004,,c.jpg,,,,\n4,,,,Pneumocystis,,CT,2017,,d.png,,,,\n"
    )
    study = read_study(put({"metadata.csv": table, **{f"images/{n}.jpg": "" for n in "abc"}}), val=0, test=0)
    assert study.labels == ("Pneumonia", "ARDS", "COVID-19", "SARS", "Viral Pneumonia")
    np.testing.assert_array_equal(study.y, [[1, 0, 1, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 1, 1]])


# ---------------------------------------------------------------------------------------------------------------- all


def test_published_counts_are_compared_with_what_is_there(mimic, put):
    said = read_study(mimic).describe().published
    assert said.startswith("published counts: images 4 of 377,110; patients 3 of 65,379; images in train 2 of 368,960")
    covid = put({"covid/metadata.csv": COVID, "covid/images/a.jpeg": ""}) / "covid"
    assert read_study(covid, missing="keep").describe().published == "", "a collection that grows has none"
    from cxrfeat import subset_study

    assert subset_study(read_study(mimic), split=["train"]).describe().published == ""


def test_every_public_dataset_says_where_it_is_from():
    for name in DATASETS.names:
        dataset = DATASETS[name]
        if not dataset.generic:
            assert all((dataset.get, dataset.licence, dataset.citation, dataset.traps, dataset.command)), name
            assert bool(dataset.counts) == bool(dataset.counted), name


def test_datasets_are_not_taken_for_each_other(put, mimic, covid):
    """All lie in one folder here, by their names; each file is recognised as its own."""
    put(chexpert() | {"stage_2_train_labels.csv": RSNA, f"{NAME}.gz": PADCHEST})
    folder = mimic
    expected = {
        "train.csv": "CheXpert", "stage_2_train_labels.csv": "the RSNA pneumonia challenge", f"{NAME}.gz": "PadChest",
        "metadata.csv": "the COVID-19 image data collection", "mimic-cxr-2.0.0-chexpert.csv.gz": "MIMIC-CXR-JPG",
    }  # fmt: skip
    for file, title in expected.items():
        found = [DATASETS[n].title for n in DATASETS.names if DATASETS[n].recognises(folder / file)]
        assert found == [title, "a table"]


def test_the_options_of_the_command(put, vindr, tmp_path, monkeypatch):
    from click.testing import CliRunner
    from cxrfeat_cli.main import cli

    monkeypatch.chdir(tmp_path)
    put(chexpert("chexpert/", "chexpert/"))

    def build(*words: str) -> str:
        done = CliRunner().invoke(cli, ["study", "build", *words, "--val", "0", "--test", "0", "--resplit"])
        assert done.exit_code == 0, done.output
        return done.output

    said = build(
        "set/chexpert", "--uncertain", "positive", "--uncertain", "Edema=0.3", "--unmentioned", "negative",
        "--where", "view=AP", "--one-per", "patient", "--name", "one",
    )  # fmt: skip
    assert "uncertain: others positive, Edema 0.3; unmentioned: negative; one_per: patient" in said
    study = read_study("one")
    assert study.ids.tolist() == [
        "patient00001_study1_view1_frontal", "patient00002_study2_view1_frontal", "patient64541_study1_view1_frontal",
    ]  # fmt: skip
    assert study.targets[1, study.labels.index("Edema")] == 0.3
    assert "Edema" in build("set/chexpert", "--soft", "--label", "Edema", "--name", "soft")
    assert read_study("soft").targets[:, 0].tolist()[1] == 0.5
    build("set", "--dataset", "vindr-cxr", "--readers", "any", "--name", "readers")
    assert read_study("readers").y[0].sum() == 3
    refused = CliRunner().invoke(cli, ["study", "build", "set/chexpert", "--readers", "any"])
    assert refused.exit_code == 2 and "CheXpert has no option --readers" in refused.output
    refused = CliRunner().invoke(cli, ["study", "build", "set/chexpert", "--uncertain", "maybe"])
    assert refused.exit_code == 2 and "--uncertain is unknown, positive, negative or a probability" in refused.output
