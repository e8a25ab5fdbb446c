"""The systems that the paper compares with, under the same protocol as our own detectors.

Each is a small module that cites its paper; ``docs/detectors.md`` says what each is, what it costs,
and where it departs from its paper.
"""

from wsi_anomaly.detectors.base import Detector
from wsi_anomaly.detectors.compared.anogan import Anogan, AnoganConfig
from wsi_anomaly.detectors.compared.daol import Daol, DaolConfig
from wsi_anomaly.detectors.compared.deep_geo import DeepGeo, DeepGeoConfig
from wsi_anomaly.detectors.compared.deep_if import DeepIf, DeepIfConfig
from wsi_anomaly.detectors.compared.deep_svdd import DeepSvdd, DeepSvddConfig
from wsi_anomaly.detectors.compared.dsebm import Dsebm, DsebmConfig
from wsi_anomaly.detectors.compared.ganomaly import Ganomaly, GanomalyConfig
from wsi_anomaly.detectors.compared.piad import Piad, PiadConfig
from wsi_anomaly.detectors.compared.settings import NetworkSettings

__all__ = [
    "COMPARED",
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

COMPARED: dict[str, type[Detector]] = {
    d.name: d for d in (DeepIf, DeepGeo, Piad, DeepSvdd, Ganomaly, Anogan, Dsebm, Daol)
}
"""The compared systems by name; each has its ``config_type``."""
