"""What can be added without a change here: networks, detectors, slide readers.

Each line names one of ours and the module that registers it. Other packages name theirs as entry
points of the three groups (``docs/how-to/plug-ins.md``). This module imports nothing heavy, so that
``--help`` can list what there is.
"""

from __future__ import annotations

from typing import Any

from wsi_anomaly.core.registry import Registry

_BASELINES = "wsi_anomaly.baselines"
_ENCODERS = "wsi_anomaly.features.encoders"

NETWORKS: Registry[Any] = Registry(
    "network",
    "wsi_anomaly.networks",
    {
        "compact": "wsi_anomaly.features.compact",
        "lite0": "wsi_anomaly.features.lite0",
        "vgg19": "wsi_anomaly.features.vgg",
        "vgg16": "wsi_anomaly.features.vgg",
        "squeezenet": "wsi_anomaly.features.squeezenet",
        "resnet": "wsi_anomaly.features.resnet",
        "uni": _ENCODERS,
        "uni2-h": _ENCODERS,
        "virchow2": _ENCODERS,
        "h-optimus-0": _ENCODERS,
        "h-optimus-1": _ENCODERS,
        "gigapath": _ENCODERS,
        "phikon-v2": _ENCODERS,
        "h0-mini": _ENCODERS,
        "conch": _ENCODERS,
    },
)
"""Functions without arguments that give a :class:`wsi_anomaly.features.NetworkSpec`."""

DETECTORS: Registry[Any] = Registry(
    "detector",
    "wsi_anomaly.detectors",
    {
        "dpa": "wsi_anomaly.detectors.dpa",
        "density": "wsi_anomaly.detectors.density",
        "fusion": "wsi_anomaly.detectors.fusion",
        "deep-if": f"{_BASELINES}.deep_if",
        "deep-geo": f"{_BASELINES}.deep_geo",
        "piad": f"{_BASELINES}.piad",
        "deep-svdd": f"{_BASELINES}.deep_svdd",
        "ganomaly": f"{_BASELINES}.ganomaly",
        "anogan": f"{_BASELINES}.anogan",
        "dsebm": f"{_BASELINES}.dsebm",
        "daol": f"{_BASELINES}.daol",
    },
    attribute="name",
    base="wsi_anomaly.detectors.base:Detector",
)
"""Classes derived from :class:`wsi_anomaly.detectors.Detector`, in the order of their fitting."""

READERS: Registry[Any] = Registry(
    "reader",
    "wsi_anomaly.readers",
    {
        "openslide": "wsi_anomaly.slides.openslide_backend",
        "tiff": "wsi_anomaly.slides.tiff_backend",
        "deepzoom": "wsi_anomaly.slides.deepzoom_backend",
        "czi": "wsi_anomaly.slides.czi_backend",
    },
    attribute="backend",
    base="wsi_anomaly.slides.base:Slide",
)
"""Classes derived from :class:`wsi_anomaly.slides.Slide`."""
