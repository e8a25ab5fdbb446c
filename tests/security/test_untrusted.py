"""Files of strangers run nothing, write nothing elsewhere, and cannot eat the machine."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.annotations import read_asap, read_geojson
from wsi_anomaly.annotations.masks import read_mask
from wsi_anomaly.calibration import Calibration
from wsi_anomaly.cli.main import main
from wsi_anomaly.core import remote
from wsi_anomaly.core.errors import (
    AnnotationError,
    ModelError,
    NotASlideError,
    TileStoreError,
    UsageError,
    WsiAnomalyError,
)
from wsi_anomaly.core.file_names import output_name
from wsi_anomaly.core.remote import url_of
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.core.tables import plain_cell, safe_cell
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.detectors import Model
from wsi_anomaly.features.weights import read_weights
from wsi_anomaly.jobs import Outcome
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.screening.slide import result_folders
from wsi_anomaly.slides import open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.tiles.jobs import Job, plan_jobs
from wsi_anomaly.tiles.slides_table import COLUMNS, write_slides_table
from wsi_anomaly.training.config import load_config

# -- names ---------------------------------------------------------------------------------------

NAMES = ["..tif", "...tif", ".hidden.tif", "....svs", ".. .tif", "-rf.tif", "a\nb.tif", "~.tif"]


def is_in(folder: Path, path: Path) -> bool:
    return path.resolve().parent == folder.resolve()


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_slide_leads_out_of_the_outputs(tmp_path: Path, name: str) -> None:
    slide = tmp_path / name
    folder = result_folders([slide], tmp_path / "results")[slide]
    assert is_in(tmp_path / "results", folder)
    assert not folder.name.startswith(".")  # hidden, it would be missing in the worklist
    [job] = plan_jobs([slide], tmp_path / "tiles")
    assert is_in(tmp_path / "tiles", tmp_path / "tiles" / f"{job.name}.h5")
    assert not job.name.startswith(".")


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=30))
def test_any_name_gives_one_folder_inside(name: str) -> None:
    made = output_name(f"folder/{name}")
    assert made
    assert not made.startswith(".")
    assert "/" not in made


def test_a_slide_of_dots_leaves_other_results_alone(tmp_path: Path) -> None:
    make_slide(tmp_path / "..tif", seed=1, size_px=(256, 256), mpp=1.0)
    make_slide(tmp_path / "a.tif", seed=2, size_px=(256, 256), mpp=1.0)
    config = TileConfig(magnifications=(10,), stain="none")
    for name in ("a.tif", "..tif"):
        tile_slide(tmp_path / name, tmp_path / "tiles", config)
    assert {path.name for path in (tmp_path / "tiles").glob("*.h5")} == {"a.h5", "slide.h5"}


def test_cells_are_no_formulas_and_come_back(tmp_path: Path) -> None:
    job = Job(Path("=HYPERLINK(1).tif"), "=HYPERLINK(1)", case="@SUM(1)")
    for _ in range(2):  # the table is read and written again
        write_slides_table(tmp_path / "slides.csv", [Outcome(job, None, "-1 is wrong.")])
    with open(tmp_path / "slides.csv", newline="") as file:
        [row] = list(csv.DictReader(file))
    assert row["slide"] == "'=HYPERLINK(1).tif"
    assert not [row[name] for name in COLUMNS if row[name][:1] in set("=+-@")]


@given(st.text())
def test_a_guarded_cell_is_no_formula(text: str) -> None:
    guarded = safe_cell(text)
    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain_cell(guarded) == text


# -- code ----------------------------------------------------------------------------------------


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["pth", "npz", "safetensors"])
def test_pickles_are_not_run(tmp_path: Path, kind: str) -> None:
    mark, path = tmp_path / "run", tmp_path / f"weights.{kind}"
    if kind == "pth":
        torch.save({"a": Evil(mark)}, path)
    elif kind == "npz":
        np.savez(path, a=np.array([Evil(mark)], dtype=object))
    else:
        path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(ModelError):
        read_weights(path)
    assert not mark.exists()


# -- size ----------------------------------------------------------------------------------------

DEEP = "[" * 200_000


@pytest.fixture(scope="module")
def tile_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("tiles")
    make_slide(folder / "s.tif", seed=1, size_px=(256, 256), mpp=1.0)
    config = TileConfig(magnifications=(10,), tile_size=16, max_tiles=3, stain="none")
    return tile_slide(folder / "s.tif", folder, config).path.read_bytes()


def test_json_that_is_nested_without_end(tmp_path: Path, tile_file: bytes) -> None:
    for name in ("summary.json", "model.json", "c.json", "c.geojson"):
        (tmp_path / name).write_text(DEEP)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "c.toml").write_text("a = " + DEEP)
    assert read_summary(tmp_path) is None
    with pytest.raises(ModelError):
        Model.load(tmp_path)
    for name in ("c.json", "c.toml"):
        with pytest.raises(UsageError):
            load_config(str(tmp_path / name))
    with pytest.raises(AnnotationError):
        read_geojson(tmp_path / "c.geojson")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "d.safetensors", metadata={"json": DEEP})
    with pytest.raises(ModelError):
        load_tensors(tmp_path / "d.safetensors")


def changed(tmp_path: Path, tile_file: bytes) -> Path:
    path = tmp_path / "t.h5"
    path.write_bytes(tile_file)
    return path


@pytest.mark.parametrize("name", ["coords", "status", "tissue_fraction"])
def test_a_tile_file_that_claims_terabytes(tmp_path: Path, tile_file: bytes, name: str) -> None:
    path = changed(tmp_path, tile_file)
    with h5py.File(path, "r+") as file:
        kind, shape = file[name].dtype, (1 << 38, *file[name].shape[1:])
        del file[name]
        file.create_dataset(name, shape, kind, chunks=(1 << 16, *shape[1:]))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(TileStoreError, match="claims more than the file holds"):
        TileStore.open(path)


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual"])
def test_a_tile_file_that_points_elsewhere(tmp_path: Path, tile_file: bytes, how: str) -> None:
    path, other = changed(tmp_path, tile_file), tmp_path / "secret.h5"
    other.write_bytes(tile_file)
    with h5py.File(path, "r+") as file:
        shape, kind = file["coords"].shape, file["coords"].dtype
        del file["coords"]
        if how == "external link":
            file["coords"] = h5py.ExternalLink(str(other), "coords")
        elif how == "soft link":
            file["coords"] = h5py.SoftLink("/row")
        elif how == "external storage":
            file.create_dataset("coords", shape, kind, external=[(str(other), 0, 1 << 20)])
        else:
            layout = h5py.VirtualLayout(shape, kind)
            layout[:] = h5py.VirtualSource(str(other), "coords", shape)
            file.create_virtual_dataset("coords", layout)
    with pytest.raises(TileStoreError, match="another file"):
        TileStore.open(path)


def test_a_tile_file_from_which_hdf5_never_comes_back(tmp_path: Path, tile_file: bytes) -> None:
    """Found by fuzzing: free space without a size, which the library reads for ever."""
    data = bytearray(tile_file)
    place = data.index(b"GCOL") + 16
    while (number := int.from_bytes(data[place : place + 2], "little")) > 0:
        size = int.from_bytes(data[place + 8 : place + 16], "little")
        place += 16 + -(-size // 8) * 8
    assert number == 0
    data[place + 8 : place + 16] = bytes(8)
    path = tmp_path / "t.h5"
    path.write_bytes(data)
    script = "import sys; from wsi_anomaly.tiles import TileStore; TileStore.open(sys.argv[1])"
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "a heap of its texts is broken" in ran.stderr


def test_weights_that_unpack_to_terabytes(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 32,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(1000))
    # The directory at the end claims what a bomb would hold.
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xFFFFFFFE).to_bytes(4, "little")
    path.write_bytes(data)
    from wsi_anomaly.features import weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_LARGEST_BYTES", 1 << 31)
        with pytest.raises(ModelError):
            read_weights(path)


def test_a_geojson_that_unpacks_to_more_than_is_read(tmp_path: Path) -> None:
    from wsi_anomaly.annotations import qupath

    path = tmp_path / "bomb.geojson.gz"
    path.write_bytes(gzip.compress(b" " * 20_000_000))
    assert path.stat().st_size < 100_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qupath, "_LARGEST_BYTES", 10_000_000)
        with pytest.raises(AnnotationError, match="holds more than"):
            read_geojson(path)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + kind + content
            + zlib.crc32(kind + content).to_bytes(4, "big")
        )  # fmt: skip

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [16_000, 60_000, 2_000_000_000])
def test_a_mask_of_impossible_size(tmp_path: Path, side: int) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(AnnotationError):
        read_mask(path)


def test_a_tiff_mask_of_impossible_size(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(60_000)
    with pytest.raises(AnnotationError):
        read_mask(path)


# -- XML -----------------------------------------------------------------------------------------

LAUGHS = "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' if i else '<!ENTITY l0 "ha">' for i in range(12)
)
ATTACKS = {
    "laughs": f"<!DOCTYPE a [{LAUGHS}]><ASAP_Annotations>&l11;</ASAP_Annotations>",
    "external": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<ASAP_Annotations>&x;</ASAP_Annotations>",
    "parameter": '<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><ASAP_Annotations/>',
    "dtd": '<!DOCTYPE a SYSTEM "http://localhost:9/a.dtd"><ASAP_Annotations/>',
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_xml_entities_are_refused(tmp_path: Path, attack: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(ATTACKS[attack])
    with pytest.raises(AnnotationError) as caught:
        read_asap(path)
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize("attack", ATTACKS)
def test_entities_in_a_slides_description_are_not_resolved(tmp_path: Path, attack: str) -> None:
    path = tmp_path / "s.ome.tif"
    text = ATTACKS[attack].replace("ASAP_Annotations", "OME")
    tifffile.imwrite(
        path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(32, 32),
        description=text, metadata=None,
    )  # fmt: skip
    try:
        with open_slide(path, require_mpp=False) as slide:
            said = list(slide.properties.values())
    except WsiAnomalyError as error:
        said = [str(error)]
    assert not [text for text in said if "root:" in text or "hahaha" in text]


# -- what Python itself sees ---------------------------------------------------------------------


def test_opening_a_model_starts_nothing_and_writes_nothing() -> None:
    """Python reports every file, process, pickle and connection to a hook."""
    folder = min(file.parent for file in models_folder().glob("*/model.json"))
    script = (
        "import sys\n"
        "from wsi_anomaly.detectors import Model\n"
        "import wsi_anomaly.baselines\n"
        "forbidden = []\n"
        "def hook(event, arguments):\n"
        "    mode = arguments[1] if event == 'open' and isinstance(arguments[1], str) else 'r'\n"
        "    writes = mode[:1] in 'wax' or '+' in mode\n"
        "    starts = event in ('subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn')\n"
        "    runs = event in ('pickle.find_class', 'socket.connect')\n"
        "    if writes or starts or runs: forbidden.append((event, arguments))\n"
        "sys.addaudithook(hook)\n"
        "Model.load(sys.argv[1])\n"
        "print(forbidden)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


# -- connections and memory ----------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses to which a connection was tried."""
    found: list[str] = []

    def tried(path, *_arguments):
        found.append(url_of(path))
        raise NotASlideError(f"{url_of(path)} cannot be reached (a test); check the address.")

    monkeypatch.setattr(remote, "remote_place", tried)
    monkeypatch.setattr("wsi_anomaly.slides.sources.remote_place", tried)
    return found


def tiles_of_a_stranger(folder: Path, address: str, cases: int) -> Path:
    """Tile files as `tile` makes them, whose slide lies at an address."""
    for number in range(cases):
        slide = make_slide(folder / f"s{number}.tif", seed=number, size_px=(320, 320), mpp=1.0)
        made = tile_slide(slide.path, folder / "tiles", TileConfig(magnifications=(10,)))
        with h5py.File(made.path, "r+") as file:
            file.attrs["slide_path"] = address
    return folder / "tiles"


STRANGER = "http://127.0.0.1:9/spy.tif"


def test_preview_opens_no_address_that_a_tile_file_names(
    tmp_path: Path,
    called: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiles = tiles_of_a_stranger(tmp_path, STRANGER, 1)
    code, printed = main(["preview", str(tiles)]), capsys.readouterr().err
    assert code == 0
    assert called == []
    assert f"its slide is at {STRANGER}, to which no connection is made unasked" in printed
    assert (tiles / "s0.sheet.png").is_file()
    monkeypatch.setenv("WSI_ANOMALY_CONNECT", "http://127.0.0.1:9")
    assert main(["preview", str(tiles)]) == 0
    assert called == [STRANGER]


def test_train_opens_no_address_that_a_tile_file_names(
    tmp_path: Path, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = tiles_of_a_stranger(tmp_path, STRANGER, 5)
    out = str(tmp_path / "model")
    code = main(["train", str(tiles), "-o", out, "--detector", "density"])
    printed = " ".join(capsys.readouterr().err.split())
    assert code == 0, printed
    assert called == []
    assert f"Not used for calibration: {tiles}" in printed
    assert "to which no connection is made unasked" in printed


@pytest.mark.parametrize(
    "address",
    [
        "http://labour.org/a.tif",  # begins like the lab's, and is another
        "http://lab.org.evil.com/a.tif",
        "https://lab.org/a.tif",
        "http://lab.org/a.zip::http://evil.com/a.zip",
        "zip://a.tif::http://lab.org/a.zip",
    ],
)
def test_only_the_places_named_are_connected_to(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("WSI_ANOMALY_CONNECT", "s3://bucket/slides http://lab.org")
    for allowed in ("http://lab.org/a.tif", "s3://bucket/slides/x/a.svs", "/a/file.tif"):
        remote.check_may_connect(Path(allowed), Path("tiles/a.h5"))
    with pytest.raises(NotASlideError, match="no connection is made unasked"):
        remote.check_may_connect(Path(address), Path("tiles/a.h5"))


@pytest.mark.parametrize(("row", "col"), [(2**31 - 1, 0), (0, -(2**31)), (30_000, 30_000)])
def test_a_far_field_of_a_model_costs_no_memory(row: int, col: int) -> None:
    """The map of a slide is made whole: two numbers of a file would ask for gigabytes."""
    arrays = {
        "row": np.array([0, row], np.int32),
        "col": np.array([0, col], np.int32),
        "score": np.zeros(2, np.float32),
    }
    slides = [{"case": "a", "slide": "a", "fields": 2, "sampled": 1.0}]
    with pytest.raises(ModelError, match="too far apart"):
        Calibration.from_state(arrays, {"version": 1, "slides": slides})
