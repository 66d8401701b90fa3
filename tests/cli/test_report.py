"""`cxrfeat report` as it is typed."""

import json

from click.testing import CliRunner
from cxrfeat_cli.main import cli


def call(*args):
    return CliRunner().invoke(cli, ["report", *map(str, args)])


def test_it_prints_the_page_and_leaves_a_card_in_every_run(make_run, tmp_path):
    a, b = make_run("a", seed=0), make_run("b", strength=1.5, seed=0)
    out = tmp_path / "deep" / "page.html"
    result = call(a, b, "-o", out, "--bootstrap", 20, "--images", 0)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out) and '<h2 id="comparison-title">' in out.read_text()
    assert (a / "README.md").is_file() and (b / "README.md").is_file()
    assert "warning: a: no image is positive for Hernia" in result.stderr


def test_json_tells_what_was_written_and_random_weights_are_said(make_run, tmp_path):
    run = make_run("a", weights="random:0")
    result = call(run, "-o", tmp_path / "p.html", "--bootstrap", 0, "--images", 0, "--no-card", "--json")
    told = json.loads(result.stdout)
    assert told["random"] is True and told["cards"] == [] and told["size"] == (tmp_path / "p.html").stat().st_size
    assert "RANDOM WEIGHTS" in result.stderr and not (run / "README.md").exists()


def test_runs_of_different_images_are_refused_with_the_way_on(make_run, tmp_path):
    result = call(make_run("a", seed=0), make_run("b", seed=1), "-o", tmp_path / "p.html", "--images", 0)
    assert result.exit_code == 2 and "--intersection" in result.stderr and not (tmp_path / "p.html").exists()


def test_a_page_replaces_an_earlier_page_alone(make_run, tmp_path):
    run, out = make_run("a"), tmp_path / "sample.csv"
    out.write_text("image_id,path,patient_id,split\n")
    args = (run, "-o", out, "--bootstrap", 0, "--images", 0, "--no-card")
    refused = call(*args)
    assert refused.exit_code == 2 and "is a file of another kind" in refused.stderr and "--overwrite" in refused.stderr
    assert out.read_text().startswith("image_id")
    assert call(*args, "--overwrite").exit_code == 0 and call(*args).exit_code == 0
