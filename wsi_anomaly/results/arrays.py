"""Score maps as data: ``scores.zarr`` (OME-NGFF 0.4) and ``heatmap.ome.tif``."""

from __future__ import annotations

import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.files import atomic_file, atomic_folder
from wsi_anomaly.scoring import ScoreMap
from wsi_anomaly.tiles import Status

_NAMESPACE = uuid.UUID("f1c3b5f0-0d8e-5b3a-9a55-3b1f6a0f6d1c")
_CHUNK = 512
_SMALLEST_LEVEL = 128


def pyramid(grid: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Halve a map (H, W) by the mean of its known pixels until it is small; NaN for none."""
    levels = [grid]
    while max(levels[-1].shape) > _SMALLEST_LEVEL:
        last = levels[-1]
        padded = np.pad(
            last,
            [(0, n % 2) for n in last.shape],
            constant_values=np.nan,
        )
        blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
        known = np.isfinite(blocks)
        count = known.sum((1, 3))
        total = np.where(known, blocks, 0).sum((1, 3))
        with np.errstate(invalid="ignore"):
            levels.append(np.where(count > 0, total / count, np.nan).astype(np.float32))
    return levels


def _center_um(score_map: ScoreMap) -> tuple[float, float]:
    """Centre (y, x) of the grid's first field, micrometres from the file's origin."""
    f, mpp = score_map.fields, score_map.slide.mpp
    return (
        (f.origin[1] + f.field_level0[1] / 2) * mpp.y,
        (f.origin[0] + f.field_level0[0] / 2) * mpp.x,
    )


def _stride_um(score_map: ScoreMap) -> tuple[float, float]:
    f, mpp = score_map.fields, score_map.slide.mpp
    return f.stride_level0[1] * mpp.y, f.stride_level0[0] * mpp.x


def multiscales(score_map: ScoreMap, levels: int) -> list[dict[str, Any]]:
    """OME-NGFF 0.4 metadata: a pixel of the map is one stride, its position that of its centre."""
    stride, center = _stride_um(score_map), _center_um(score_map)
    datasets = []
    for k in range(levels):
        size = 2**k
        # The centre of a pixel of level k lies (size - 1) / 2 strides further in.
        shift = [c + (size - 1) / 2 * s for c, s in zip(center, stride, strict=True)]
        datasets.append(
            {
                "path": str(k),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [s * size for s in stride]},
                    {"type": "translation", "translation": shift},
                ],
            }
        )
    return [
        {
            "version": "0.4",
            "name": f"anomaly score ({score_map.primary})",
            "axes": [
                {"name": "y", "type": "space", "unit": "micrometer"},
                {"name": "x", "type": "space", "unit": "micrometer"},
            ],
            "datasets": datasets,
            "type": "mean",
        }
    ]


def write_zarr(path: str | Path, score_map: ScoreMap) -> None:
    """Write ``scores.zarr``: the map as multiscales, and every field in the subgroup ``tiles``.

    Zarr format 2. The map holds the raw scores of the primary method, NaN where nothing was
    assessed; ``tiles`` holds, per field, ``coords`` (level-0 top left), ``row``, ``col``,
    ``status``, ``tissue_fraction``, ``scores/<method>``, ``smoothed``, ``flagged``, ``taken_away``
    where regions were, and, when the model is calibrated, ``percentile``, ``z`` and ``p_value``.
    With ``--pixel-map`` the subgroup ``pixel_maps`` holds ``field`` (k,), indices into ``tiles``,
    ``map`` (k, S, S), the error at each pixel, and ``tile`` (k, S, S, 3), what the model saw.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    import zarr

    def put(group: Any, name: str, data: NDArray[Any], chunk: int, **attributes: Any) -> None:
        array = group.create_array(
            name,
            shape=data.shape,
            dtype=data.dtype,
            chunks=tuple(max(1, min(n, chunk)) for n in data.shape),
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=np.nan if data.dtype.kind == "f" else 0,
        )
        array[...] = data
        array.attrs.update(attributes)

    levels = pyramid(score_map.grid(score_map.score))
    found = score_map.interpretation
    with atomic_folder(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        root = zarr.open_group(str(partial), mode="w", zarr_format=2)
        root.attrs["multiscales"] = multiscales(score_map, len(levels))
        for k, level in enumerate(levels):
            put(root, str(k), level, _CHUNK, _ARRAY_DIMENSIONS=["y", "x"])
        tiles = root.create_group("tiles")
        tiles.attrs.update(
            {
                "field_level0": list(score_map.fields.field_level0),
                "stride_level0": list(score_map.fields.stride_level0),
                "origin_level0": list(score_map.fields.origin),
                "grid_shape": list(score_map.fields.grid_shape),
                "mpp": [score_map.slide.mpp.x, score_map.slide.mpp.y],
                "primary": score_map.primary,
                "status_names": {s.name.lower(): int(s) for s in Status},
            }
        )
        taken_away = np.zeros(len(score_map.fields), np.uint8)
        for region, _ in found.taken_away:
            taken_away[region.fields] = 1
        table = {
            "coords": score_map.fields.coords,
            "row": score_map.fields.row,
            "col": score_map.fields.col,
            "tissue_fraction": score_map.fields.tissue_fraction,
            "status": score_map.status,
            "smoothed": found.smoothed,
            "flagged": found.flagged.astype(np.uint8),
            "taken_away": taken_away if found.taken_away else None,
            "percentile": found.percentile,
            "z": found.z,
            "p_value": found.p_value,
        }
        for name, values in table.items():
            if values is not None:
                put(tiles, name, np.asarray(values), 65536)
        scores = tiles.create_group("scores")
        for method, raw in score_map.scores.items():
            put(scores, method, raw, 65536)
        made = score_map.pixel_maps
        if made is not None and score_map.settings.get("pixel_map"):
            maps = root.create_group("pixel_maps")
            put(maps, "field", made.fields, 65536)
            put(maps, "map", made.maps, 64)
            put(maps, "tile", made.tiles, 64)


def write_ome_tiff(path: str | Path, score_map: ScoreMap) -> None:
    """Write ``heatmap.ome.tif``: float32 raw scores, pyramidal, with the physical pixel size.

    Open it in QuPath as an image of its own; NaN where nothing was assessed.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import tifffile

    levels = pyramid(score_map.grid(score_map.score))
    stride, center = _stride_um(score_map), _center_um(score_map)
    numbers = levels[0].tobytes().hex()
    metadata = {
        "axes": "YX",
        # Of the content, so that the same result gives the same bytes.
        "UUID": uuid.uuid5(_NAMESPACE, f"{score_map.slide.fingerprint} {numbers}").urn,
        "Name": f"{score_map.slide.name} anomaly score ({score_map.primary})",
        "PhysicalSizeX": stride[1],
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": stride[0],
        "PhysicalSizeYUnit": "µm",
        "Plane": {
            "PositionX": [center[1]],
            "PositionXUnit": ["µm"],
            "PositionY": [center[0]],
            "PositionYUnit": ["µm"],
        },
    }
    options: dict[str, Any] = {
        "photometric": "minisblack",
        "tile": (256, 256),
        "compression": "zlib",
        "resolutionunit": "CENTIMETER",
    }
    with atomic_file(path) as partial, tifffile.TiffWriter(partial, bigtiff=False, ome=True) as tif:
        for k, level in enumerate(levels):
            resolution = (1e4 / (stride[1] * 2**k), 1e4 / (stride[0] * 2**k))
            if k == 0:
                tif.write(
                    level, subifds=len(levels) - 1, metadata=metadata, resolution=resolution,
                    **options,
                )  # fmt: skip
            else:
                tif.write(level, subfiletype=1, resolution=resolution, metadata=None, **options)
