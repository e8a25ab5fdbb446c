"""Embeddings as other programs lay them out, of random numbers.

The layouts are those of TRIDENT's ``save_h5`` and ``coords_to_h5``, CLAM's ``save_hdf5`` and
``process_contour``, slide2vec 7.1's ``write_tile_embeddings`` with hs2p 6.1's
``_save_tiling_result``, and of stores that LazySlide 0.13 has written; ``make check-ecosystem``
compares them with the programs themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

SIDE, STEP, WIDTH = 16, 512, 24
SIZE_PX = (SIDE + 2) * STEP
"""Of the slide, at 0.25 um a pixel: fields of 128 um."""
_MIX = np.random.default_rng(99).normal(size=(6, WIDTH))


def fields_of(seed: int, *, lesion: bool = False) -> tuple[NDArray, NDArray]:
    """Embeddings (N, D) float32 and corners (N, 2) of a slide; a lesion is 5 fields wide."""
    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
    latent = rng.normal(size=(SIDE**2, 6))
    if lesion:
        latent[(abs(x - 8) <= 2) & (abs(y - 8) <= 2)] += 6 * np.array([1, -1, 1, 1, -1, 1])
    features = latent @ _MIX + 0.3 * rng.normal(size=(SIDE**2, WIDTH))
    return features.astype(np.float32), np.stack((x, y), 1).astype(np.int64) * STEP + STEP


def put(path: Path, name: str, values: NDArray, chunk: int, /, **attributes: object) -> None:
    """Add a dataset as TRIDENT and CLAM do: chunked, growable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset(
            name,
            data=values,
            chunks=(chunk, *values.shape[1:]),
            maxshape=(None, *values.shape[1:]),
        )
        for key, value in attributes.items():
            dataset.attrs[key] = value


TRIDENT = {
    "patch_size": 256,
    "patch_size_level0": STEP,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "a name",
    "savetodir": "/somewhere/else",
    "level0_width": SIZE_PX,
    "level0_height": SIZE_PX,
}


def trident(
    folder: Path,
    name: str,
    features: NDArray,
    coords: NDArray,
    encoder: str = "uni_v1",
    **changes: object,
) -> Path:
    path = folder / f"{name}.h5"
    put(path, "features", features, 1, encoder=encoder, name=name, savetodir="/somewhere/else")
    put(path, "coords", coords, 1, **{**TRIDENT, **changes})
    return path


def clam(folder: Path, name: str, features: NDArray, coords: NDArray) -> Path:
    path = folder / "h5_files" / f"{name}.h5"
    put(path, "features", features, 32)
    put(path, "coords", coords.astype(np.int32), 32)
    put(
        folder / "patches" / f"{name}.h5", "coords", coords, 32,
        patch_size=256, patch_level=1, downsample=(2.0, 2.0),
        downsampled_level_dim=(SIZE_PX // 2,) * 2, level_dim=(SIZE_PX // 2,) * 2, name=name,
        save_path="/somewhere/else",
    )  # fmt: skip
    (folder / "pt_files").mkdir(exist_ok=True)
    torch.save(torch.from_numpy(features), folder / "pt_files" / f"{name}.pt")
    return path


def slide2vec(
    folder: Path, name: str, features: NDArray, coords: NDArray, kind: str = "npz"
) -> Path:
    path = folder / "tile_embeddings" / f"{name}.{kind}"
    tiles = folder / "tiles"
    for place in (path.parent, tiles):
        place.mkdir(parents=True, exist_ok=True)
    if kind == "npz":
        np.savez_compressed(path, features=features)
    else:
        torch.save(torch.from_numpy(features), path)
    about = {
        "sample_id": name,
        "artifact_type": "tile_embeddings",
        "format": kind,
        "feature_dim": features.shape[-1],
        "num_tiles": len(features),
        "encoder_name": "uni",
        "coordinates_npz_path": "/somewhere/else/tiles/x.coordinates.npz",
        "image_path": "/somewhere/else/x.svs",
        "tile_size_lv0": STEP,
        "requested_tile_size_px": 256,
        "requested_spacing_um": 0.5,
        "annotation": None,
    }
    path.with_name(f"{name}.meta.json").write_text(json.dumps(about))
    np.savez_compressed(
        tiles / f"{name}.coordinates.npz",
        tile_index=np.arange(len(coords), dtype=np.int32),
        x=coords[:, 0],
        y=coords[:, 1],
        tissue_fractions=np.ones(len(coords), np.float32),
    )
    tiling = {
        "requested_tile_size_px": 256,
        "requested_spacing_um": 0.5,
        "tile_size_lv0": STEP,
        "step_px_lv0": STEP,
        "overlap": 0.0,
        "n_tiles": len(coords),
    }
    slide = {"dimensions": [SIZE_PX, SIZE_PX], "base_spacing_um": 0.25, "level_downsamples": [1.0]}
    (tiles / f"{name}.coordinates.meta.json").write_text(
        json.dumps({"slide": slide, "tiling": tiling})
    )
    return path


def lazyslide(
    folder: Path, name: str, features: NDArray, coords: NDArray, encoder: str = "uni"
) -> Path:
    """Add a table to a store; made anew where there is none."""
    import pyarrow as pa
    import shapely
    import zarr
    from pyarrow import parquet

    path = folder / f"{name}.zarr"
    root = zarr.open_group(str(path), mode="a", zarr_format=3)
    root.attrs["spatialdata_attrs"] = {"version": "0.2", "spatialdata_software_version": "0.7.3"}
    root.attrs["slide_properties"] = {"shape": [SIZE_PX, SIZE_PX], "mpp": 0.25, "n_level": 1}
    root.attrs["tile_spec"] = {
        "tiles": {
            "height": 256, "width": 256, "stride_height": 256, "stride_width": 256, "mpp": 0.5,
            "ops_level": 0, "ops_downsample": 2.0, "base_level": 0, "base_downsample": 2.0,
            "tissue_name": "tissues",
        }
    }  # fmt: skip
    shapes = path / "shapes" / "tiles"
    root.require_group("shapes/tiles")
    boxes = shapely.box(*coords.T, *(coords + STEP).T)
    ids = np.arange(len(coords))
    table = pa.table({"tile_id": ids, "tissue_id": 0 * ids, "geometry": shapely.to_wkb(boxes)})
    parquet.write_table(table, shapes / "shapes.parquet")
    group = root.require_group(f"tables/{encoder}_tiles")
    group.attrs.update({"region": "tiles", "region_key": "library_id", "instance_key": "tile_id"})
    group.create_array("X", data=features)
    group.require_group("obs").create_array("tile_id", data=ids)
    return path


WRITERS = {"trident": trident, "clam": clam, "slide2vec": slide2vec, "lazyslide": lazyslide}


def cohort(folder: Path, program: str, count: int, **more: object) -> Path:
    """Embeddings of normal slides n00, n01 and so on."""
    for number in range(count):
        WRITERS[program](folder, f"n{number:02}", *fields_of(number), **more)
    return folder
