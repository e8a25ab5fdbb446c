"""wsi-anomaly: learn normal tissue from normal slides; show where a slide is not normal."""

__version__ = "0.1.0"
