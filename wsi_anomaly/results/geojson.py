"""``overlay.geojson``: tiles and annotations that QuPath 0.4 to 0.7 opens.

Tiles carry the measurements (grids of hundreds of thousands are fine as tiles), annotations the
tissue outline, the merged anomalous regions and what was not assessed. Tiles are written from a
template as a stream: a million take seconds and no memory.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.annotations import geojson_geometry
from wsi_anomaly.annotations.qupath import CORNER, FACTS
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.results.colors import (
    ANOMALOUS,
    NOT_ASSESSED,
    TAKEN_AWAY,
    TILE_CLASSES,
    TISSUE,
    TileClass,
    tile_classes,
)
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.scoring import ScoreMap, union_of_fields
from wsi_anomaly.slides.overview import MAP_MPP
from wsi_anomaly.tiles import Status

GZIP_ABOVE = 100_000
NAMESPACE = uuid.UUID("0b6a4f0e-3d0c-5b52-8a53-6a3f5f6c9d21")

_CHUNK = 8192
_MOST_CORNERS = 20_000  # of the tissue: QuPath takes two seconds
_PLACES = 12  # values of a tile before its measurements
_MOST_ANNOTATIONS = 300  # per class: QuPath is slow with more; the rest is joined into one object


def write_geojson(
    folder: str | os.PathLike[str],
    score_map: ScoreMap,
    *,
    frame: Frame | None = None,
    gzip: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``overlay.geojson``, or ``overlay.geojson.gz`` if asked or above 100,000 fields.

    Parameters
    ----------
    folder
        Where the file goes.
    score_map
        The scored slide.
    frame
        QuPath's frame; by default the slide's bounds.
    gzip
        Compress.
    provenance
        Facts kept under ``wsi_anomaly`` at the top of the file, where QuPath ignores them.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    frame = frame or Frame.of(score_map.slide)
    compress = gzip or len(score_map.fields) > GZIP_ABOVE
    path = Path(folder) / ("overlay.geojson.gz" if compress else "overlay.geojson")
    with atomic_file(path) as partial:
        if compress:
            from isal import igzip

            # No file name and no time inside: equal results give equal files.
            with (
                open(partial, "wb") as raw,
                igzip.IGzipFile(  # type: ignore[no-untyped-call]
                    "", "wb", compresslevel=1, fileobj=raw, mtime=0
                ) as packed,
            ):
                _write(cast("IO[bytes]", packed), score_map, frame, provenance or {})
        else:
            with open(partial, "wb") as file:
                _write(file, score_map, frame, provenance or {})
    return path


def _write(
    file: IO[bytes], score_map: ScoreMap, frame: Frame, provenance: Mapping[str, Any]
) -> None:
    top = {
        **provenance,
        "qupath_origin": frame.origin,
        CORNER: [frame.x, frame.y],
    }
    head = b'{"type":"FeatureCollection","' + FACTS.encode() + b'":'
    file.write(head + orjson.dumps(top) + b',"features":[')
    separator = b"\n"
    for feature in annotation_features(score_map, frame):
        file.write(separator + orjson.dumps(feature))
        separator = b",\n"
    for chunk in tile_features(score_map, frame):
        file.write(separator + chunk)
        separator = b",\n"
    file.write(b"\n]}\n")


def annotation_features(score_map: ScoreMap, frame: Frame) -> Iterator[dict[str, Any]]:
    """Yield features of the tissue, the anomalous regions and what was not assessed."""
    name = score_map.slide.fingerprint
    if not score_map.tissue.is_empty:
        measures = {"Tissue area mm^2": score_map.tissue_mm2}
        outline = _drawn_tissue(score_map)
        yield _annotation(outline, TISSUE, frame, f"{name}/tissue", measures, "Tissue")
    regions = score_map.interpretation.regions
    for rank, region in enumerate(regions[:_MOST_ANNOTATIONS], start=1):
        yield _annotation(
            region.outline,
            ANOMALOUS,
            frame,
            f"{name}/region/{rank}",
            {
                "Area mm^2": region.area_mm2,
                "Mean anomaly score": region.mean_score,
                "Max anomaly score": region.max_score,
                "Fields": float(len(region.fields)),
            },
            f"Anomalous region {rank}",
        )
    if len(regions) > _MOST_ANNOTATIONS:
        rest = np.concatenate([r.fields for r in regions[_MOST_ANNOTATIONS:]])
        outline = union_of_fields(score_map.fields, rest)
        measures = {"Fields": float(len(rest))}
        title = f"{len(regions) - _MOST_ANNOTATIONS} further anomalous regions"
        yield _annotation(outline, ANOMALOUS, frame, f"{name}/region/rest", measures, title)
    yield from _taken_away(score_map, frame)
    areas = score_map.not_assessed_mm2()
    for status in Status:
        reason = status.name.lower()
        if reason in areas and status != Status.OK:
            outline = union_of_fields(score_map.fields, np.flatnonzero(score_map.status == status))
            yield _annotation(
                outline,
                NOT_ASSESSED,
                frame,
                f"{name}/not-assessed/{reason}",
                {"Area mm^2": areas[reason]},
                f"Not assessed: {reason}",
            )


def _drawn_tissue(score_map: ScoreMap) -> Polygon | MultiPolygon:
    """Outline of the tissue with the corners of regions that stick out of it.

    QuPath puts each object below the one that holds it, which takes 20 s for the 215,776 corners of
    a large slide's tissue: there the steps of a pixel of the tissue's map are smoothed away.
    """
    tissue, mpp = score_map.tissue, score_map.slide.mpp
    if shapely.get_num_coordinates(tissue) > _MOST_CORNERS:
        tissue = tissue.simplify(MAP_MPP / max(mpp.x, mpp.y))
    found = score_map.interpretation
    regions = [r.outline for r in (*found.regions, *(region for region, _ in found.taken_away))]
    return cast("Polygon | MultiPolygon", shapely.union_all([tissue, *regions]))


def _taken_away(score_map: ScoreMap, frame: Frame) -> Iterator[dict[str, Any]]:
    """Regions that are no flags any more, one object for each finding if they are many."""
    taken = score_map.interpretation.taken_away
    together: dict[str, list[Any]] = {}
    for rank, (region, like) in enumerate(taken):
        key = like if len(taken) > _MOST_ANNOTATIONS else str(rank)
        together.setdefault(key, []).append((region, like))
    for key, members in together.items():
        outline = shapely.union_all([region.outline for region, _ in members])
        measures = {"Area mm^2": sum(region.area_mm2 for region, _ in members)}
        name = f"{score_map.slide.fingerprint}/taken-away/{key}"
        yield _annotation(
            outline, TAKEN_AWAY, frame, name, measures, f"Taken away, like {members[0][1]}"
        )


def _annotation(
    shape: Polygon | MultiPolygon,
    kind: TileClass,
    frame: Frame,
    key: str,
    measurements: Mapping[str, float],
    title: str,
) -> dict[str, Any]:
    moved = shapely.set_precision(frame.shape(shape), 0.01)
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, key)),
        "geometry": geojson_geometry(shapely.orient_polygons(moved)),
        "properties": {
            "objectType": "annotation",
            "name": title,
            "isLocked": True,
            "classification": {"name": kind.name, "color": list(kind.color)},
            "measurements": {k: v for k, v in measurements.items() if np.isfinite(v)},
        },
    }


def tile_features(score_map: ScoreMap, frame: Frame) -> Iterator[bytes]:
    """Yield the tiles as JSON, comma-separated chunks of a few thousand features."""
    fields = score_map.fields
    classes = tile_classes(score_map)
    heads = [
        '"properties":{"objectType":"tile","classification":'
        + orjson.dumps({"name": kind.name, "color": list(kind.color)}).decode()
        for kind in TILE_CLASSES
    ]
    found = score_map.interpretation
    measures: list[tuple[str, str, NDArray[np.floating]]] = [
        (
            f"Anomaly score: {method}" if method != score_map.primary else "Anomaly score",
            "%.6g",
            values,
        )
        for method, values in score_map.scores.items()
    ]
    # What a reader needs in QuPath; smoothed scores and z are in scores.zarr. Each measurement
    # costs several megabytes on a large slide, each digit half of one.
    measures += [
        (label, digits, values)
        for label, digits, values in (
            ("Anomaly percentile", "%.5g", found.percentile),
            ("Approximate p-value", "%.2g", found.p_value),
        )
        if values is not None
    ]
    texts = [f"{orjson.dumps(label).decode()}:{digits}" for label, digits, _ in measures]
    place = (
        '{"type":"Feature","id":"%s","geometry":{"type":"Polygon","coordinates":'
        "[[[%r,%r],[%r,%r],[%r,%r],[%r,%r],[%r,%r]]]},%s,"
    )
    whole = place + '"measurements":{' + ",".join(texts) + "}}}"
    partly = place + '"measurements":{%s}}}'
    area = score_map.slide.bounds
    ends = area.x + area.width - frame.x, area.y + area.height - frame.y
    prefix = f"{score_map.slide.fingerprint}/tile/".encode()
    for start in range(0, len(fields), _CHUNK):
        part = slice(start, start + _CHUNK)
        x0 = fields.coords[part, 0] - frame.x
        y0 = fields.coords[part, 1] - frame.y
        a, b = x0.tolist(), y0.tolist()
        c, d = (  # the last ones of the grid reach beyond the border
            np.round(np.minimum(first + side, end), 2).tolist()
            for first, side, end in zip((x0, y0), fields.field_level0, ends, strict=True)
        )
        ids = tile_ids(prefix, fields.row[part], fields.col[part])
        kinds = [heads[k] for k in classes[part].tolist()]
        table = [np.asarray(values[part], np.float64) for _, _, values in measures]
        known = np.all(np.isfinite(table), axis=0)
        rows = zip(
            ids, a, b, c, b, c, d, a, d, a, b, kinds, *(v.tolist() for v in table), strict=True
        )
        # One formatting call a chunk: a call for each tile takes twice the time.
        if known.all():
            template, values = ",\n".join([whole] * len(ids)), chain.from_iterable(rows)
        else:
            flags = known.tolist()
            template = ",\n".join([whole if k else partly for k in flags])
            values = chain.from_iterable(
                row if k else (*row[:_PLACES], _finite_only(texts, row[_PLACES:]))
                for k, row in zip(flags, rows, strict=True)
            )
        yield (template % tuple(values)).encode()


def _finite_only(texts: list[str], values: Sequence[float]) -> str:
    return ",".join(
        text % value for text, value in zip(texts, values, strict=True) if np.isfinite(value)
    )


def tile_ids(prefix: bytes, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> list[str]:
    """Compute ``uuid5(NAMESPACE, prefix + "row,col")``, in bulk.

    ``uuid.uuid5`` spends most of its time on building objects; the digest is all that is needed.
    """
    base = hashlib.sha1(NAMESPACE.bytes + prefix, usedforsecurity=False)
    out = []
    for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
        digest = base.copy()
        digest.update(b"%d,%d" % (row, col))
        h = digest.hexdigest()
        # Version 5 and the RFC 4122 variant.
        variant = "89ab"[int(h[16], 16) & 3]
        out.append(f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{variant}{h[17:20]}-{h[20:32]}")
    return out
