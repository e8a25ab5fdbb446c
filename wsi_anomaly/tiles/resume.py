"""Whether a tile file that stands there already can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.slides import Slide
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.store import TileStore

_IN_WORDS = {"tissue_mask": "tissue mask has", "annotations": "annotations have"}


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
    if store.scene != slide.scene:
        return None, "redone: another image of the file was chosen"
    if store.case != case:
        return None, "redone: its case has changed"
    for name, mark in sources.items():
        if store.sources[name] != mark:
            return None, f"redone: its {_IN_WORDS[name]} changed"
    return store, ""
