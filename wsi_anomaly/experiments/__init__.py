"""How good is it: scores against known truth, always beside their controls."""

from wsi_anomaly.experiments.evaluation import (
    Auc,
    ColourControl,
    label_fields,
    mean_colours,
    roc_auc,
    slide_bootstrap,
)

__all__ = ["Auc", "ColourControl", "label_fields", "mean_colours", "roc_auc", "slide_bootstrap"]
