"""``wsi-anomaly preview``: a contact sheet shows what a tile file holds."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from wsi_anomaly.cli.main import main
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import Status, TileConfig, TileStore, tile_slide
from wsi_anomaly.tiles.contact_sheet import contact_sheet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview")
    make_slide(folder / "scan.tif", seed=3, size_px=(1024, 1024))
    config = TileConfig(magnifications=(10, 20), max_tiles=14)
    tile_slide(folder / "scan.tif", folder / "tiles", config)
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB"))


def contains(sheet: np.ndarray, tile: np.ndarray) -> bool:
    """Whether the enlarged tile stands somewhere on the sheet, pixel by pixel."""
    factor = 256 // len(tile)
    large = tile.repeat(factor, 0).repeat(factor, 1)
    for y in range(len(sheet) - 255):
        starts = (sheet[y, :-255] == large[0, 0]).all(-1) & (sheet[y, 255:] == large[0, -1]).all(-1)
        if any((sheet[y : y + 256, x : x + 256] == large).all() for x in np.flatnonzero(starts)):
            return True
    return False


def test_it_shows_fields_before_and_after_at_each_magnification(folder: Path) -> None:
    from wsi_anomaly.slides import open_slide

    assert main(["preview", str(folder / "tiles" / "scan.h5"), "-q"]) == 0
    sheet = pixels(folder / "tiles" / "scan.sheet.png")
    store = TileStore.open(folder / "tiles" / "scan.h5")
    shown = [k for k in range(len(store)) if contains(sheet, store.images(10, [k])[0])]
    assert len(shown) == min(12, int((store.status == Status.OK).sum()))
    for k in shown[:3]:
        assert contains(sheet, store.images(20, [k])[0])
        with open_slide(folder / "scan.tif") as slide:
            x, y = store.coords[k].tolist()
            assert contains(sheet, slide.read(x, y, (128, 128), 0.5).rgb)


def test_it_shows_what_is_not_usable(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "scan.h5"
    copy.write_bytes((folder / "tiles" / "scan.h5").read_bytes())
    with h5py.File(copy, "r+") as file:
        file["status"][:8] = Status.PEN
    store = TileStore.open(copy)
    sheet, note = contact_sheet(store)
    assert note == ""
    for index in range(8):  # the last one too is whole
        assert contains(np.asarray(sheet), store.images(20, [index])[0])


def test_without_its_slide_it_shows_the_rest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "scan.h5"
    copy.write_bytes((folder / "tiles" / "scan.h5").read_bytes())
    with h5py.File(copy, "r+") as file:
        file.attrs["slide_path"] = str(tmp_path / "gone.tif")
    assert main(["preview", str(copy), "-o", str(tmp_path / "sheet.png")]) == 0
    assert "cannot be read any more" in capsys.readouterr().err
    assert (tmp_path / "sheet.png").exists()


def test_a_folder_of_tile_files_with_a_damaged_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.h5").write_bytes((folder / "tiles" / "scan.h5").read_bytes())
    (tmp_path / "bad.h5").write_bytes(b"nothing")
    assert main(["preview", str(tmp_path), "-o", str(tmp_path / "sheets")]) == 1
    printed = capsys.readouterr().err
    assert "Error: " in printed
    assert "bad.h5 is damaged" in printed
    assert [file.name for file in (tmp_path / "sheets").iterdir()] == ["good.sheet.png"]


@pytest.mark.parametrize("arguments", [["none.h5"], []])
def test_wrong_usage(arguments: list[str]) -> None:
    assert main(["preview", *arguments]) == 2
