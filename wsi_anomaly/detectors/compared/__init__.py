"""The systems that the paper compares with, under the same protocol as our own detectors.

Each is a small module that cites its paper; ``docs/detectors.md`` says what each is, what it costs,
and where it departs from its paper.
"""

from wsi_anomaly.detectors.compared.base import Compared
from wsi_anomaly.detectors.compared.deep_geo import DeepGeo, DeepGeoConfig
from wsi_anomaly.detectors.compared.deep_if import DeepIf, DeepIfConfig
from wsi_anomaly.detectors.compared.piad import Piad, PiadConfig
from wsi_anomaly.detectors.compared.settings import NetworkSettings, Settings

__all__ = [
    "COMPARED",
    "Compared",
    "DeepGeo",
    "DeepGeoConfig",
    "DeepIf",
    "DeepIfConfig",
    "NetworkSettings",
    "Piad",
    "PiadConfig",
    "Settings",
]

COMPARED: dict[str, type[Compared]] = {d.name: d for d in (DeepIf, DeepGeo, Piad)}
"""The compared systems by name; each has its ``config_type``."""
