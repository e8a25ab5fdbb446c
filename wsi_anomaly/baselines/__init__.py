"""The systems that the paper compares with, under the same protocol as our own detectors.

Each is a small module that cites its paper; ``docs/detectors.md`` says what each is, what it costs,
and where it departs from its paper.
"""

from wsi_anomaly.baselines.anogan import Anogan, AnoganConfig
from wsi_anomaly.baselines.daol import Daol, DaolConfig
from wsi_anomaly.baselines.deep_geo import DeepGeo, DeepGeoConfig
from wsi_anomaly.baselines.deep_if import DeepIf, DeepIfConfig
from wsi_anomaly.baselines.deep_svdd import DeepSvdd, DeepSvddConfig
from wsi_anomaly.baselines.dsebm import Dsebm, DsebmConfig
from wsi_anomaly.baselines.ganomaly import Ganomaly, GanomalyConfig
from wsi_anomaly.baselines.piad import Piad, PiadConfig
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.detectors.base import Detector

__all__ = [
    "BASELINES",
    "Anogan",
    "AnoganConfig",
    "Daol",
    "DaolConfig",
    "DeepGeo",
    "DeepGeoConfig",
    "DeepIf",
    "DeepIfConfig",
    "DeepSvdd",
    "DeepSvddConfig",
    "Dsebm",
    "DsebmConfig",
    "Ganomaly",
    "GanomalyConfig",
    "NetworkSettings",
    "Piad",
    "PiadConfig",
]

BASELINES: dict[str, type[Detector]] = {
    d.name: d for d in (DeepIf, DeepGeo, Piad, DeepSvdd, Ganomaly, Anogan, Dsebm, Daol)
}
"""The compared systems by name; each has its ``config_type``."""
