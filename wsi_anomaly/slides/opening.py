"""Find slides and open them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsi_anomaly.core.errors import NotASlideError, UsageError
from wsi_anomaly.slides.base import Mpp, Slide
from wsi_anomaly.slides.openslide_backend import OpenSlideSlide

SLIDE_SUFFIXES = frozenset(
    {
        ".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif",
        ".czi", ".dcm",
    }
)  # fmt: skip


def open_slide(path: str | Path, *, mpp: float | None = None, require_mpp: bool = True) -> Slide:
    """Open a slide.

    Parameters
    ----------
    path
        The file.
    mpp
        Micrometres per level-0 pixel, when the file is wrong about it or does not say.
    require_mpp
        False to look at a slide whose pixel size nobody knows; its ``mpp`` then raises.

    Raises
    ------
    NotASlideError
        No backend can open it.
    MissingMppError
        Nothing says how large a pixel is.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder, not a slide" if path.is_dir() else "does not exist"
        raise NotASlideError(f"{path} {kind}; give the path of a slide.")
    slide = OpenSlideSlide(path, mpp=mpp)
    if require_mpp:
        try:
            _ = slide.mpp
        except Exception:
            slide.close()
            raise
    return slide


def reopen(path: str, backend: str, mpp: Mpp | None) -> Slide:
    """Open the same file again the same way: how a slide travels between processes."""
    return OpenSlideSlide(Path(path), mpp=mpp)


def find_slides(paths: Iterable[str | Path]) -> list[Path]:
    """Slides among files and folders: folders are searched, a file is taken as it is.

    Returns
    -------
    Sorted, each once.

    Raises
    ------
    UsageError
        A path does not exist, or there is no slide at all.
    """
    places = [Path(path) for path in paths]
    found: dict[Path, Path] = {}
    for path in places:
        if path.is_dir():
            files = [
                file
                for file in path.rglob("*")
                if file.suffix.lower() in SLIDE_SUFFIXES
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
                and file.is_file()
            ]
        elif path.exists():
            files = [path]
        else:
            raise UsageError(f"{path} does not exist; give slides or folders of slides.")
        for file in files:
            found.setdefault(file.resolve(), file)
    if not found:
        names = ", ".join(str(path) for path in places) or "nothing"
        raise UsageError(f"No slide in {names}; slides end in {' '.join(sorted(SLIDE_SUFFIXES))}.")
    return sorted(found.values())
