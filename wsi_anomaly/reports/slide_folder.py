"""The results folder of one slide: all files or none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import atomic_file, atomic_folder, output_errors, write_json
from wsi_anomaly.options import Origin
from wsi_anomaly.reports.report import write_report
from wsi_anomaly.reports.reviewed import reviewed_text
from wsi_anomaly.results.arrays import write_ome_tiff, write_zarr
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.geojson import write_geojson
from wsi_anomaly.results.heatmap import write_heatmap_png
from wsi_anomaly.results.qupath_script import PICTURE, SCRIPT, write_qupath_script
from wsi_anomaly.results.raster import overlay_picture, write_qupath_picture
from wsi_anomaly.results.region_file import NAME as REGION_FILE
from wsi_anomaly.results.region_file import write_region_file
from wsi_anomaly.results.summary import build_summary, provenance, result_hash
from wsi_anomaly.results.trail import checksums
from wsi_anomaly.scoring import ScoreMap
from wsi_anomaly.slides import Slide

_PICTURE_PX = 1600
_HEATMAP_FILES = {
    "heatmap": "heatmap.png",
    "heatmap_values": "heatmap.ome.tif",
    "heatmap_for_qupath": PICTURE,
    "qupath_script": SCRIPT,
}
_SMALL_PX = 320


def frame_thumbnail(slide: Slide, frame: Frame, max_px: int = _PICTURE_PX) -> NDArray[np.uint8]:
    """Picture (H, W, 3) of what QuPath shows: the scanned area, or the file with its glass."""
    thumbnail = slide.thumbnail(max_px)
    if frame.origin == "bounds":
        return thumbnail
    bounds = slide.bounds
    scale = thumbnail.shape[1] / bounds.width
    shrink = min(1.0, max_px / (max(frame.width, frame.height) * scale))
    from PIL import Image

    size = (
        max(1, round(frame.width * scale * shrink)),
        max(1, round(frame.height * scale * shrink)),
    )
    part = Image.fromarray(thumbnail).resize(
        (
            max(1, round(bounds.width * scale * shrink)),
            max(1, round(bounds.height * scale * shrink)),
        )
    )
    whole = Image.new("RGB", size, slide.background)
    whole.paste(part, (round(bounds.x * scale * shrink), round(bounds.y * scale * shrink)))
    return np.asarray(whole)


def write_results(
    score_map: ScoreMap,
    slide: Slide,
    folder: str | Path,
    *,
    heatmap: bool = True,
    origin: Origin = "bounds",
    gzip: bool = False,
    when_whole: Callable[[Path], None] = lambda _partial: None,
) -> Path:
    """Write everything that a person opens of one slide.

    ``scores.zarr``, ``overlay.geojson``, ``report.html``, ``thumbnail.jpg`` and, last,
    ``summary.json``; with `heatmap` also ``heatmap.png``, ``heatmap.ome.tif``,
    ``heatmap_qupath.png`` and ``show_heatmap.groovy``. They are made in a partial folder, which
    then takes the place of `folder`.

    Parameters
    ----------
    score_map, slide
        The result and the open slide.
    folder
        ``results/<slide>``; an older result there is replaced as a whole.
    heatmap
        Write the heatmap files too.
    origin
        QuPath's origin: "bounds" (default) or "level0".
    gzip
        Compress the overlay.
    when_whole
        Told where all files lie just before they take their place.

    Returns
    -------
    pathlib.Path
        ``report.html``.

    Raises
    ------
    OutputError
        Something cannot be written; `folder` is as it was.
    """
    folder = Path(folder)
    frame = Frame.of(score_map.slide, origin)
    thumbnail = frame_thumbnail(slide, frame)
    overlay = overlay_picture(score_map, frame, thumbnail)
    alone = None
    if score_map.interpretation.color_range_fixed:
        alone = overlay_picture(score_map, frame, thumbnail, alone=True)
    # The report reads the slide and encodes pictures while the other files are computed.
    with atomic_folder(folder) as partial, ThreadPoolExecutor(1) as beside:
        tiles = write_geojson(
            partial, score_map, frame=frame, gzip=gzip, provenance=provenance(score_map)
        )
        report = beside.submit(
            write_report, partial / "report.html", score_map, slide, thumbnail, overlay, frame,
            alone=alone, geojson=tiles.name, reviewed=_reviewed(score_map, folder.parent),
            result=folder.name,
        )  # fmt: skip
        write_zarr(partial / "scores.zarr", score_map)
        files = {"scores": "scores.zarr", "overlay": tiles.name, "report": "report.html"}
        if score_map.beside is not None:
            write_region_file(partial / REGION_FILE, score_map.beside)
            files["regions"] = REGION_FILE
        if heatmap:
            _write_heatmap(partial, folder, score_map, overlay, frame)
            files |= _HEATMAP_FILES
        _write_thumbnail(partial / "thumbnail.jpg", overlay)
        files["thumbnail"] = "thumbnail.jpg"
        report.result()
        identity = result_hash(
            str(score_map.model["hash"]), score_map.slide.fingerprint, score_map.settings,
            heatmap=heatmap, origin=origin, gzip=gzip,
        )  # fmt: skip
        summary = build_summary(score_map, frame, files, identity)
        with output_errors(partial):
            summary["checksums"] = checksums(partial)
        write_json(partial / "summary.json", summary)
        when_whole(partial)
    return folder / "report.html"


def _write_heatmap(
    partial: Path, folder: Path, score_map: ScoreMap, overlay: NDArray[np.uint8], frame: Frame
) -> None:
    write_heatmap_png(partial / "heatmap.png", score_map, overlay, frame)
    write_ome_tiff(partial / "heatmap.ome.tif", score_map)
    write_qupath_picture(partial / PICTURE, score_map, frame)
    write_qupath_script(partial / SCRIPT, folder / PICTURE)


def _reviewed(score_map: ScoreMap, results: Path) -> str:
    """Say what was reviewed of the slide before; reviews that cannot be read stop no scoring."""
    outlines = [region.outline for region in score_map.interpretation.regions]
    try:
        return reviewed_text(results, score_map.slide.fingerprint, outlines)
    except OutputError as error:
        return str(error)


def _write_thumbnail(path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image

    small = Image.fromarray(picture)
    small.thumbnail((_SMALL_PX, _SMALL_PX), Image.Resampling.LANCZOS)
    with atomic_file(path) as file:
        small.save(file, "JPEG", quality=85)
