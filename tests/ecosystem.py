"""Hold our readers and writers against the programs whose formats they are of.

    make check-ecosystem

Each program is installed in an environment of its own below build/ecosystem, since what they need
does not go together. Theirs write what ours read, and ours write what theirs read; numbers must be
equal. Not a part of ``make test``: it downloads some gigabytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
TORCH = ("torch==2.11.0", "torchvision==0.26.0")
LAZYSLIDE = ("lazyslide==0.13.0", "pandas<3", "transformers<5", *TORCH)
SLIDE2VEC = ("slide2vec==7.1.4", "hs2p==6.1.0")
NEEDED_BY_SLIDE2VEC = (
    "numpy<2", "pandas", "omegaconf", "rich", "pillow", "tqdm", "opencv-python-headless",
    "transformers<5", "timm", "einops", "huggingface_hub", "tifffile", "h5py", "openslide-python",
    "openslide-bin", "wandb", "scipy", "scikit-image", "packaging", "imagecodecs", *TORCH,
)  # fmt: skip
"""Without the readers of slides that need CUDA: only its files are written here."""

LAZYSLIDE_WRITES = """
import lazyslide as zs, numpy as np, sys
from wsidata import open_wsi
from wsidata.io import add_features
wsi = open_wsi("drawn.tif", store="theirs/drawn.zarr")
zs.pp.find_tissues(wsi)
zs.pp.tile_tissues(wsi, 256, mpp=0.5)
tiles = wsi.shapes["tiles"]
features = np.random.default_rng(0).normal(size=(len(tiles), 16)).astype("float32")
add_features(wsi, key="uni_tiles", tile_key="tiles", features=features)
wsi.write()
np.savez("theirs.npz", features=features, coords=tiles.bounds[["minx", "miny"]].to_numpy())
"""
LAZYSLIDE_READS = """
import json, numpy as np, spatialdata
from wsidata import open_wsi
store = spatialdata.read_zarr("exported/drawn.zarr")
columns = sorted(store.tables["anomaly_fields"].obs.columns)
wsi = open_wsi("drawn.tif", store="exported/drawn.zarr")
table = wsi.fetch.features_anndata("anomaly", "fields")
bounds = wsi.shapes["fields"].bounds
regions = wsi.shapes["regions"] if "regions" in wsi.shapes else []
spec = wsi.tile_spec("fields")
print(json.dumps({
    "scores": np.asarray(table.X)[:, 0].tolist(), "columns": columns,
    "x": bounds["minx"].tolist(), "regions": len(regions), "side": spec.base_width,
}))
"""
SLIDE2VEC_WRITES = """
import numpy as np, torch
from pathlib import Path
from slide2vec.artifacts import write_tile_embeddings
from hs2p.tiling.io import _save_tiling_result
from hs2p.tiling.result import TileGeometry, TilingResult
rng = np.random.default_rng(0)
y, x = (a.ravel() for a in np.mgrid[:5, :6] * 512)
geometry = TileGeometry(
    x=x, y=y, tissue_fractions=np.ones(30, np.float32), requested_tile_size_px=256,
    requested_spacing_um=0.5, read_level=0, read_tile_size_px=512, read_spacing_um=0.25,
    tile_size_lv0=512, is_within_tolerance=True, base_spacing_um=0.25,
    slide_dimensions=[4096, 3072], level_downsamples=[1.0], overlap=0.0, min_tissue_fraction=0.1,
)
features = rng.normal(size=(30, 16)).astype("float32")
for kind in ("npz", "pt"):
    out = Path("theirs_" + kind)
    result = TilingResult(
        tiles=geometry, sample_id="drawn", image_path="drawn.tif", backend="none",
        requested_backend="none", tolerance=0.05, step_px_lv0=512, tissue_method="none",
        requested_seg_downsample=64, seg_downsample=64, seg_level=0, seg_spacing_um=16.0,
        seg_sthresh=None, seg_sthresh_up=None, seg_mthresh=None, seg_close=None,
        ref_tile_size_px=16, a_t=4, a_h=2, filter_white=False, filter_black=False,
        white_threshold=220, black_threshold=25, fraction_threshold=0.9,
    )
    _save_tiling_result(result, out / "tiles")
    about = {"encoder_name": "uni", "tile_size_lv0": 512}
    write_tile_embeddings(
        "drawn", features, output_dir=out, output_format=kind, metadata=about,
        tile_index=np.arange(30),
    )
order = np.lexsort((y, x))
np.savez("theirs.npz", features=features, x=x, y=y)
"""
SLIDE2VEC_READS = """
import json
from pathlib import Path
from slide2vec.artifacts import load_array, load_metadata
from hs2p.tiling.io import _load_tiling_result_from_paths
tiles = Path("theirs_npz/tiles")
found = _load_tiling_result_from_paths(
    tiles / "drawn.coordinates.npz", tiles / "drawn.coordinates.meta.json"
)
print(json.dumps({"x": found.tiles.x.tolist(), "y": found.tiles.y.tolist()}))
"""


def environment(name: str, *wanted: tuple[str, ...]) -> Path:
    """An environment with these packages; the last group without what they need themselves."""
    python = REPOSITORY / "build" / "ecosystem" / name / "bin" / "python"
    if not python.exists():
        run(UV, "venv", "--quiet", "--python", sys.executable, python.parents[1])
    install = (UV, "pip", "install", "--quiet", "--python", python)
    run(*install, *wanted[0])
    for bare in wanted[1:]:
        run(*install, "--no-deps", *bare)
    return python


def run(*words: object, at: Path = REPOSITORY) -> str:
    """Run a program; what it prints."""
    plain = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=at, env=plain, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return done.stdout


def check_lazyslide(at: Path) -> None:
    """Theirs write, ours read; ours export, theirs open."""
    import wsi_anomaly
    from wsi_anomaly.embeddings import find_embeddings
    from wsi_anomaly.results.export import export_results
    from wsi_anomaly.results.stored_scores import StoredScores
    from wsi_anomaly.synthetic import make_slide

    python = environment("lazyslide", LAZYSLIDE)
    make_slide(at / "drawn.tif", seed=1, size_px=(2048, 1536), mpp=0.5)
    run(python, "-c", LAZYSLIDE_WRITES, at=at)
    expected = np.load(at / "theirs.npz")
    with find_embeddings(at / "theirs").files["drawn"].open() as found:
        assert np.array_equal(found.read(slice(0, len(found))), expected["features"])
        assert np.array_equal(found.coords, expected["coords"])
        assert (found.encoder, found.field_um, found.mpp) == ("uni", 128, 0.5)
    print("LazySlide -> ours: equal")
    wsi_anomaly.score([at / "drawn.tif"], None, at / "results")
    export_results(at / "results", at / "exported", "spatialdata")
    seen = json.loads(run(python, "-c", LAZYSLIDE_READS, at=at).splitlines()[-1])
    stored = StoredScores.read(at / "results" / "drawn")
    assert np.allclose(seen["scores"], stored.score, equal_nan=True)
    assert {"smoothed", "class", "flagged", "region", "review"} <= set(seen["columns"])
    assert seen["side"] == 128
    print("ours -> SpatialData and LazySlide: equal")


def check_slide2vec(at: Path) -> None:
    """Theirs write, ours read, in both formats; theirs read what they wrote as ours do."""
    from wsi_anomaly.embeddings import find_embeddings

    python = environment("slide2vec", NEEDED_BY_SLIDE2VEC, SLIDE2VEC)
    run(python, "-c", SLIDE2VEC_WRITES, at=at)
    expected = np.load(at / "theirs.npz")
    seen = json.loads(run(python, "-c", SLIDE2VEC_READS, at=at).splitlines()[-1])
    for kind in ("npz", "pt"):
        with find_embeddings(at / f"theirs_{kind}").files["drawn"].open() as found:
            assert np.array_equal(found.read(slice(0, len(found))), expected["features"])
            assert np.array_equal(found.coords, np.stack((seen["x"], seen["y"]), 1))
            assert (found.encoder, found.field_um, found.mpp) == ("uni", 128, 0.25)
    print("slide2vec -> ours: equal")


if __name__ == "__main__":
    work = REPOSITORY / "build" / "ecosystem" / "work"
    for check in (check_slide2vec, check_lazyslide):
        folder = work / check.__name__
        if folder.exists():
            import shutil

            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        check(folder)
