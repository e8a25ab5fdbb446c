"""The command that scores a slide of a results folder again, as it was scored, with its marks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_anomaly.core.resources import NO_MODEL
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.results.marks import FOLDER
from wsi_anomaly.results.trail import model_folder
from wsi_anomaly.scoring import LIMITS

_NUMBERS = {
    "min_tissue": "--min-tissue", "false_regions": "--false-regions", "fdr": "--fdr",
    "mpp": "--mpp", "scene": "--scene",
}  # fmt: skip
_SWITCHES = {"all_flags": "--all-flags", "pixel_map": "--pixel-map"}


def command_for(results: Path, slide: Path, summary: Mapping[str, Any], *, marked: bool) -> str:
    """Give the command, ready to be pasted where the viewer was started.

    Parameters
    ----------
    results, slide
        Folder of results, and where the slide lies now.
    summary
        What the slide's result says of how it was made.
    marked
        Whether it has marks; without, its next scores are those of the model alone.

    Raises
    ------
    OutputError
        The trail of the results, which knows the model's folder, cannot be read.
    """
    settings, usual = summary["settings"], ScoreOptions()
    words = ["wsi-anomaly", "score", _short(slide)]
    if summary["model"]["name"] in LIMITS:
        words += ["--model", NO_MODEL]
    else:
        model = model_folder(results, str(summary["model"]["hash"]))
        words += ["--model", "MODEL" if model is None else _short(model)]
    words += ["-o", _short(results)]
    if marked:
        words += ["--normal", _short(results / FOLDER)]
    for name, option in _NUMBERS.items():
        value = settings.get(name, getattr(usual, name))
        if value != getattr(usual, name):
            words += [option, f"{value:g}"]
    if settings["stride_um"] != summary["fields"]["field_um"]:
        words += ["--stride", f"{settings['stride_um']:g}"]
    if settings.get("tissue_mask"):
        words += ["--tissue-mask", "MASK"]
    words += [option for name, option in _SWITCHES.items() if settings.get(name)]
    if summary["qupath_origin"] != usual.origin:
        words += ["--qupath-origin", summary["qupath_origin"]]
    if "heatmap" in summary["files"]:
        words += ["--heatmap"]
    return shlex.join(words)


def blanks(command: str) -> str:
    """Say what of a command the reader has to fill in; empty if nothing."""
    words = shlex.split(command)
    said = {"MODEL": "MODEL is the folder of its model", "MASK": "MASK is the mask that it had"}
    found = [text for word, text in said.items() if word in words]
    return f"{'; '.join(found)}." if found else ""


def _short(path: Path) -> str:
    """Give a path from where the viewer was started, if it lies there."""
    path = path.absolute()
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
