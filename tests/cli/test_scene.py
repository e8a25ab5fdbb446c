"""``--scene``: another image of a file than its largest, from tile to calibration and viewer."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.options import CalibrateOptions, ScoreOptions, TileOptions
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileStore


@pytest.fixture(scope="module")
def two_scenes(tmp_path_factory):
    """A file of two scenes: 600 x 600, and 800 x 800 that are taken unless told otherwise."""
    folder = tmp_path_factory.mktemp("scenes")
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate"}
    with tifffile.TiffWriter(folder / "two.ome.tif", ome=True) as tif:
        for number, side in enumerate((600, 800), 1):
            drawn = folder / f"{number}.drawn"
            make_slide(drawn, seed=number, size_px=(side, side), mpp=0.5)
            described = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            image = np.asarray(tifffile.imread(drawn, key=0))
            tif.write(image, metadata=described | {"Name": f"scene {number}"}, **options)
    return folder / "two.ome.tif"


def test_tile_takes_the_scene_and_says_what_it_does_not_look_at(two_scenes, tmp_path):
    for scene, width, left in (("1", 600, "scene 2"), (None, 800, "scene 1")):
        asked = ["--scene", scene] if scene else []
        assert main(["tile", str(two_scenes), "-o", str(tmp_path), *asked, "-q"]) == 0
        store = TileStore.open(tmp_path / "two.ome.h5")
        assert store.slide_size == (width, width)
        assert store.scene == (int(scene) if scene else None)
        with (tmp_path / "slides.csv").open(encoding="utf-8-sig") as file:
            [row] = csv.DictReader(file)
        assert f"{left} ({1400 - width} x {1400 - width}) is not looked at" in row["reason"]


def test_score_takes_the_scene_and_does_not_keep_the_result_of_another(two_scenes, tmp_path):
    for asked, width in (([], 800), (["--scene", "1"], 600), (["--scene", "1"], 600)):
        command = ["score", str(two_scenes), "-o", str(tmp_path), "--min-tissue", "0.1", *asked]
        assert main([*command, "-q"]) == 0
        summary = json.loads((tmp_path / "two.ome" / "summary.json").read_text())
        assert summary["slide"]["size_px"] == [width, width]
        assert summary["settings"].get("scene") == (1 if asked else None)
        assert any("is not looked at" in warning for warning in summary["warnings"])
    with (tmp_path / "slides.csv").open(encoding="utf-8-sig") as file:
        [row] = csv.DictReader(file)
    assert "is not looked at" in row["note"]


def test_info_takes_the_scene(two_scenes, capsys):
    assert main(["info", str(two_scenes), "--scene", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["size_px"] == [600, 600]
    assert main(["info", str(two_scenes), "--scene", "4"]) == 1
    assert "has no image 4, only 2" in capsys.readouterr().err


@pytest.mark.parametrize("options", [TileOptions, ScoreOptions, CalibrateOptions])
def test_images_are_counted_from_one(options):
    with pytest.raises(UsageError, match="counted from 1"):
        options(scene=0)
