"""``wsi-anomaly view``: results beside their slides, in a browser on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from wsi_anomaly.cli.common import PATH, common_options, console, say


@click.command()
@click.argument("results", type=PATH, default=Path("results"))
@click.option(
    "--slides",
    type=click.Path(path_type=Path, exists=True),
    help="Folder in which the slides lie now, if they are not where they were scored.",
)
@click.option(
    "--reader",
    metavar="NAME",
    help="Review as this reader: verdicts by key, kept in results/reviews/, and marked normal "
    "tissue, in results/marks/.  [default: only look]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of this machine.  [default: any that is free]",
)
@click.option("--browser/--no-browser", default=True, help="Open a browser.", show_default=True)
@common_options
def command(
    *,
    results: Path,
    slides: Path | None,
    reader: str | None,
    port: int,
    browser: bool,
    verbosity: int = 0,
) -> int:
    r"""Look at results in a browser: the slide in deep zoom under its heatmap.

    RESULTS is the folder that score has written (default: results/). The page lists the slides,
    most abnormal first; on a slide, sliders set the heatmap's opacity and the lowest score shown,
    and the list of regions (or n and p on the keyboard) jumps to each. Only this machine can open
    it, under the address that is printed, which holds a secret; nothing is sent anywhere. Ctrl-C
    ends it.

    With --reader one key says what a flagged region, or a field that was clicked, is: abnormal,
    normal variant, artefact or unsure. It is saved at once under results/reviews/, which score
    leaves alone. Two readers are shown side by side; in a blinded reading each sees only their own.
    A reader also marks normal tissue of a slide (m), kept under results/marks/ for score --normal.

    \b
    Examples:
      wsi-anomaly view results/
      wsi-anomaly view results/ --reader ann
      wsi-anomaly view results/ --slides /media/slides --no-browser --port 8800
    """
    from wsi_anomaly.reports.worklist import COHORT_PAGE
    from wsi_anomaly.screening import is_blinded
    from wsi_anomaly.viewer.folder import Results
    from wsi_anomaly.viewer.server import Viewer

    blinded = is_blinded(results) and not (results / COHORT_PAGE).exists()
    server = Viewer(Results(results, slides), port, reader=reader, blinded=blinded)
    say(console(verbosity), f"Open {server.url} (Ctrl-C ends)")
    with tempfile.TemporaryDirectory(prefix="wsi-anomaly-view-") as folder:
        if browser:
            import webbrowser

            # Others can see with what a program was started, not what is in our folder.
            page = Path(folder) / "open.html"
            page.write_text(f'<meta http-equiv="refresh" content="0; url={server.url}">')
            webbrowser.open(page.as_uri())
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
        finally:
            server.server_close()
            if server.reviewing:
                server.reviewing.say_what_changed()
    return 0
