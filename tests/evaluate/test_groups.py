"""Groups by column, in a readable order, refused where they are none."""

import numpy as np
import pytest

from cxrfeat._evaluate import groups
from cxrfeat._evaluate.scored import scored_run
from cxrfeat._run import Run
from cxrfeat.errors import EvaluationError


@pytest.fixture
def scored(make_run):
    return scored_run(Run.open(make_run("a")))


@pytest.mark.parametrize("column", ["view", "sex", "age", groups.IMAGES])
def test_groups_divide_the_images(scored, column):
    masks = groups.group(scored, column)
    assert np.sum(list(masks.values()), axis=0).tolist() == [1] * len(scored)


def test_ages_are_banded_in_order(scored):
    scored.table["age"] = np.resize([3, 17, 18, 39, 40, 59, 60, 79, 80, 94, np.nan], len(scored))
    masks = groups.group(scored, "age")
    assert list(masks) == ["0-17", "18-39", "40-59", "60-79", "80+", "unknown"]
    assert masks["18-39"][:6].tolist() == [False, False, True, True, False, False]


def test_images_per_patient_are_counted_in_the_evaluated_split(scored):
    masks = groups.group(scored, groups.IMAGES)
    for patient in set(scored.patients):
        mine = scored.patients == patient
        name = "1" if mine.sum() == 1 else "2-4" if mine.sum() < 5 else "5-9" if mine.sum() < 10 else "10+"
        assert masks[name][mine].all()


def test_an_empty_value_is_the_group_unknown(scored):
    scored.table["view"] = np.where(np.arange(len(scored)) % 5 == 0, "", scored.table["view"])
    assert list(groups.group(scored, "view"))[-1] == "unknown"


def test_view_is_the_default_where_there_are_two(scored):
    assert groups.default(scored) == ("view",)
    scored.table["view"] = "PA"
    assert groups.default(scored) == ()


def test_what_cannot_be_grouped_by_is_refused(scored):
    with pytest.raises(EvaluationError, match="no column 'scanner' to group by; there are view, sex, age"):
        groups.group(scored, "scanner")
    with pytest.raises(EvaluationError, match="no column 'Mass'"):
        groups.group(scored, "Mass")
    scored.table["site"] = [f"site {i}" for i in range(len(scored))]
    with pytest.raises(EvaluationError, match="different values, which are no groups"):
        groups.group(scored, "site")


def test_auroc_of_the_group_alone_by_hand():
    y = np.array([[1.0], [1.0], [0.0], [0.0], [1.0], [0.0]])
    ap = np.array([True, True, True, False, False, False])
    # Prevalence 2/3 against 1/3: two positives rank over two negatives, the other pairs tie or lose.
    # Pairs (positive, negative): (ap, ap) 2 ties, (ap, pa) 4 won, (pa, ap) 1 lost, (pa, pa) 2 ties.
    found = groups.auroc_alone(y, np.where(ap, "AP", "PA"))
    assert found[0] == pytest.approx((4 + 0.5 * 4) / 9)


def test_auroc_of_the_group_alone_goes_by_the_prevalence_in_training():
    y = np.array([[1.0], [0.0], [1.0], [0.0]])
    a = np.array([True, True, False, False])
    training_y, training_a = (
        np.array([[0.0], [0.0], [1.0], [0.0], [np.nan]]),
        np.array([True, True, False, False, True]),
    )
    names, training = np.where(a, "A", "B"), np.where(training_a, "A", "B")
    assert groups.auroc_alone(y, names, training_y, training)[0] == pytest.approx(0.5)
    y[0], y[2:] = 0, 1  # all the ill are where training had them
    assert groups.auroc_alone(y, names, training_y, training)[0] == 1
    # A group that training did not have is scored by the prevalence of all, between the others'.
    assert groups.auroc_alone(y, np.where(a, "A", "new"), training_y, training)[0] == 1
