"""A slide's result as a SpatialData store, which LazySlide opens beside the slide.

The layout is that of SpatialData 0.7 (Zarr format 3; shapes 0.3, tables 0.2), with the attributes
``slide_properties`` and ``tile_spec`` of wsidata 0.12. It is written without SpatialData, whose
packages are many; ``make check-ecosystem`` opens it with both.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.files import atomic_folder
from wsi_anomaly.results.export_tables import SlideTables, frame_of, package

FIELDS, REGIONS, TABLE = "fields", "regions", "anomaly_fields"
_VERSION = "0.7.3"


def write_store(
    path: Path, tables: SlideTables, methods: Sequence[str], summary: Mapping[str, Any]
) -> None:
    """Write ``<slide>.zarr``.

    ``shapes/fields`` are the fields as squares, ``shapes/regions`` the flagged regions where there
    are any, both in level-0 pixels; ``tables/anomaly_fields`` an AnnData of the fields: raw scores
    by method, the rest as ``obs``.

    Parameters
    ----------
    path
        The store; what stood there is replaced as a whole.
    tables, methods, summary
        The slide's columns, its methods of scoring, and its ``summary.json``.

    Raises
    ------
    UsageError
        A package is missing.
    OutputError
        It cannot be written.
    """
    zarr, shapely = package("zarr"), package("shapely")
    facts: Mapping[str, Any] = tables.slides
    width, height = (float(facts["field_um"][0] / facts[f"mpp_{axis}"][0]) for axis in "xy")
    x, y = (np.asarray(tables.fields[axis], float) for axis in "xy")
    fields = shapely.box(x, y, x + width, y + height)
    regions = shapely.from_wkt(np.asarray(tables.regions["outline_wkt"], object))
    with atomic_folder(path) as partial, warnings.catch_warnings():
        # Zarr warns of files beside its own, which SpatialData's layout has.
        warnings.simplefilter("ignore")
        root = zarr.open_group(str(partial), mode="w", zarr_format=3)
        root.attrs.update(_about(summary, (width, height)))
        root.create_group("shapes")
        root.create_group("tables")
        _write_shapes(partial, root, FIELDS, fields, {"tile_id": np.arange(len(fields))})
        if len(regions):
            numbers = {
                name: tables.regions[name] for name in ("region", "area_mm2", "highest_smoothed")
            }
            _write_shapes(partial, root, REGIONS, regions, numbers)
        _write_table(root, tables, methods)
        zarr.consolidate_metadata(root.store)


def _about(summary: Mapping[str, Any], field: tuple[float, float]) -> dict[str, Any]:
    """Attributes of the root."""
    slide = summary["slide"]
    width, height = slide["size_px"]
    side = [max(1, round(length)) for length in field]
    mpp = float(slide["mpp"][0])
    return {
        "spatialdata_attrs": {"version": "0.2", "spatialdata_software_version": _VERSION},
        "slide_properties": {
            "shape": [height, width], "n_level": 1, "level_shape": [[height, width]],
            "level_downsample": [1.0], "mpp": mpp, "magnification": None,
            "bounds": list(slide["bounds"]), "raw": "{}",
        },
        "tile_spec": {
            FIELDS: {
                "height": side[1], "width": side[0], "stride_height": side[1],
                "stride_width": side[0], "mpp": mpp, "ops_level": 0, "ops_downsample": 1.0,
                "base_level": 0, "base_downsample": 1.0, "tissue_name": None,
            }
        },
    }  # fmt: skip


def _axes(name: str) -> dict[str, Any]:
    axes = [{"name": axis, "type": "space", "unit": "unit"} for axis in "xy"]
    return {"name": name, "axes": axes}


def _write_shapes(
    store: Path, root: Any, name: str, shapes: NDArray[Any], columns: Mapping[str, Any]
) -> None:
    shapely, arrow = package("shapely"), package("pyarrow")
    group = root.create_group(f"shapes/{name}")
    identity = {"type": "identity", "input": _axes("xy"), "output": _axes("global")}
    group.attrs.update(
        {
            "encoding-type": "ngff:shapes",
            "axes": ["x", "y"],
            "coordinateTransformations": [identity],
            "spatialdata_attrs": {"version": "0.3"},
        }
    )
    table = arrow.table({**columns, "geometry": shapely.to_wkb(shapes)})
    kinds = sorted({shape.geom_type for shape in shapes})
    geometry = {"encoding": "WKB", "crs": None, "geometry_types": kinds}
    bounds = [float(v) for v in shapely.total_bounds(shapes)]
    if all(map(math.isfinite, bounds)):
        geometry["bbox"] = bounds
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    table = table.replace_schema_metadata({"geo": json.dumps(geo)})
    package("pyarrow.parquet").write_table(table, store / "shapes" / name / "shapes.parquet")


def _write_table(root: Any, tables: SlideTables, methods: Sequence[str]) -> None:
    pandas, anndata = package("pandas"), package("anndata")
    frame = frame_of(tables.fields)
    scores = [f"score_{method}" for method in methods]
    obs = frame.drop(columns=scores)
    obs.insert(0, "tile_id", np.arange(len(obs)))
    obs.insert(1, "library_id", pandas.Categorical([FIELDS] * len(obs)))
    obs.index = obs["tile_id"].astype(str).astype(object)
    obs.index.name = None
    keys = {"region": FIELDS, "region_key": "library_id", "instance_key": "tile_id"}
    found = anndata.AnnData(
        frame[scores].to_numpy(np.float32),
        obs=obs,
        var=pandas.DataFrame(index=list(methods)),
        obsm={"spatial": frame[["x_um", "y_um"]].to_numpy()},
        uns={"spatialdata_attrs": keys},
    )
    package("anndata.io").write_elem(root["tables"], TABLE, found)
    attributes = {"spatialdata-encoding-type": "ngff:regions_table", "version": "0.2"}
    root[f"tables/{TABLE}"].attrs.update({**attributes, **keys})
