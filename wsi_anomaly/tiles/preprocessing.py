"""What happens to pixels between the slide and the detector; it travels with the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.core.errors import NoTissueError, StainError, TileStoreError
from wsi_anomaly.options.tile import ENGINES, STAINS
from wsi_anomaly.slides import PEN, TISSUE, UNREADABLE, ReadError, Slide, TissueMap
from wsi_anomaly.stain import (
    StainNormalizer,
    StainProfile,
    fit_profile,
    reference_target,
)

VERSION = 1

_SAMPLE_MPP = 0.5
_SAMPLE_PATCHES = 160
_SAMPLE_SIDE_PX = 48
_MIN_SAMPLED = 2_000


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become tiles, the same for training and scoring.

    Attributes
    ----------
    stain
        "vahadane" (default), "macenko", or "none".
    target
        Stain profile that every slide is brought to; None with ``stain="none"``.
    min_tissue
        Least share of tissue of a field.
    engine
        "native", or "staintools" to have StainTools fit and normalise.
    per_tile
        Fit the stains of every tile by itself, as the DPA paper did, rather than once per slide.
        A tile in which two stains cannot be told apart gets those of its slide.
    match_maxima
        False: change the stain vectors only, not the strength (as the DPA paper did).
    version
        Raised whenever the same slide would give other pixels.
    """

    stain: str = "vahadane"
    target: StainProfile | None = field(default_factory=reference_target)
    min_tissue: float = 0.5
    engine: str = "native"
    per_tile: bool = False
    match_maxima: bool = True
    version: int = VERSION

    def __post_init__(self) -> None:
        for asked, known, what in (
            (self.stain, STAINS, "method"),
            (self.engine, ENGINES, "engine"),
        ):
            if asked not in known:
                raise TileStoreError(
                    f"The stain {what} {asked!r} is unknown; there are {', '.join(known)}."
                )
        if self.stain == "none":
            for name, value in (
                ("target", None),
                ("engine", "native"),
                ("per_tile", False),
                ("match_maxima", True),
            ):
                object.__setattr__(self, name, value)
        elif self.target is None:
            raise TileStoreError("Stain normalisation needs a target profile.")

    @property
    def is_pixelwise(self) -> bool:
        """Whether a pixel comes out the same whatever is round it, and quickly: for planes."""
        return self.engine == "native" and not self.per_tile

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "stain": self.stain,
            "target": None if self.target is None else self.target.to_dict(),
            "min_tissue": self.min_tissue,
            "engine": self.engine,
            "per_tile": self.per_tile,
            "match_maxima": self.match_maxima,
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave.

        Raises
        ------
        TileStoreError, StainError
            It is something else, or of a version that this program does not repeat.
        """
        try:
            version = int(value["version"])
            if version != VERSION:
                raise TileStoreError(
                    f"Preprocessing of version {version} cannot be repeated by this program "
                    f"(version {VERSION}); tile and train again, or install the version of "
                    "wsi-anomaly that made it."
                )
            target = value["target"]
            return cls(
                str(value["stain"]),
                None if target is None else StainProfile.from_dict(target),
                float(value["min_tissue"]),
                str(value["engine"]),
                bool(value["per_tile"]),
                bool(value["match_maxima"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TileStoreError(f"This is no preprocessing: {error}.") from error

    def for_slide(self, slide: Slide, tissue: TissueMap) -> SlidePreprocessor:
        """Fit what is particular to one slide: its stain profile, from a seeded sample of tissue.

        Raises
        ------
        NoTissueError
            There is none.
        StainError
            Its stains cannot be told apart.
        UsageError
            The engine is not installed.
        """
        if self.stain == "none":
            return SlidePreprocessor(self, None, _doubt(slide, tissue))
        try:
            profile = self.fit(sample_tissue(slide, tissue), tissue.white)
        except StainError as error:
            raise StainError(
                f"{slide.path} has no two stains to normalise ({str(error).rstrip('.')}); if it is "
                "no H&E slide leave it out, or use --stain none."
            ) from error
        usual = self.stain == "vahadane" and self.engine == "native"
        doubt = profile.doubt if usual else _doubt(slide, tissue)
        return SlidePreprocessor(self, profile, doubt)

    def fit(self, pixels: NDArray[np.uint8], white: ArrayLike) -> StainProfile:
        """Stain profile of pixels (..., 3) on glass of this intensity (StainTools: on white).

        Raises
        ------
        StainError
            Its stains cannot be told apart.
        """
        if self.engine == "staintools":
            from wsi_anomaly.stain.staintools_engine import fit_staintools

            return fit_staintools(pixels, self.stain)
        return fit_profile(pixels, self.stain, white=white)

    def normalizer(self, source: StainProfile) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
        """Map pixels (H, W, 3) of these stains to those of the target."""
        if self.target is None:
            raise TileStoreError("Stain normalisation needs a target profile.")
        if self.engine == "staintools":
            from wsi_anomaly.stain.staintools_engine import StainToolsNormalizer

            return StainToolsNormalizer(source, self.target, match_maxima=self.match_maxima)
        return StainNormalizer(source, self.target, match_maxima=self.match_maxima)


class SlidePreprocessor:
    """Turns raw pixels of one slide into what detectors see.

    Attributes
    ----------
    stain
        The slide's own stain profile, or None when stains are left alone.
    doubt
        A sentence where the slide's colours cannot be H&E; "" where they can.
    """

    def __init__(
        self, preprocessing: Preprocessing, stain: StainProfile | None, doubt: str = ""
    ) -> None:
        self._preprocessing, self.stain, self.doubt = preprocessing, stain, doubt
        self._normalize = None if stain is None else preprocessing.normalizer(stain)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels (..., 3) uint8 in, the same shape out; with `per_tile` tiles (..., s, s, 3)."""
        if self._normalize is None:
            return rgb
        if not self._preprocessing.per_tile:
            return self._normalize(rgb)
        tiles = rgb.reshape(-1, *rgb.shape[-3:])
        return np.stack([self._tile(tile) for tile in tiles]).reshape(rgb.shape)

    def _tile(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert self.stain is not None
        assert self._normalize is not None
        try:
            stain = self._preprocessing.fit(tile, self.stain.white)
        except StainError:
            return self._normalize(tile)
        return self._preprocessing.normalizer(stain)(tile)


def _doubt(slide: Slide, tissue: TissueMap) -> str:
    """Fit stains for :attr:`StainProfile.doubt` alone; what cannot be fitted is not doubted."""
    try:
        return fit_profile(sample_tissue(slide, tissue), white=tissue.white).doubt
    except (NoTissueError, StainError):
        return ""


def sample_tissue(slide: Slide, tissue: TissueMap) -> NDArray[np.uint8]:
    """Pixels of small patches all over the tissue, the same ones each time.

    Returns
    -------
    (N, 3) uint8 at 0.5 um a pixel, or at the slide's finest if that is coarser.

    Raises
    ------
    NoTissueError
        There is no tissue, or it cannot be read.
    """
    rows, columns = np.nonzero(tissue.labels == TISSUE)
    if not len(rows) and (tissue.labels == UNREADABLE).any():
        raise NoTissueError(f"The tissue of {slide.path} cannot be read; copy the file again.")
    if not len(rows) and (tissue.labels == PEN).any():
        raise NoTissueError(
            f"No tissue was found on {slide.path}, only colours of ink; look at it: where "
            "colours are swapped it must be converted again, where there is ink alone be left out."
        )
    if not len(rows):
        raise NoTissueError(
            f"No tissue was found on {slide.path}; look at it, and leave it out if it is empty."
        )
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(rows), min(len(rows), _SAMPLE_PATCHES), replace=False)
    mpp = max(_SAMPLE_MPP, slide.finest_mpp)
    half = _SAMPLE_SIDE_PX / 2 * mpp
    patches = []
    for k in np.sort(chosen):
        x = tissue.origin[0] + (columns[k] + 0.5) * tissue.downsample[0] - half / slide.mpp.x
        y = tissue.origin[1] + (rows[k] + 0.5) * tissue.downsample[1] - half / slide.mpp.y
        try:
            region = slide.read(x, y, (_SAMPLE_SIDE_PX, _SAMPLE_SIDE_PX), mpp)
        except ReadError:
            continue
        pixels = region.rgb if region.coverage is None else region.rgb[region.coverage]
        patches.append(pixels.reshape(-1, 3))
    if sum(len(patch) for patch in patches) < _MIN_SAMPLED:
        raise NoTissueError(f"The tissue of {slide.path} cannot be read; copy the file again.")
    return np.concatenate(patches)
