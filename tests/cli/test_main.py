"""The command as a whole: listed without being imported, helpful, and deaf to neither bad input nor a closed pipe."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import COMMANDS, cli

import cxrfeat

HEAVY = ("tensorflow", "keras", "sklearn", "pandas", "matplotlib", "openvino", "scipy", "cv2", "h5py")


def run_process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cxrfeat_cli.main", *words], capture_output=True, text=True, check=False
    )


def subcommands() -> list[list[str]]:
    """Every command and, of the groups, every command inside."""
    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        inner = list(command.commands) if isinstance(command, click.Group) else []
        found += [[name], *([name, part] for part in inner)]
    return found


@pytest.mark.parametrize("words", subcommands(), ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0, result.output
    assert "Example" in result.output
    assert "cxrfeat" in result.output.partition("Example")[2]


@pytest.mark.parametrize("words", subcommands(), ids=" ".join)
def test_every_option_says_what_it_is(words):
    command: click.Command = cli
    for word in words:
        command = command.get_command(click.Context(command), word)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            shown = (
                parameter.help
                or parameter.metavar
                or isinstance(parameter.type, click.Choice)
                or parameter.show_default
            )
            assert shown, parameter.name


def test_help_of_any_command_imports_nothing_heavy():
    modules = sorted({module for module, _ in COMMANDS.values()})
    code = (
        "import sys, importlib\n"
        f"[importlib.import_module('cxrfeat_cli.' + m) for m in {modules}]\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_the_list_of_commands_and_the_version():
    result = run_process("--help")
    assert result.returncode == 0
    for name, (_, line) in COMMANDS.items():
        assert name in result.stdout
        assert line.split()[0] in result.stdout
    assert cxrfeat.__version__ in run_process("--version").stdout


def test_a_command_that_does_not_exist_is_told():
    result = run_process("extrct")
    assert result.returncode == 2
    assert "No such command 'extrct'" in result.stderr


def test_a_user_s_mistake_in_a_real_process_is_one_sentence():
    result = run_process("study", "describe", "nowhere.csv")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: no study at nowhere.csv")
    assert "Traceback" not in result.stderr
