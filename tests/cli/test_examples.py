"""The examples: they parse, and name commands, options and functions that exist."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

import wsi_anomaly
from wsi_anomaly.cli.main import cli

OF_QUPATH = Path(wsi_anomaly.__file__).parent / "results" / "qupath_scripts"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.*"))


def test_there_is_one_of_each_kind():
    assert {path.suffix for path in SCRIPTS} >= {".py", ".sh", ".nf"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_python_examples_call_functions_as_they_are(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "wsi_anomaly"
    ]
    calls.sort(key=lambda call: call.lineno)
    if path.name == "normal_cohort_to_overlays.py":
        assert [call.func.attr for call in calls] == ["tile", "train", "score"]
    for call in calls:
        signature = inspect.signature(getattr(wsi_anomaly, call.func.attr))
        signature.bind(*call.args, **{word.arg: None for word in call.keywords})


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sh")), ids=lambda p: p.name)
def test_shell_examples_parse(path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    subprocess.run([bash, "-n", str(path)], check=True)


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """Each ``wsi-anomaly COMMAND`` of a script, with the options that follow it."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(r"wsi-anomaly (\w+)([^\n]*)", joined)
    return [(name, re.findall(r"(?<!\S)(--[\w-]+)", rest)) for name, rest in lines]


@pytest.mark.parametrize(
    "path", [p for p in SCRIPTS if p.suffix in (".sh", ".nf")], ids=lambda p: p.name
)
def test_scripts_use_commands_and_options_that_exist(path):
    found = commands_in(path.read_text(encoding="utf-8"))
    assert found
    for name, options in found:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(options) <= known, f"{path.name}: {set(options) - known}"


@pytest.mark.parametrize(
    "path",
    [*EXAMPLES.glob("*.nf"), *sorted(OF_QUPATH.glob("*.groovy"))],
    ids=lambda p: p.name,
)
def test_brackets_of_groovy_close(path):
    """No Groovy here to parse it; at least nothing is left open."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^//.*$| // .*$", "", text)
    text = re.sub(r"'[^'\n]*'", "''", text)
    opened: list[str] = []
    for character in text:
        if character in "([{":
            opened.append(character)
        elif character in ")]}":
            assert opened
            assert opened.pop() + character in ("()", "[]", "{}")
    assert not opened
