"""Sizes of the compared systems in the two presets; their own defaults are the papers'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from wsi_anomaly.detectors import DETECTORS

# For two CPU cores and a few thousand tiles.
QUICK: dict[str, dict[str, Any]] = {
    "deep-geo": {"resolution": 32, "depth": 10, "width": 1, "steps": 400, "batch_size": 64,
                 "dirichlet_tiles": 500},
    "piad": {"width": 64, "latent": 32, "steps": 500, "batch_size": 16},
    "deep-svdd": {"width": 16, "pretrain_steps": 400, "steps": 400, "batch_size": 64},
    "ganomaly": {"width": 16, "steps": 800, "batch_size": 32},
    "anogan": {"width": 16, "steps": 1200, "batch_size": 32, "search_steps": 30,
               "search_rate": 0.1},
    "dsebm": {"width": 16, "steps": 800, "batch_size": 32},
    "daol": {"width": 16, "steps": 800, "batch_size": 32},
}  # fmt: skip

# Where a paper says something else for images of 64 px (Camelyon16) than for those of 32 px.
_AT_64_PX: dict[str, dict[str, Any]] = {
    "deep-geo": {"resolution": 64, "depth": 16, "width": 8, "steps": 12_846,
                 "dirichlet_tiles": 7_612},
}  # fmt: skip


def _published(name: str) -> dict[str, Any]:
    """Options as published, for each that the quick ones change."""
    defaults = {f.name: f.default for f in fields(DETECTORS.get(name).config_type)}
    return {key: defaults[key] for key in QUICK[name]} | _AT_64_PX.get(name, {})


PUBLISHED: dict[str, dict[str, Any]] = {name: _published(name) for name in QUICK}


def over_quick(given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Options by system, `given` entries over the quick ones."""
    changed = {name: {**QUICK.get(name, {}), **own} for name, own in given.items()}
    return {**QUICK, **changed}
