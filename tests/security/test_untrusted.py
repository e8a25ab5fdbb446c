"""Files of strangers run nothing, write nothing elsewhere, and open no connection."""

from __future__ import annotations

import csv
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.annotations import read_asap
from wsi_anomaly.calibration import Calibration
from wsi_anomaly.cli.main import main
from wsi_anomaly.core import remote
from wsi_anomaly.core.errors import (
    AnnotationError,
    ModelError,
    NotASlideError,
    WsiAnomalyError,
)
from wsi_anomaly.core.file_names import output_name
from wsi_anomaly.core.remote import url_of
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.core.tables import plain_cell, safe_cell
from wsi_anomaly.features.weights import read_weights
from wsi_anomaly.jobs import Outcome
from wsi_anomaly.screening.slide import result_folders
from wsi_anomaly.slides import open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, tile_slide
from wsi_anomaly.tiles.jobs import Job, plan_jobs
from wsi_anomaly.tiles.slides_table import COLUMNS, write_slides_table

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
