"""The demo's slides, fixed beforehand.

Imports little: the processes that draw slides start with this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from wsi_anomaly.core.files import config_hash, write_text
from wsi_anomaly.synthetic import GENERATOR_VERSION, make_slide
from wsi_anomaly.synthetic.lesions import Difficulty

_MPP = 0.5
_MARK = ".made"


@dataclass(frozen=True)
class DemoSlide:
    """One slide of the demo."""

    folder: str
    name: str
    seed: int
    lesions: Difficulty | None = None
    folds: int = 0
    pens: int = 0
    size_px: tuple[int, int] = (3400, 3400)


SLIDES: tuple[DemoSlide, ...] = (
    *(DemoSlide("normal", f"normal_{i:02d}", 100 + i, None, i % 2, 0) for i in range(1, 21)),
    *(DemoSlide("new", f"unseen_normal_{i}", 500 + i, None, i % 2, i // 4) for i in range(1, 5)),
    *(DemoSlide("new", f"unseen_lesion_{i}", 600 + i, "medium", 0, i // 6) for i in range(1, 7)),
)
"""20 normal slides to learn from; 4 normal and 6 with lesions that nobody has seen."""


def slide_path(folder: Path, slide: DemoSlide) -> Path:
    """Where a slide of the demo lies."""
    return folder / "slides" / slide.folder / f"{slide.name}.tif"


def outlines_path(folder: Path, slide: DemoSlide) -> Path:
    """Where the outlines of its lesions lie."""
    return folder / "outlines" / f"{slide.name}.geojson"


def make_slides(slides: Sequence[DemoSlide], folder: Path, *, workers: int) -> Iterator[DemoSlide]:
    """Make the slides that are not there yet, in processes of their own; yields each when done.

    Raises
    ------
    OutputError
        They cannot be written.
    """
    missing = [slide for slide in slides if not _is_made(folder, slide)]
    if not missing:
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
        try:
            futures = {pool.submit(_make, folder, slide): slide for slide in missing}
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            pool.shutdown(cancel_futures=True)


def count_missing(slides: Sequence[DemoSlide], folder: Path) -> int:
    """How many slides are still to be made."""
    return sum(not _is_made(folder, slide) for slide in slides)


def _make(folder: Path, slide: DemoSlide) -> None:
    make_slide(
        slide_path(folder, slide),
        seed=slide.seed,
        size_px=slide.size_px,
        mpp=_MPP,
        lesions=slide.lesions,
        folds=slide.folds,
        pens=slide.pens,
        outlines_path=outlines_path(folder, slide),
    )
    write_text(_mark(folder, slide), _identity(slide))


def _mark(folder: Path, slide: DemoSlide) -> Path:
    return outlines_path(folder, slide).with_suffix(_MARK)


def _identity(slide: DemoSlide) -> str:
    return config_hash({"generator": GENERATOR_VERSION, "slide": repr(slide), "mpp": _MPP})


def _is_made(folder: Path, slide: DemoSlide) -> bool:
    mark = _mark(folder, slide)
    files = (slide_path(folder, slide), outlines_path(folder, slide), mark)
    return all(map(os.path.isfile, files)) and mark.read_text(encoding="utf-8") == _identity(slide)
