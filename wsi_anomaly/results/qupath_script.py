"""A Groovy script that lays the heatmap picture over the slide in QuPath."""

from __future__ import annotations

from pathlib import Path

from wsi_anomaly.core.files import write_text

PICTURE = "heatmap_qupath.png"
SCRIPT = "show_heatmap.groovy"

_TEXT = """\
// Lays the heatmap over the slide that is open in QuPath (0.4 or later).
// Drag this file onto QuPath, then Run. To take the heatmap away: setCustomPixelLayerOverlay(null).
import javax.imageio.ImageIO
import qupath.lib.gui.viewer.overlays.BufferedImageOverlay

def picture = new File('{picture}')
if (!picture.exists()) {{
    println 'Not found: ' + picture + ' - put the path of {name} into the line above.'
    return
}}
def viewer = getCurrentViewer()
def overlay = new BufferedImageOverlay(viewer, ImageIO.read(picture))
javafx.application.Platform.runLater {{ viewer.setCustomPixelLayerOverlay(overlay) }}
println 'Heatmap shown; its opacity follows the slider of the toolbar.'
"""


def groovy_string(text: str) -> str:
    """Escape a text for a Groovy literal in single quotes."""
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text


def write_qupath_script(path: str | Path, picture: str | Path) -> None:
    """Write the script; `picture` is where the PNG will lie.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    place = groovy_string(str(Path(picture).absolute()))
    write_text(path, _TEXT.format(picture=place, name=groovy_string(Path(picture).name)))
