"""How each rival reads the same fields, and the file that all of them write.

A way takes a job and returns a function that reads and writes all its tiles once. Runs in every
peer's environment; a peer is imported by its own way only.

Job: ``slide``, ``fields`` (an .npy of (N, 2) level-0 corners), ``out``, ``mpp`` (of the tiles),
``slide_mpp``, ``tile_px``, ``level``, ``downsample`` (of that level), ``read_px`` (a tile's side
on it), ``magnification``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

Job = dict[str, Any]
Tile = tuple[int, np.ndarray]
Run = Callable[[], dict[str, Any]]

_BATCH = 256


def _write(job: Job, tiles: Iterable[Tile]) -> dict[str, Any]:
    """Write tiles, as they come, into a contiguous HDF5 array, the cheapest file there is.

    Synced, as ours is.
    """
    import h5py

    side, count = job["tile_px"], 0
    n = len(np.load(job["fields"]))
    with h5py.File(job["out"], "w") as file:
        images = file.create_dataset("images", (n, side, side, 3), np.uint8)
        batch, start = np.empty((_BATCH, side, side, 3), np.uint8), 0
        order = np.empty(n, np.int64)
        for index, tile in tiles:
            batch[count - start] = tile
            order[count] = index
            count += 1
            if count - start == _BATCH:
                images[start:count] = batch
                start = count
        images[start:count] = batch[: count - start]
        file["index"] = order
        file.flush()
    with open(job["out"], "rb") as written:
        os.fsync(written.fileno())
    return {"tiles": count, "side": side}


def _resized(job: Job, tile: Any) -> np.ndarray:
    """Bring what a peer read on a level to the size asked for, as hs2p itself does."""
    from PIL import Image

    side = (job["tile_px"], job["tile_px"])
    if tile.shape[:2] == side:
        return tile
    return np.asarray(Image.fromarray(tile).resize(side, Image.Resampling.BILINEAR))


def _hs2p(job: Job, backend: str) -> Run:
    from hs2p.wsi import iter_tile_records_from_result

    fields = np.load(job["fields"])
    step = int(job["step_level0"])
    result = SimpleNamespace(
        image_path=Path(job["slide"]), backend=backend, base_spacing_um=job["slide_mpp"],
        x=fields[:, 0], y=fields[:, 1], num_tiles=len(fields), overlap=0.0, step_px_lv0=step,
        read_level=job["level"], read_tile_size_px=job["read_px"], tile_size_lv0=step,
        level_downsamples=job["level_downsamples"],
    )  # fmt: skip

    def tiles() -> Iterator[Tile]:
        for record in iter_tile_records_from_result(result=result):
            yield record.tile_index, _resized(job, record.tile_arr[..., :3])

    return lambda: _write(job, tiles())


def hs2p_tifffile(job: Job) -> Run:
    """hs2p's super-tiles on its tifffile reader."""
    return _hs2p(job, "tifffile")


def hs2p_openslide(job: Job) -> Run:
    """hs2p's super-tiles on OpenSlide, its default reader."""
    return _hs2p(job, "openslide")


def tiatoolbox(job: Job) -> Run:
    """TIAToolbox: ``read_rect``, which its patch extractors call for each patch."""
    from tiatoolbox.wsicore.wsireader import WSIReader

    fields = np.load(job["fields"])
    size = (job["tile_px"], job["tile_px"])

    def tiles() -> Iterator[Tile]:
        reader = WSIReader.open(job["slide"], mpp=(job["slide_mpp"],) * 2)
        for index, (x, y) in enumerate(fields.tolist()):
            yield index, reader.read_rect((x, y), size, resolution=job["mpp"], units="mpp")

    return lambda: _write(job, tiles())


def histolab(job: Job) -> Run:
    """histolab: ``extract_tile``, which its tilers call for each tile; no tissue check."""
    from histolab.slide import Slide
    from histolab.types import CoordinatePair

    fields = np.load(job["fields"])
    read, span = job["read_px"], int(job["read_px"] * job["downsample"])

    def tiles() -> Iterator[Tile]:
        slide = Slide(job["slide"], str(Path(job["out"]).parent))
        for index, (x, y) in enumerate(fields.tolist()):
            # Its check takes a corner on the slide's edge for outside.
            corner = min(x + span, slide.dimensions[0] - 1), min(y + span, slide.dimensions[1] - 1)
            tile = slide.extract_tile(CoordinatePair(x, y, *corner), (read, read), job["level"])
            yield index, _resized(job, np.asarray(tile.image.convert("RGB")))

    return lambda: _write(job, tiles())


def _lazyslide(job: Job, reader: str) -> Run:
    from wsidata import TileSpec, open_wsi
    from wsidata.io import add_tiles

    fields = np.load(job["fields"])

    def tiles() -> Iterator[Tile]:
        slide = open_wsi(job["slide"], store=None, reader=reader)
        spec = TileSpec.from_wsidata(
            slide, job["tile_px"], mpp=job["mpp"], slide_mpp=job["slide_mpp"]
        )
        add_tiles(slide, "tiles", fields, spec, np.zeros(len(fields), int))
        for index, tile in enumerate(slide.iter.tile_images("tiles")):
            yield index, tile.image

    return lambda: _write(job, tiles())


def lazyslide(job: Job) -> Run:
    """LazySlide: the tiles of wsidata's iterator, on OpenSlide."""
    return _lazyslide(job, "openslide")


def lazyslide_fastslide(job: Job) -> Run:
    """LazySlide on its fastslide reader."""
    return _lazyslide(job, "fastslide")


def fastslide(job: Job) -> Run:
    """fastslide: ``read_region`` for each tile, in pixels of the level."""
    from fastslide import FastSlide

    corners = np.round(np.load(job["fields"]) / job["downsample"]).astype(int).tolist()
    size = (job["read_px"], job["read_px"])

    def tiles() -> Iterator[Tile]:
        slide = FastSlide.from_file_path(job["slide"])
        for index, (x, y) in enumerate(corners):
            tile = slide.read_region((x, y), job["level"], size).numpy()
            yield index, _resized(job, tile[..., :3])

    return lambda: _write(job, tiles())


def wsi_patching(job: Job) -> Run:
    """wsi-patching: the reading function of its pipeline, which lays a grid of its own."""
    from wsi_patching.backends.fastslide import read_region

    corners, side = np.load(job["fields"]).tolist(), job["read_px"]

    def tiles() -> Iterator[Tile]:
        for index, (x, y) in enumerate(corners):
            tile = np.asarray(read_region(job["slide"], x, y, side, side, job["level"]))
            yield index, _resized(job, tile[..., :3])

    return lambda: _write(job, tiles())


def eozin(job: Job) -> Run:
    """eozin: ``read_region`` for each tile."""
    from eozin import Eozin

    corners, size = np.load(job["fields"]).tolist(), (job["read_px"], job["read_px"])

    def tiles() -> Iterator[Tile]:
        slide = Eozin(job["slide"])
        for index, (x, y) in enumerate(corners):
            tile = slide.read_region((x, y), job["level"], size)
            yield index, _resized(job, np.asarray(tile)[..., :3])

    return lambda: _write(job, tiles())


def microtome(job: Job) -> Run:
    """microtome-wsi: all compressed tiles of the level in one call, cut as a caller would."""
    import microtome as reader

    corners = np.round(np.load(job["fields"]) / job["downsample"]).astype(int).tolist()
    side = job["read_px"]

    def tiles() -> Iterator[Tile]:
        slide = reader.open(job["slide"])
        level = slide.levels[job["level"]]
        across, down = level["tile_width"], level["tile_height"]
        columns, rows = level["tiles_across"], level["tiles_down"]
        stored = slide.read_batch(job["level"], threads=1)
        plane = stored.reshape(rows, columns, down, across, 3).swapaxes(1, 2)
        plane = plane.reshape(rows * down, columns * across, 3)
        for index, (x, y) in enumerate(corners):
            yield index, _resized(job, plane[y : y + side, x : x + side])

    return lambda: _write(job, tiles())


def ours(job: Job) -> Run:
    """wsi-anomaly: what ``tile`` does with a slide's fields, its checks and its file included."""
    from wsi_anomaly.slides import find_tissue, open_slide
    from wsi_anomaly.tiles import Status, plan_fields, read_fields
    from wsi_anomaly.tiles.config import TileConfig
    from wsi_anomaly.tiles.writing import tiles_of, write_tiles

    magnification = job["magnification"]
    batch = min(_BATCH, 16_000_000 // (job["tile_px"] ** 2 * 3))  # as tile does
    config = TileConfig(magnifications=(magnification,), max_tiles=None, stain="none")
    with open_slide(job["slide"], mpp=job["slide_mpp"]) as slide:
        fields = plan_fields(
            slide, find_tissue(slide), field_um=64, stride_um=job["step_level0"] * slide.mpp.x
        )
    if not np.array_equal(fields.coords, np.load(job["fields"])):
        raise ValueError("the fields are not those of the job")

    def run() -> dict[str, Any]:
        with open_slide(job["slide"], mpp=job["slide_mpp"]) as slide:
            status = fields.status.copy()
            with write_tiles(
                Path(job["out"]), slide, fields, status, config=config,
                magnifications=(magnification,), stain=None,
                attributes={"fingerprint": "", "case": ""}, planes={},
            ) as writer:  # fmt: skip
                for indices, images, found in read_fields(
                    slide,
                    fields,
                    magnification=magnification,
                    tile_size=job["tile_px"],
                    batch_size=batch,
                ):
                    writer.put(tiles_of(magnification), indices, images)
                    status[indices] = found
        return {
            "tiles": len(fields),
            "side": job["tile_px"],
            "failed": int((status == Status.FAILED).sum()),
        }

    return run


def bare_decode(job: Job) -> Run:
    """Decode each compressed tile that a field touches once, from memory, and keep nothing."""
    import imagecodecs
    import tifffile

    with tifffile.TiffFile(job["slide"]) as tif:
        page = tif.series[0].levels[job["level"]].pages[0]
        columns = -(-page.imagewidth // page.tilewidth)
        corners = np.load(job["fields"]) / job["downsample"]
        ends = corners + job["read_px"]
        size = (page.tilewidth, page.tilelength)
        first = np.floor(corners / size).astype(int)
        last = np.ceil(np.minimum(ends, (page.imagewidth, page.imagelength)) / size).astype(int)
        wanted = {
            row * columns + column
            for (left, top), (right, bottom) in zip(first, last, strict=True)
            for row in range(top, bottom)
            for column in range(left, right)
        }
        data = []
        for index in sorted(wanted):
            tif.filehandle.seek(page.dataoffsets[index])
            data.append(tif.filehandle.read(page.databytecounts[index]))
        tables = page.jpegtables

    def run() -> dict[str, Any]:
        for tile in data:
            imagecodecs.jpeg8_decode(tile, tables=tables)
        return {"compressed_tiles": len(data)}

    return run
