"""Embeddings that other programs have made: found, read, checked, laid on a grid."""

from wsi_anomaly.embeddings.base import Embeddings
from wsi_anomaly.embeddings.files import EmbeddingsFile, Found, find_embeddings
from wsi_anomaly.embeddings.grid import Gridded, on_grid
from wsi_anomaly.embeddings.stand_in import StandIn

__all__ = [
    "Embeddings",
    "EmbeddingsFile",
    "Found",
    "Gridded",
    "StandIn",
    "find_embeddings",
    "on_grid",
]
