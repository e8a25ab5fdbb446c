"""Open slides."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from wsi_anomaly.core import journal
from wsi_anomaly.core.errors import NotASlideError, UsageError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.remote import is_remote, url_of
from wsi_anomaly.slides.base import READERS, ReadError, Slide, make_slide
from wsi_anomaly.slides.dicom import read_dicom
from wsi_anomaly.slides.tiff_pictures import CONVERT
from wsi_anomaly.slides.tiff_structure import LayoutError
from wsi_anomaly.slides.timeout import HangingError, read_timeout, within

SLIDE_SUFFIXES = frozenset(
    {
        ".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif",
        ".czi", ".dcm", ".dzi",
    }
)  # fmt: skip

_INDEX_SUFFIXES = frozenset({".mrxs", ".vms", ".vmu"})  # small texts beside the pixels
AUTO, OPENSLIDE, TIFF, DEEPZOOM, CZI = "auto", "openslide", "tiff", "deepzoom", "czi"
_TIFF_MAGIC = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})


def open_slide(
    path: str | Path,
    *,
    mpp: float | None = None,
    require_mpp: bool = True,
    backend: str = "auto",
    scene: int | None = None,
) -> Slide:
    """Open a slide.

    Parameters
    ----------
    path
        The file, or an address that fsspec opens (s3://..., https://...; TIFF family and DeepZoom).
    mpp
        Micrometres per level-0 pixel, when the file is wrong about it or does not say.
    require_mpp
        False to look at a slide whose pixel size nobody knows; its ``mpp`` then raises.
    backend
        "tiff" decodes the tiles of a TIFF directly, "openslide" reads through OpenSlide; "auto"
        takes the first wherever it knows the layout, since it is several times faster, and a
        reader of another package for files with its suffix. Or the name of such a reader.
    scene
        Which of several images of a file is the slide, from 1; None: the largest.

    Raises
    ------
    NotASlideError
        No backend can open it.
    SlideError
        Its decoder has ended the process of this command.
    PluginError
        The package that brings the reader is broken.
    MissingMppError
        Nothing says how large a pixel is.
    """
    path = Path(path)
    if backend != AUTO and backend not in READERS:
        known = dict.fromkeys((AUTO, *READERS.names(), *READERS.foreign()))
        raise UsageError(f"Backends are {', '.join(known)}, not {backend!r}.")
    if not is_remote(path) and not path.is_file():
        kind = "is a folder, not a slide" if path.is_dir() else "does not exist"
        raise NotASlideError(f"{path} {kind}; give the path of a slide.")
    if not is_remote(path) and path.stat().st_size == 0:
        raise NotASlideError(f"{path} is empty; copy it again or leave it out.")
    with journal.opening(path):
        slide = _opened(path, mpp, backend, scene)
        if require_mpp:
            try:
                _ = slide.mpp
            except Exception:
                slide.close()
                raise
    return slide


def _opened(path: Path, mpp: float | None, backend: str, scene: int | None) -> Slide:
    seconds = read_timeout()
    try:
        slide = within(seconds, lambda: _open(path, backend, mpp, scene))
    except HangingError as error:
        raise NotASlideError(
            f"{path} does not answer (it could not be opened within {seconds:g} s); check its disk "
            "or network and run the same command again."
        ) from error
    if backend == AUTO and slide.backend == TIFF and scene is None and not is_remote(path):
        with contextlib.suppress(HangingError):  # the first read will say so
            slide = within(seconds, lambda: _by_openslide_if_only_it_can(slide, mpp))
    return slide


def _open(path: Path, backend: str, mpp: float | None, scene: int | None) -> Slide:
    remote = is_remote(path)
    if backend == AUTO:
        backend = DEEPZOOM if is_deepzoom(path) else reader_by_suffix(path) or AUTO
    if remote and backend == OPENSLIDE:
        raise UsageError(f"OpenSlide opens files of this machine only, not {url_of(path)}.")
    if backend == AUTO and not remote and not _is_tiff(path):
        if path.suffix.lower() == ".czi":
            return _open_czi(path, mpp, scene)
        backend = OPENSLIDE
    if backend not in (AUTO, TIFF):
        return make_slide(backend, path, mpp, scene)
    try:
        return make_slide(TIFF, path, mpp, scene)
    except LayoutError as error:
        reason = str(error)
    if backend == TIFF or remote:
        raise NotASlideError(
            f"{url_of(path) if remote else path} cannot be read tile by tile: {reason}; "
            + ("copy it to this machine." if remote else "leave the backend to be chosen.")
        )
    try:
        return make_slide(OPENSLIDE, path, mpp, scene)
    except NotASlideError as error:
        raise NotASlideError(
            f"{path} is a TIFF that neither reader takes: {reason}; {CONVERT}."
        ) from error


def _open_czi(path: Path, mpp: float | None, scene: int | None) -> Slide:
    """Ask OpenSlide, which shows all scenes as they lie; it knows none of them, and no planes."""
    if scene is None:
        with contextlib.suppress(NotASlideError):
            return make_slide(OPENSLIDE, path, mpp)
    return make_slide(CZI, path, mpp, scene)


def _by_openslide_if_only_it_can(tiff_slide: Any, mpp: float | None) -> Slide:
    """Ask OpenSlide before a slide is given up whose tiles we cannot decode, none of them."""
    slide: Slide = tiff_slide
    corners = tiff_slide.unknown_coding()
    if not corners:
        return slide
    try:
        other = make_slide(OPENSLIDE, slide.path, mpp)
    except NotASlideError:
        return slide
    if (other.width, other.height) == (slide.width, slide.height):
        for x, y in corners:
            with contextlib.suppress(ReadError):
                other.read_level(0, x, y, 16, 16)
                slide.close()
                return other
    other.close()
    return slide


def reader_by_suffix(path: Path) -> str | None:
    """Name of another package's reader for files with this suffix, if it is none of ours."""
    suffix = path.suffix.lower()
    if not suffix or suffix in SLIDE_SUFFIXES:
        return None
    others = (name for name in READERS.foreign() if READERS.package(name))
    return next((name for name in others if suffix in READERS.get(name).suffixes), None)


def slide_fingerprint(path: str | Path) -> str:
    """Identity of a slide by its content: 16 hexadecimal digits; see :func:`fingerprint`.

    Raises
    ------
    OSError, NotASlideError
        It cannot be read.
    """
    path = Path(path)
    if is_deepzoom(path):
        from wsi_anomaly.slides.deepzoom_backend import deepzoom_fingerprint

        return deepzoom_fingerprint(path)
    if path.suffix.lower() in _INDEX_SUFFIXES and (mark := _quickhash(path)):
        return mark
    if may_be_dicom(path) and (dicom := read_dicom(path)) is not None:
        return dicom.fingerprint
    return fingerprint(path)


def _quickhash(path: Path) -> str | None:
    """OpenSlide's identity of a slide whose pixels lie in other files than its own."""
    import openslide

    try:
        with journal.opening(path), openslide.OpenSlide(path) as slide:
            mark = str(slide.properties["openslide.quickhash-1"])[:16]
    except (openslide.OpenSlideError, OSError, KeyError):
        return None
    journal.closed(path)
    return mark


def is_deepzoom(path: Path) -> bool:
    """Whether a path is the description of a DeepZoom tree, whose pixels lie in other files."""
    return path.suffix.lower() == ".dzi"


def _is_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in _TIFF_MAGIC
    except OSError as error:
        raise NotASlideError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions."
        ) from error


def may_be_dicom(file: Path) -> bool:
    """Whether a file could be DICOM by its name."""
    suffix = file.suffix.lower()
    return suffix == ".dcm" or suffix not in SLIDE_SUFFIXES
