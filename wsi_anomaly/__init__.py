"""wsi-anomaly: learn normal tissue from normal slides; show where a slide is not normal.

The verbs of the command line, for programs::

    import wsi_anomaly

    wsi_anomaly.tile("slides/", "tiles")
    wsi_anomaly.train("tiles", "model")
    wsi_anomaly.score("slide.tif", model="model", output="results", heatmap=True)
    wsi_anomaly.evaluate("results", annotations="outlines")

They raise :class:`wsi_anomaly.core.errors.WsiAnomalyError` with one sentence that says what is
wrong. Each loads its packages when it is called first, so importing this package costs nothing.
"""

from __future__ import annotations

from wsi_anomaly.core.caches import provide_caches

__version__ = "0.1.0"

provide_caches()

TYPE_CHECKING = False  # as type checkers know it: typing would double the time of this import
if TYPE_CHECKING:
    from typing import Any

    from wsi_anomaly.api import calibrate, check, evaluate, init, learn, score, tile, train, tune
    from wsi_anomaly.results.frames import Results

__all__ = [
    "Results", "__version__", "calibrate", "check", "evaluate", "init", "learn", "score", "tile",
    "train", "tune",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "Results":
        from wsi_anomaly.results.frames import Results

        return Results
    if name in __all__:
        from wsi_anomaly import api

        return getattr(api, name)
    raise AttributeError(f"module 'wsi_anomaly' has no attribute {name!r}")
