"""Every row of ``docs/results.md`` stands beside a command that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from wsi_anomaly.cli.reproduce import command
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.published import CIFAR10
from wsi_anomaly.reproduce.rows import settings_of
from wsi_anomaly.reproduce.sources.labelled import LABELLED

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
VARIABLES = dict(re.findall(r'^([A-Z]+)="([^"]+)"$', PAGE, re.MULTILINE))
_LINE = re.compile(r"^\| (.*?) \| (\d+) \| .* \| `([^`]+)` \|$", re.MULTILINE)


def documented() -> list[tuple[str, str, str]]:
    """What a row says of itself, its size, and the whole command."""
    found = []
    for part in PAGE.split("\n## "):
        line = re.search(r"^(wsi-anomaly reproduce .* \$ROWS) OPTIONS$", part, re.MULTILINE)
        if line is not None:
            rows = [match.groups() for match in _LINE.finditer(part)]
            assert rows, line[0]
            found += [(what, size, f"{line[1]} {options}") for what, size, options in rows]
    return found


@pytest.mark.parametrize(("what", "size", "line"), documented(), ids=lambda text: text[-60:])
def test_the_command_measures_what_the_row_says(what: str, size: str, line: str) -> None:
    for name, value in VARIABLES.items():
        line = line.replace(f"${name}", value)
    words = shlex.split(line)
    assert words[:2] == ["wsi-anomaly", "reproduce"]
    asked = click.Context(command)
    command.parse_args(asked, words[2:])
    given = asked.params
    assert given["what"] in (*LABELLED, "cifar10")
    plan = Plan(features=given["features"], size=given["size"], options=given["options"])
    problem = (given["classes"] or CIFAR10[:1])[0]
    settings = settings_of("density", given["what"], problem, plan)
    network, estimator, *layers = re.split(r"[:,]? ", what.rsplit(" | ", maxsplit=1)[-1])
    assert (settings["estimator"], settings["layers"]) == (estimator, layers)
    assert (given["features"], str(settings["size"])) == (network, size)
    assert given["aside"] == 0
    assert given["rows"] == ("density", "mean-colour", "density-random", "supervised")


def test_every_row_is_there() -> None:
    assert len(documented()) == 8 + 6 + 2 + 4 + 22
