"""Writes the commands of ``docs/reference.md`` from the help texts themselves.

Run ``python -m wsi_anomaly.cli.reference docs/reference.md`` when an option has changed.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from pathlib import Path

import click

import wsi_anomaly
from wsi_anomaly import options
from wsi_anomaly.cli.main import COMMANDS, cli

START = "<!-- commands: written by python -m wsi_anomaly.cli.reference docs/reference.md -->"
END = "<!-- end of the commands -->"


def commands_text() -> str:
    """Every command with its help and its options, Markdown."""
    context = click.Context(cli, info_name="wsi-anomaly", **cli.context_settings)
    parts = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        settings = command.context_settings
        parts.append(_command(command, click.Context(command, context, name, **settings)))
    return "\n".join(parts)


def with_commands(page: str) -> str:
    """Put the commands of this version between the two marks of a page."""
    before, rest = page.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{commands_text()}\n{END}{after}"


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"### `{context.command_path}`", "", "```text", usage, "```", ""]
    lines += _help(inspect.cleandoc(command.help or ""))
    keywords = _keywords(str(context.info_name))
    lines += (
        ["| option | in Python | meaning |", "|---|---|---|"]
        if keywords
        else ["| option | meaning |", "|---|---|"]
    )
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            option, meaning = (" ".join(text.split()).replace("|", "\\|") for text in record)
            keyword = f"`{parameter.name}` | " if parameter.name in keywords else "| "
            lines.append(f"| `{option}` | {keyword if keywords else ''}{_plain(meaning)} |")
    return "\n".join([*lines, ""])


def _keywords(command: str) -> set[str]:
    """Names by which a program gives a verb its options; none where there is no such verb."""
    if command not in wsi_anomaly.__all__:
        return set()
    own = inspect.signature(getattr(wsi_anomaly, command)).parameters
    chosen = getattr(options, f"{command.capitalize()}Options", None)
    return {*own, *(f.name for f in (fields(chosen) if chosen else ()))}


def _help(text: str) -> list[str]:
    """Paragraphs as they are; lists of examples, which are indented, as code."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        found = paragraph.removeprefix("\b\n")
        if "\n  " in found or found.startswith("  "):
            lines += ["```text", inspect.cleandoc("\n" + found), "```", ""]
        else:
            lines += [_plain(" ".join(found.split())), ""]
    return lines


def _plain(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_commands(path.read_text(encoding="utf-8")), encoding="utf-8")
