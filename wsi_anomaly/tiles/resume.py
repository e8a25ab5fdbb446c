"""Whether a tile file that stands there already can be kept."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.core.files import PARTIAL_SUFFIX
from wsi_anomaly.slides import Slide
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.store import TileStore

_LEFT_BEHIND_SECONDS = 24 * 3600.0
_IN_WORDS = {"tissue_mask": "tissue mask has", "annotations": "annotations have"}
_PARTIAL = re.compile(rf"\..+\.(\d+){re.escape(PARTIAL_SUFFIX)}")


def finished(
    target: Path,
    fingerprint: str,
    config: TileConfig,
    case: str,
    slide: Slide,
    sources: Mapping[str, str],
) -> tuple[TileStore | None, str]:
    """Open the tile file if it can be kept; otherwise None and why not ("" if there is none)."""
    if not target.exists():
        return None, ""
    try:
        store = TileStore.open(target)
    except TileStoreError:
        return None, "redone: the former tile file was damaged or of another version"
    if store.fingerprint != fingerprint:
        return None, "redone: the slide has changed"
    if store.config_hash != config.hash:
        return None, "redone: the configuration has changed"
    if (store.mpp.x, store.mpp.y) != (slide.mpp.x, slide.mpp.y):
        return None, "redone: the pixel size has changed"
    if store.case != case:
        return None, "redone: its case has changed"
    for name, mark in sources.items():
        if store.sources[name] != mark:
            return None, f"redone: its {_IN_WORDS[name]} changed"
    return store, ""


def remove_left_behind(folder: Path) -> None:
    """Delete partial files that a process left when it was killed, a day ago or more.

    Younger ones may belong to a process on another machine.
    """
    for file in folder.glob(f".*{PARTIAL_SUFFIX}"):
        if _PARTIAL.fullmatch(file.name):
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                    file.unlink()
