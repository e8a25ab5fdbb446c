"""The command line's tone: exit codes, one sentence an error, help that teaches."""

from __future__ import annotations

import click
import pytest

from wsi_anomaly.cli import main as entry
from wsi_anomaly.core.errors import MissingMppError, UsageError


def fake(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command()
    @click.option("--debug", is_flag=True, expose_value=False)
    def command() -> None:
        raise error

    monkeypatch.setattr(entry.LazyGroup, "get_command", lambda *_: command)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MissingMppError("a.svs has no mpp; add --mpp 0.25."), 1, "Error: a.svs has no mpp;"),
        (UsageError("slides/ does not exist."), 2, "Error: slides/ does not exist."),
        (KeyboardInterrupt(), 130, "run the same command again"),
        (ZeroDivisionError("division\nby zero"), 1, "unexpected ZeroDivisionError: division by"),
    ],
)
def test_an_error_is_one_sentence_and_the_right_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    fake(monkeypatch, error)
    assert entry.main(["tile"]) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert "Traceback" not in printed.err + printed.out


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, MissingMppError("no mpp"))
    with pytest.raises(MissingMppError):
        entry.main(["tile", "--debug"])


@pytest.mark.parametrize("arguments", [["no-such-command"], ["tile", "--no-such-option"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert entry.main(arguments) == 2


@pytest.mark.parametrize("name", list(entry.COMMANDS))
def test_every_command_has_a_help_that_teaches(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"wsi-anomaly {name}" in printed  # a line that can be copied
    assert "--debug" in printed
    assert "\\b" not in printed
