"""Every command helps, with an example, at once: no help text waits for TensorFlow or scikit-learn."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import COMMANDS, LazyGroup, cli

HEAVY = ("numpy", "pandas", "cv2", "tensorflow", "keras", "sklearn", "matplotlib", "onnx", "openvino", "h5py")


def walk(group, words=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from walk(command, (*words, name))


ALL = list(walk(cli))


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.output
    assert f"cxrfeat {words[0]}" in done.output


def test_every_command_listed_is_there_and_says_what_it_is_for():
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command.help
        assert line.endswith(".")


def test_no_help_imports_anything_heavy():
    code = f"""
import sys, json
from click.testing import CliRunner
from cxrfeat_cli.main import cli, COMMANDS
found = {{}}
for name in COMMANDS:
    CliRunner().invoke(cli, [name, "--help"])
    found[name] = [m for m in {HEAVY} if m in sys.modules]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name: heavy for name, heavy in json.loads(done.stdout).items() if heavy} == {}


def test_the_front_page_imports_no_command():
    code = (
        "import sys; from cxrfeat_cli.main import cli; cli(['-h'], standalone_mode=False); print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'numpy'" not in done.stdout
    assert "cxrfeat_cli.demo" not in done.stdout


def test_an_unknown_command_exits_2():
    done = CliRunner().invoke(cli, ["extrakt"])
    assert done.exit_code == 2
    assert "extrakt" in done.stderr
    assert isinstance(cli, LazyGroup)
