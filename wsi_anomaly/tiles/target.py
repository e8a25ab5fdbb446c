"""The user's own stain target: an image to whose stains all slides are brought."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from wsi_anomaly.core.errors import StainError, UsageError
from wsi_anomaly.slides.overview import glass_colour
from wsi_anomaly.stain import StainProfile, fit_profile

_MAX_PIXELS = 400_000_000


def read_target(path: Path, method: str) -> StainProfile:
    """Stain profile of an image file: PNG, JPEG, TIFF and the like, a region of a slide.

    Parameters
    ----------
    path
        The image.
    method
        "vahadane" or "macenko", the one with which slides are fitted.

    Raises
    ------
    UsageError
        It cannot be read, or has no two stains.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.size[0] * image.size[1] > _MAX_PIXELS:
                raise UsageError(
                    f"{path} is too large for a stain target; cut a region of a few thousand "
                    "pixels out of it."
                )
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is no image; give a PNG, JPEG or TIFF as --target.") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's, for damaged files
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise UsageError(
            f"{path} cannot be read ({reason}); give an image of H&E as --target."
        ) from error
    flat = pixels.reshape(-1, 1, 3)
    white = glass_colour(flat, np.ones(flat.shape[:2], bool))
    try:
        return fit_profile(pixels, method, white=white)
    except StainError as error:
        raise UsageError(
            f"{path} cannot be a stain target ({str(error).rstrip('.')}); give an image of evenly "
            "stained H&E."
        ) from error
