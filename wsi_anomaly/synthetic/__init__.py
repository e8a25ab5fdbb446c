"""Seeded slides that look like H&E, with lesions whose outlines are known."""

from wsi_anomaly.synthetic.slide import GENERATOR_VERSION, SyntheticSlide, make_slide

__all__ = ["GENERATOR_VERSION", "SyntheticSlide", "make_slide"]
