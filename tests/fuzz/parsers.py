"""Every parser of ours that reads files of strangers, with a whole file of each kind to begin with.

A parser may refuse a file with one of the program's own errors. Everything else is a finding.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from wsi_anomaly.core.errors import WsiAnomalyError

# score_map_fakes and embedding_files, where this runs without pytest.
sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "embeddings")]


@dataclass(frozen=True)
class Parser:
    """How a kind of file is read.

    Attributes
    ----------
    name
        Name of the file in its folder.
    seeds
        Makes whole files.
    read
        Takes the path of a file.
    text
        Whether it is text, which is mutated otherwise than bytes.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    text: bool = False

    def accepts(self, path: Path) -> bool:
        """Read a file; False when it is refused in one sentence.

        Raises
        ------
        Exception
            The parser let something through that nobody catches.
        """
        try:
            self.read(path)
        except WsiAnomalyError as error:
            text = str(error)
            assert text.strip(), "an empty sentence"
            assert text.endswith("."), f"no sentence: {text!r}"
            return False
        return True


def _geojson() -> bytes:
    feature = {
        "type": "Feature",
        "id": "6a9e2a52-5d6c-5f0e-9a8e-0d5c7b1f4e11",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[0, 0], [90, 0], [90, 50.5], [0, 50], [0, 0]]],
        },
        "properties": {"objectType": "annotation", "classification": {"name": "Tumour"}},
    }
    return json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()


def _asap() -> bytes:
    points = "".join(
        f'<Coordinate Order="{i}" X="{x}" Y="{y}" />'
        for i, (x, y) in enumerate([(0, 0), (90, 0), (90, 50), (0, 50)])
    )
    return (
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        '<Annotation Name="A" Type="Polygon" PartOfGroup="Tumour" Color="#F4FA58">'
        f"<Coordinates>{points}</Coordinates></Annotation></Annotations>"
        '<AnnotationGroups><Group Name="Tumour" PartOfGroup="None" Color="#64FE2E"/>'
        "</AnnotationGroups></ASAP_Annotations>"
    ).encode()


def _png() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.new("L", (24, 16))
    image.paste(255, (4, 4, 12, 12))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _tiff(side: int = 64, **options: object) -> bytes:
    import numpy as np
    import tifffile

    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
    tifffile.imwrite(
        buffer, pixels, photometric="rgb", resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
        **options,
    )  # fmt: skip
    return buffer.getvalue()


@cache
def _tile_file(compression: str = "lossless") -> bytes:
    from wsi_anomaly.synthetic import make_slide
    from wsi_anomaly.tiles import TileConfig, tile_slide

    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "s.tif"
        make_slide(slide, seed=1, size_px=(256, 256), mpp=1.0)
        config = TileConfig((10,), tile_size=16, max_tiles=3, stain="none", compression=compression)
        return tile_slide(slide, folder, config).path.read_bytes()


@cache
def _model_folder() -> Path:
    from wsi_anomaly.core.resources import models_folder

    return min(file.parent for file in models_folder().glob("*/model.json"))


def _safetensors() -> bytes:
    import torch
    from safetensors.torch import save

    return bytes(save({"a": torch.ones(2, 3), "b": torch.zeros(1)}, metadata={"json": '{"x": 1}'}))


def _npz() -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones((2, 3), np.float32), b=np.zeros(4))
    return buffer.getvalue()


def _pth() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2, 3)}, buffer)
    return buffer.getvalue()


def _read_mask(path: Path) -> object:
    from wsi_anomaly.annotations.masks import outlines_from_mask, read_mask

    mask = read_mask(path)
    return outlines_from_mask(mask, (mask.shape[-1] * 10, mask.shape[0] * 10))


def _read_slide(path: Path) -> None:
    from wsi_anomaly.slides import open_slide

    with open_slide(path, backend="tiff", require_mpp=False) as slide:
        for level in range(len(slide.level_dimensions)):
            slide.read_level(level, 0, 0, 32, 32)


def _read_tile_file(path: Path) -> None:
    from wsi_anomaly.tiles import TileStore

    store = TileStore.open(path)
    for magnification in store.magnifications:
        store.images(magnification, slice(0, 2))


def _read_model(path: Path) -> None:
    """The description comes from a stranger; the numbers are those that belong to it."""
    from wsi_anomaly.detectors import Model

    numbers = path.parent / "model.safetensors"
    if not numbers.exists():
        numbers.symlink_to(_model_folder() / "model.safetensors")
    Model.load(path.parent)


def _read_geojson(path: Path) -> object:
    from wsi_anomaly.annotations import read_geojson

    return read_geojson(path)


def _read_asap(path: Path) -> object:
    from wsi_anomaly.annotations import read_asap

    return read_asap(path)


def _read_weights(path: Path) -> object:
    from wsi_anomaly.features.weights import read_weights

    return read_weights(path)


def _read_tensors(path: Path) -> object:
    from wsi_anomaly.core.tensors import load_tensors

    return load_tensors(path)


def _read_mpp(path: Path) -> object:
    from wsi_anomaly.core.slide_names import read_pixel_sizes

    return read_pixel_sizes(path, [Path("a.svs")])


def _read_cases(path: Path) -> object:
    from wsi_anomaly.core.slide_names import read_cases

    return read_cases(path, [Path("a.svs")])


def _read_cohort(path: Path) -> object:
    from wsi_anomaly.studies import read_cohort

    return read_cohort(path, [Path("a/s1.svs"), Path("a/s2.svs")])


def _read_config(path: Path) -> object:
    from wsi_anomaly.training.config import load_config

    return load_config(str(path))


def _read_summary(path: Path) -> object:
    from wsi_anomaly.reports.worklist_rows import read_row

    return read_row(path.parent)


def _summary() -> bytes:
    from wsi_anomaly.results.summary import FORMAT

    summary = {
        "format": FORMAT,
        "slide": {"name": "a", "path": "a.svs"},
        "status": "done",
        "slide_score": 0.5,
        "flagged": {"possible": True, "regions": 1, "area_mm2": 0.1, "threshold": 2},
        "not_assessed_by_reason_mm2": {"pen": 0.1},
        "warnings": ["x"],
    }
    return json.dumps(summary).encode()


def _read_deepzoom(path: Path) -> None:
    from wsi_anomaly.slides import open_slide

    tile = path.with_name(f"{path.stem}_files") / "5" / "0_0.png"
    if not tile.exists():
        tile.parent.mkdir(parents=True, exist_ok=True)
        tile.write_bytes(_png())
    with open_slide(path, require_mpp=False) as slide:
        for level in range(len(slide.level_dimensions)):
            slide.read_level(level, 0, 0, 8, 8)


def _read_plane(path: Path) -> None:
    from wsi_anomaly.tiles import TileStore

    opened = TileStore.open(path).plane(10)
    if opened is not None:
        plane, _cells = opened
        plane.chunk(0, 0)


def _read_slides_table(path: Path) -> object:
    from wsi_anomaly.core.tables import own_rows
    from wsi_anomaly.tiles.slides_table import COLUMNS

    return own_rows(path, COLUMNS)


@cache
def _score_map() -> Path:
    """Folder of a results folder's ``scores.zarr``."""
    from score_map_fakes import fake_score_map

    from wsi_anomaly.results.arrays import write_zarr

    folder = Path(tempfile.mkdtemp(prefix="fuzz_map_"))
    write_zarr(folder / "scores.zarr", fake_score_map(shape=(4, 5)))
    return folder / "scores.zarr"


def _in_score_map(place: str) -> Parser:
    """A file of a ``scores.zarr``; the others are whole."""

    def read(path: Path) -> None:
        from wsi_anomaly.results.stored_scores import StoredScores

        store = path.parent / "scores.zarr"
        if not store.exists():
            shutil.copytree(_score_map(), store)
        (store / place).write_bytes(path.read_bytes())
        StoredScores.read(path.parent).grid()

    return Parser("piece", lambda: [(_score_map() / place).read_bytes()], read, text=".z" in place)


def _ome(*sizes: int, planes: int = 1) -> bytes:
    import numpy as np
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, ome=True) as tif:
        for side in sizes:
            shape = ((planes,) if planes > 1 else ()) + (side, side, 3)
            pixels = np.random.default_rng(side).integers(0, 255, shape).astype(np.uint8)
            axes = "ZYXS" if planes > 1 else "YXS"
            known = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            tif.write(pixels, photometric="rgb", tile=(16, 16), metadata=known)
    return buffer.getvalue()


def _ome_xml() -> bytes:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(_ome(32, 48, planes=2))) as tif:
        return (tif.ome_metadata or "").encode()


def _read_ome_xml(path: Path) -> object:
    from wsi_anomaly.slides.ome import read_ome

    return read_ome(path.read_text(errors="replace"), path.name)


def _dicom() -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.4"
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = 1000, 800
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _read_dicom(path: Path) -> object:
    from wsi_anomaly.slides.dicom import is_dicom_slide, parts_of_slides

    whole = path.with_name("whole.dcm")
    if not whole.exists():
        whole.write_bytes(_dicom())
    return is_dicom_slide(path), parts_of_slides([path, whole])


@cache
def _embedded(program: str) -> Path:
    """Folder of whole embeddings, as a program writes them."""
    from embedding_files import STEP, WRITERS, fields_of

    folder = Path(tempfile.mkdtemp(prefix="fuzz_embedded_"))
    features, coords = fields_of(1)
    WRITERS[program](folder, "a", features[:8], coords[:8] + STEP)
    return folder


def _in_embeddings(program: str, changed: str, opened: str = "", *, text: bool = False) -> Parser:
    """A file of a slide's embeddings; those that belong to it are whole."""

    def read(path: Path) -> None:
        from wsi_anomaly.embeddings import EmbeddingsFile
        from wsi_anomaly.embeddings.grid import on_grid
        from wsi_anomaly.slides import Mpp

        whole = path.parent / "whole"
        if not whole.exists():
            shutil.copytree(_embedded(program), whole)
        (whole / changed).write_bytes(path.read_bytes())
        with EmbeddingsFile(whole / (opened or changed), whole).open() as found:
            on_grid(found, Mpp(0.25, 0.25, "given"))
            for _ in found.blocks():
                pass

    return Parser(
        Path(changed).name, lambda: [(_embedded(program) / changed).read_bytes()], read, text
    )


def _slide2vec_pt() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(torch.ones(8, 24), buffer)
    return buffer.getvalue()


def _read_manifest(path: Path) -> object:
    from wsi_anomaly.slides.manifest import read_manifest

    for name in ("a.svs", "b.svs", "m.png"):
        (path.parent / name).touch()
    found = read_manifest(path)
    return found.masks(), found.abnormal(), found.sizes(), found.unused_columns()


def _region_file() -> bytes:
    import numpy as np

    from wsi_anomaly.core.small_pictures import as_jpeg
    from wsi_anomaly.results.region_file import write_region_file
    from wsi_anomaly.scoring.top_fields import BesideNormal, NormalField

    picture = as_jpeg(np.zeros((32, 32, 3), np.uint8))
    part = {"um": 256, "distance": "knn", "units": 3.5}
    spoken = {
        "parts": [part, {**part, "um": 64}],
        "methods": [
            {"method": "density", "percentile": 99.0, "p_value": 0.01},
            {"method": "dpa", "percentile": 98.0, "p_value": None},
        ],
    }
    ones = np.ones((2, 3), np.float32)
    beside = BesideNormal(
        np.arange(2), np.array([1, 0]), ones, (picture, picture), (spoken, {}),
        np.zeros((2, 3), np.intp), ones, ones, (NormalField("n", (1.0, 2.0), picture),), 256,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "regions.safetensors"
        write_region_file(path, beside)
        return path.read_bytes()


def _read_region_file(path: Path) -> None:
    from wsi_anomaly.results.region_file import read_region_file, shown, why

    found = read_region_file(path.parent)
    if found is not None:
        for index in range(len(found.fields)):
            shown(found, index)
            why(found, int(found.regions[index]))


def _read_scores(path: Path) -> object:
    from wsi_anomaly.evaluation.tables import read_scores

    return read_scores(path)


def _read_beside(path: Path) -> object:
    from wsi_anomaly.reports.worklist import write_worklist

    return write_worklist(path.parent)


_DZI = (
    b'<?xml version="1.0"?><Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="png" '
    b'Overlap="1" TileSize="254"><Size Width="24" Height="16"/></Image>'
)
_BESIDE = (
    b'{"format": "wsi-anomaly-summary", "beside": [{"path": "a/b.txt", "status": "not a slide", '
    b'"reason": ""}]}'
)
_SLIDES_TABLE = (
    b"slide,status,reason,tile_file,case,magnifications,tiles,ok,failed,blurred,pen,folded,seconds"
    b"\na.svs,done,,a.h5,a,10x,5,5,0,0,0,0,1.0\n"
)
_TOML = (
    b'batch_size = 16\nlearning_rate = 1e-3\ndetector = "dpa"\n'
    b"[steps]\n16 = [0, 3]\n32 = [2, 3]\n64 = [1, 9]\n"
)
_JSON = b'{"batch_size": 16, "seed": 3, "steps": {"16": [0, 3], "32": [2, 3], "64": [1, 9]}}'
_COHORT = b"slide,animal,group,organ\ns1.svs,1,control,liver\ns2.svs,2,high,liver\n"
_MANIFEST = b"slide,case,mpp,label,mask\na.svs,7,0.25,normal,m.png\nb.svs,8,,1,\n"

PARSERS: dict[str, Parser] = {
    "geojson": Parser("a.geojson", lambda: [_geojson()], _read_geojson, text=True),
    "geojson_gz": Parser("a.geojson.gz", lambda: [gzip.compress(_geojson())], _read_geojson),
    "asap_xml": Parser("a.xml", lambda: [_asap()], _read_asap, text=True),
    "mask_png": Parser("a.png", lambda: [_png()], _read_mask),
    "mask_tiff": Parser("a.tif", lambda: [_tiff()], _read_mask),
    "slide_tiff": Parser(
        "a.tif",
        lambda: [
            _tiff(tile=(32, 32), compression="jpeg", metadata=None),
            _tiff(tile=(32, 32), compression="jpeg2000", metadata=None),
            _tiff(tile=(32, 32), compression="zlib", metadata=None, bigtiff=True),
            _tiff(rowsperstrip=8, ome=True),
            _tiff(rowsperstrip=16, metadata=None, description="Aperio x|AppMag = 20|MPP = 0.5"),
        ],
        _read_slide,
    ),
    "tile_file": Parser("a.h5", lambda: [_tile_file()], _read_tile_file),
    "jpeg_tile_file": Parser("a.h5", lambda: [_tile_file("jpeg")], _read_tile_file),
    "plane_file": Parser("a.h5", lambda: [_tile_file(), _tile_file("jpeg")], _read_plane),
    "deepzoom": Parser("HE.dzi", lambda: [_DZI], _read_deepzoom, text=True),
    "ome_tiff": Parser(
        "a.ome.tif", lambda: [_ome(32), _ome(32, 48), _ome(48, planes=3)], _read_slide
    ),
    "ome_xml": Parser("a.xml", lambda: [_ome_xml()], _read_ome_xml, text=True),
    "dicom": Parser("a.dcm", lambda: [_dicom()], _read_dicom),
    "scores_attributes": _in_score_map("tiles/.zattrs"),
    "scores_array": _in_score_map("tiles/row/.zarray"),
    "scores_chunk": _in_score_map("tiles/row/0"),
    "scores_csv": Parser(
        "a.csv",
        lambda: [b"slide,score,label\na,0.5,1\nb,1,0\n", b"slide;score;label\na;0,5;1\nb;1;0\n"],
        _read_scores, text=True,
    ),
    "slides_csv": Parser("slides.csv", lambda: [_SLIDES_TABLE], _read_slides_table, text=True),
    "beside_json": Parser(".beside.json", lambda: [_BESIDE], _read_beside, text=True),
    "model_json": Parser(
        "model.json", lambda: [(_model_folder() / "model.json").read_bytes()], _read_model,
        text=True,
    ),
    "checkpoint": Parser("a.safetensors", lambda: [_safetensors()], _read_tensors),
    "weights_safetensors": Parser("a.safetensors", lambda: [_safetensors()], _read_weights),
    "weights_npz": Parser("a.npz", lambda: [_npz()], _read_weights),
    "weights_pth": Parser("a.pth", lambda: [_pth()], _read_weights),
    "mpp_csv": Parser("a.csv", lambda: [b"slide,mpp\na.svs,0.25\n"], _read_mpp, text=True),
    "cases_csv": Parser("a.csv", lambda: [b"slide,case\na.svs,7\n"], _read_cases, text=True),
    "cohort_csv": Parser("a.csv", lambda: [_COHORT], _read_cohort, text=True),
    "config_toml": Parser("a.toml", lambda: [_TOML], _read_config, text=True),
    "config_json": Parser("a.json", lambda: [_JSON], _read_config, text=True),
    "trident_h5": _in_embeddings("trident", "a.h5"),
    "clam_h5": _in_embeddings("clam", "h5_files/a.h5"),
    "clam_patches": _in_embeddings("clam", "patches/a.h5", "h5_files/a.h5"),
    "slide2vec_npz": _in_embeddings("slide2vec", "tile_embeddings/a.npz"),
    "slide2vec_pt": replace(
        _in_embeddings("slide2vec", "tile_embeddings/a.pt"), seeds=lambda: [_slide2vec_pt()]
    ),
    "slide2vec_meta": _in_embeddings(
        "slide2vec", "tile_embeddings/a.meta.json", "tile_embeddings/a.npz", text=True
    ),
    "slide2vec_places": _in_embeddings(
        "slide2vec", "tiles/a.coordinates.npz", "tile_embeddings/a.npz"
    ),
    "slide2vec_tiling": _in_embeddings(
        "slide2vec", "tiles/a.coordinates.meta.json", "tile_embeddings/a.npz", text=True
    ),
    "lazyslide_root": _in_embeddings("lazyslide", "a.zarr/zarr.json", "a.zarr", text=True),
    "lazyslide_array": _in_embeddings(
        "lazyslide", "a.zarr/tables/uni_tiles/X/zarr.json", "a.zarr", text=True
    ),
    "lazyslide_chunk": _in_embeddings("lazyslide", "a.zarr/tables/uni_tiles/X/c/0/0", "a.zarr"),
    "lazyslide_shapes": _in_embeddings(
        "lazyslide", "a.zarr/shapes/tiles/shapes.parquet", "a.zarr"
    ),
    "manifest": Parser("a.csv", lambda: [_MANIFEST], _read_manifest, text=True),
    "region_file": Parser("regions.safetensors", lambda: [_region_file()], _read_region_file),
    "summary_json": Parser("summary.json", lambda: [_summary()], _read_summary, text=True),
}  # fmt: skip
