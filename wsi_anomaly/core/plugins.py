"""What can be added without a change here: networks, detectors, slide readers.

Each line names one of ours and the module that registers it. Other packages name theirs as entry
points of the three groups (``docs/how-to/plug-ins.md``). This module imports nothing heavy, so that
``--help`` can list what there is.
"""

from __future__ import annotations

from typing import Any

from wsi_anomaly.core.registry import Registry

_COMPARED = "wsi_anomaly.detectors.compared"

NETWORKS: Registry[Any] = Registry(
    "network",
    "wsi_anomaly.networks",
    {
        "compact": "wsi_anomaly.features.compact",
        "vgg19": "wsi_anomaly.features.vgg",
        "squeezenet": "wsi_anomaly.features.squeezenet",
        "resnet": "wsi_anomaly.features.resnet",
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
        "deep-if": f"{_COMPARED}.deep_if",
        "deep-geo": f"{_COMPARED}.deep_geo",
        "piad": f"{_COMPARED}.piad",
        "deep-svdd": f"{_COMPARED}.deep_svdd",
        "ganomaly": f"{_COMPARED}.ganomaly",
        "anogan": f"{_COMPARED}.anogan",
        "dsebm": f"{_COMPARED}.dsebm",
        "daol": f"{_COMPARED}.daol",
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
    },
    attribute="backend",
    base="wsi_anomaly.slides.base:Slide",
)
"""Classes derived from :class:`wsi_anomaly.slides.Slide`."""
