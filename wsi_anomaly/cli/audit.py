"""``wsi-anomaly audit``: whether results, or a frozen model, are what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import PATH, common_options, console, say
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("folder", type=PATH, default=Path("results"))
@click.option(
    "--seal", metavar="HASH", help="Last hash that was noted: the trail must still hold its line."
)
@click.option("--freeze", is_flag=True, help="Of a model: have no command replace it any more.")
@common_options
def command(*, folder: Path, seal: str | None, freeze: bool, verbosity: int = 0) -> int:
    r"""See whether results are what was recorded when they were made.

    FOLDER is what score has written (default: results/). Every run, every result with the hashes of
    its files, every review and every mark is a line of results/audit.jsonl, which is only ever
    added to. What was changed, taken away or put there since is named, and the exit code is then 1.
    The seal that is printed, noted in the study's file, proves later that the record was not
    written anew.

    FOLDER may be a model's: --freeze keeps train and calibrate from replacing it, and audit tells
    whether it has changed since.

    \b
    Examples:
      wsi-anomaly audit results/
      wsi-anomaly audit results/ --seal 4f0c...
      wsi-anomaly audit model/ --freeze
    """
    out = console(verbosity)
    if (folder / "model.json").is_file():
        if seal is not None:
            raise UsageError("--seal is of results; a frozen model holds its own hashes.")
        return _model(folder, out, freeze=freeze)
    if freeze:
        raise UsageError(f"--freeze is of a model, and {folder} holds none.")

    from wsi_anomaly.results.audit import audit_results

    found = audit_results(folder, seal)
    for problem in found.problems:
        click.echo(f"Error: {problem}", err=True)
    models = ", ".join(
        f"{name[:16]} ({counted(count, 'result')})" for name, count in found.models.items()
    )
    recorded = {"run": found.runs, "result": found.results, "review": found.reviews}
    recorded |= {"mark": found.marks} if found.marks else {}
    say(out, f"{', '.join(counted(n, noun) for noun, n in recorded.items())} recorded.")
    say(out, f"Models: {models or 'none'}")
    if not found.problems:
        say(out, "Everything is as it was recorded.", "green")
    click.echo(f"Seal: {found.seal}")
    return 1 if found.problems else 0


def _model(folder: Path, out: Console, *, freeze: bool) -> int:
    from wsi_anomaly.detectors.frozen import changed_since
    from wsi_anomaly.detectors.frozen import freeze as freeze_model

    if freeze:
        freeze_model(folder)
    frozen, changed = changed_since(folder)
    if not frozen:
        say(out, f"{folder} is not frozen: train and calibrate may replace it.")
        return 0
    for name in changed:
        click.echo(f"Error: {folder / name} was changed after {frozen}.", err=True)
    if not changed:
        say(out, f"{folder} was frozen on {frozen} and has not changed since.", "green")
    return 1 if changed else 0
