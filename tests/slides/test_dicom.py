"""One DICOM slide is a series of files: one slide in listing, cases, calibration and identity."""

from __future__ import annotations

import csv
import shutil
import warnings

import numpy as np
import pytest
from dicom_series import write_series
from slide_files import stained, tissue_slide

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import NotASlideError
from wsi_anomaly.slides import find_slides, open_slide, slide_fingerprint
from wsi_anomaly.slides.dicom import parts_of_slides, read_dicom
from wsi_anomaly.slides.listing import list_slides


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom") / "slides"
    return write_series(folder, stained(1000, 1300))


def test_a_series_is_one_slide_named_by_its_finest_file(series):
    assert find_slides([series.parent]) == [series]
    others = sorted(set(series.parent.iterdir()) - {series})
    assert parts_of_slides(series.parent.iterdir()) == dict.fromkeys(others, series)
    assert find_slides([others[0], series]) == [series]


def test_a_series_has_one_line_in_slides_csv(series, tmp_path):
    assert main(["tile", str(series.parent), "-o", str(tmp_path / "t"), "--min-tissue", "0"]) == 0
    with (tmp_path / "t" / "slides.csv").open(encoding="utf-8-sig") as file:
        rows = {row["slide"]: (row["status"], row["reason"]) for row in csv.DictReader(file)}
    assert {slide: status for slide, (status, _) in rows.items()} == {str(series): "done"}
    assert [file.name for file in (tmp_path / "t").glob("*.h5")] == ["finest.h5"]


def test_every_file_of_a_series_has_the_identity_and_the_pixels_of_the_slide(series):
    with open_slide(series) as slide:
        assert (slide.width, slide.height, slide.mpp.x) == (1300, 1000, 0.5)
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        whole = slide.read_level(0, 0, 0, 1300, 1000).rgb
    for file in series.parent.iterdir():
        assert slide_fingerprint(file) == slide_fingerprint(series)
        with open_slide(file) as slide:
            np.testing.assert_array_equal(slide.read_level(0, 0, 0, 1300, 1000).rgb, whole)


def test_slides_of_one_folder_are_told_apart_and_copies_are_not(series, tmp_path):
    folder = tmp_path / "mixed"
    first = write_series(folder / "first", stained(600, 600), seed="1")
    second = write_series(folder / "second", stained(600, 600), seed="2")
    copy = shutil.copytree(first.parent, folder / "copy") / first.name
    tissue_slide(folder / "other.tif")
    assert find_slides([folder]) == sorted([first, second, copy, folder / "other.tif"])
    assert slide_fingerprint(first) == slide_fingerprint(copy) != slide_fingerprint(second)
    together = tmp_path / "together"
    together.mkdir()
    for number, slide in enumerate((first, second)):
        for file in slide.parent.iterdir():
            shutil.copy(file, together / f"{number}_{file.name}")
    assert find_slides([together]) == [together / "0_finest.dcm", together / "1_finest.dcm"]


def test_a_series_split_over_folders_is_one_slide(series, tmp_path):
    places = {"finest.dcm": "a", "level.dcm": "a", "a_level.dcm": "b", "label.dcm": "c"}
    for name, folder in places.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(series.parent / name, tmp_path / folder / name)
    finest = tmp_path / "a" / "finest.dcm"
    listing = list_slides([tmp_path])
    assert listing.slides == (finest,)
    reasons = {other.path.name: other.reason for other in listing.others}
    assert "level.dcm" not in reasons  # read with finest.dcm, so they are one
    assert reasons["label.dcm"].startswith(f"of {finest}, which is read without it")
    copy = shutil.copytree(tmp_path / "a", tmp_path / "z")
    assert find_slides([tmp_path]) == [finest, copy / "finest.dcm"]


def test_archives_name_dicom_files_by_numbers(series, tmp_path):
    names = dict(zip(sorted(series.parent.iterdir()), ("I1", "I2", "1.2.840.3", "I4.dicom", "I5"),
                     strict=True))  # fmt: skip
    for file, name in names.items():
        shutil.copy(file, tmp_path / name)
    (tmp_path / "README").write_text("no DICOM")
    (tmp_path / "I9").write_bytes(bytes(128) + b"DICM" + b"noise")
    assert find_slides([tmp_path]) == [tmp_path / names[series]]


@pytest.mark.parametrize("damage", ["cut", "noise", "no magic"])
def test_a_damaged_file_is_a_slide_of_its_own_that_cannot_be_opened(series, tmp_path, damage):
    path = tmp_path / "s.dcm"
    data = bytearray(series.read_bytes())
    if damage == "cut":
        del data[200:]
    elif damage == "noise":
        data[150:4000] = np.random.default_rng(0).bytes(3850)
    else:
        data[128:132] = b"none"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged value is nothing to print
        assert read_dicom(path) is None
    assert find_slides([tmp_path]) == [path]
    with pytest.raises(NotASlideError):
        open_slide(path)


def test_reported_series(field_case):
    folder = field_case("dicom_one_slide_many_files") / "slides"
    assert find_slides([folder]) == [folder / "1.dcm"]
    assert len({slide_fingerprint(file) for file in folder.iterdir()}) == 1
