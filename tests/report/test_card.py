"""The model card: front matter that any YAML reader takes, numbers that are the run's, and no promise too much."""

from __future__ import annotations

import pytest
import yaml
from sklearn.metrics import roc_auc_score

from cxrfeat._evaluate import evaluate
from cxrfeat._pages import card
from cxrfeat._run import Run


def parts(run: Run) -> tuple[dict, str]:
    path = card.write(run, evaluate(run, replicates=20))
    assert path == run.path / "README.md"
    _, front, body = path.read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter_carries_the_macro_auroc(make_run):
    run = Run.open(make_run("a"))
    front, _ = parts(run)
    study, p = run.study().split("test"), run.predictions("test")
    y = study.y
    expected = [roc_auc_score(y[:, j], p.loc[study.ids].to_numpy()[:, j]) for j in range(13)]
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(sum(expected) / 13, abs=1e-4)
    assert "over 13 labels" in result["metrics"][0]["name"]
    assert front["library_name"] == "cxrfeat" and "densenet121" in front["tags"]


def test_it_says_what_it_is_on_which_data_and_where_it_ends(make_run):
    _, body = parts(Run.open(make_run("a")))
    for heading in ("## Intended use", "## Data", "## How it was made", "## Metrics", "## Limits"):
        assert heading in body
    for said in ("Not a medical device", "Label noise", "View confounding", "leakage check: passed", "| 95 % |"):
        assert said in body
    assert "RANDOM" not in body


def test_random_weights_are_no_result_here_either(make_run):
    front, body = parts(Run.open(make_run("a", weights="random:0")))
    assert "random-weights-not-a-result" in front["tags"]
    assert body.index("RANDOM WEIGHTS: NOT A RESULT") < body.index("## Intended use")


def test_a_hostile_study_name_breaks_neither_yaml_nor_markdown(make_run):
    name = 'x"\n---\n# owned: <script>alert(1)</script> [a](javascript:b)'
    front, body = parts(Run.open(make_run("a", study={"name": name, "sha256": "0"})))
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == name
    assert "\n# owned" not in body and "<script>" not in body.replace("\\<", "") and "[a](" not in body
