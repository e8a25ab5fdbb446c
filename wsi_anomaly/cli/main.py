"""Entry point: finds the command, sets the tone, and turns errors into one sentence.

Exit codes: 0 all done; 1 something could not be processed, the rest is done; 2 wrong usage;
130 interrupted, the same command resumes.
"""

from __future__ import annotations

import importlib
import io
import sys

import click

from wsi_anomaly import __version__
from wsi_anomaly.cli.guarded import guarded
from wsi_anomaly.core.errors import WsiAnomalyError

# name -> one line of help. The modules are imported only when their command runs, so that
# ``wsi-anomaly --help`` needs neither torch nor openslide.
COMMANDS = {
    "tile": "Cut normal slides into stain-normalised tiles (HDF5).",
    "preview": "Show what the rules keep of slides, or a sheet of a tile file.",
    "train": "Learn normal tissue from tiles of normal slides.",
    "tune": "Choose hyperparameters by a few known anomalies.",
    "check": "See whether new slides are like a model's normal slides.",
    "calibrate": "Make a lab's own normal slides the reference of a model.",
    "score": "Score new slides; write heatmaps, QuPath overlays and reports.",
    "learn": "Learn from reviews what is harmless; a model that flags it no more.",
    "evaluate": "Compare results with known truth: ROC AUC, FROC, intervals, plots.",
    "reproduce": "Run the paper's experiments; tables with our figures beside its.",
    "view": "Look at results beside their slides, in a browser.",
    "review": "Show how far a review is; take reviews made in QuPath.",
    "export": "Write results as tables: Parquet, CSV, AnnData.",
    "qupath": "Make a QuPath project of scored slides.",
    "audit": "See whether results, or a frozen model, are as recorded.",
    "init": "Write a table of slides that the other commands take.",
    "demo": "Run the whole path on slides it makes itself.",
    "info": "Show what is known of a slide, a tile file, a model or a result.",
    "doctor": "Check the installation.",
}

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports a command's module on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"wsi_anomaly.cli.{cmd_name}")
        command: click.Command = module.command
        command.help = laid_out(command.help)
        # click keeps the help option that a command's first context has made, so each has its own.
        command.context_settings.update(HELP_NAMES)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def laid_out(text: str | None) -> str | None:
    """Let click see which paragraphs keep their lines.

    It looks for the control character of a backspace; raw docstrings hold its two letters.
    """
    return text and text.replace("\\b\n", "\b\n")


@click.group(cls=LazyGroup, context_settings=HELP_NAMES)
@click.version_option(__version__, prog_name="wsi-anomaly")
def cli() -> None:
    r"""Learn normal tissue from normal slides alone; show where a new slide is not normal.

    \b
    The three steps:
      wsi-anomaly tile slides/                  normal slides -> tiles/<slide>.h5
      wsi-anomaly train                         tiles/        -> model/
      wsi-anomaly score slide.tif --heatmap     a new slide   -> results/<slide>/

    Nothing at hand to try it on?  wsi-anomaly demo
    """


cli.help = laid_out(cli.help)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit the process with the right code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that is no text ends nothing
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(guarded(lambda: main(arguments), arguments))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        result = cli.main(args=arguments, prog_name="wsi-anomaly", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if debug:
            raise
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; run the same command again to go on from here.", err=True)
        return 130
    except WsiAnomalyError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(
            f"Error: unexpected {type(error).__name__}: {_one_line(error)} "
            "(run the same command with --debug for the details).",
            err=True,
        )
        return 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or "no message"
