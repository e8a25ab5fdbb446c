"""What counts as abnormal: the same rule from outlines, masks and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from evaluation_fakes import COLUMNS, FIELD, ROWS, grid, lesion, result
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.annotations import Outline, write_asap, write_geojson, write_mask
from wsi_anomaly.core.errors import AnnotationError, UsageError, WsiAnomalyError
from wsi_anomaly.evaluation.tables import read_labels
from wsi_anomaly.evaluation.truth import Truth, merged_lesions


def labels_csv(folder: Path, text: str) -> Truth:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return Truth(read_labels(path, [result(f"scan_0{k}") for k in range(1, 5)]))


def expected() -> np.ndarray:
    """Labels of a lesion over two whole fields and a quarter of a third."""
    labels = grid(at_1_2=1, at_1_3=1, at_1_4=-1).astype(int)
    return labels.ravel()


@pytest.mark.parametrize("kind", ["geojson", "xml", "png"])
def test_outlines_and_masks_label_fields_by_one_rule(tmp_path: Path, kind: str) -> None:
    slide = result()
    path = tmp_path / f"scan_01.{kind}"
    outlines = [lesion(2, 1, columns=2.25)]
    if kind == "xml":
        write_asap(path, outlines)
    elif kind == "png":
        write_mask(path, outlines, slide.size, downsample=2)
    else:
        write_geojson(path, outlines, slide_name="scan_01")
    for place in (tmp_path, path):
        truth = Truth(annotations=place)
        truth.check([slide])
        found = truth.of(slide)
        assert found is not None
        # A mask has pixels: its edge may touch the next field.
        keep = expected() != -1 if kind == "png" else slice(None)
        assert (found.fields == 1).sum() == 2
        np.testing.assert_array_equal(found.fields[keep][:60], expected()[keep][:60])
        assert found.abnormal is True
        assert len(found.lesions or []) == 1


def test_a_file_without_outlines_says_normal_and_no_file_says_nothing(tmp_path: Path) -> None:
    write_geojson(tmp_path / "scan_01.geojson", [], slide_name="scan_01")
    truth = Truth(annotations=tmp_path)
    found = truth.of(result())
    assert found is not None
    assert found.abnormal is False
    assert found.lesions == []
    assert (found.fields == 0).all()
    assert truth.of(result("scan_02")) is None
    normal = Truth(annotations=tmp_path, unannotated_normal=True).of(result("scan_02"))
    assert normal is not None
    assert (normal.fields == 0).all()


def test_a_slide_called_normal_needs_no_file_and_one_called_abnormal_does(tmp_path: Path) -> None:
    write_geojson(tmp_path / "scan_01.geojson", [lesion(0, 0)], slide_name="scan_01")
    table = labels_csv(tmp_path, "slide,label\nscan_01.svs,1\nscan_02,normal\nscan_03,abnormal\n")
    truth = Truth(table.labels, tmp_path)
    first, second, third = (truth.of(result(f"scan_0{i}")) for i in (1, 2, 3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.fields.tolist().count(1) == 1
    assert second.lesions == []
    assert (second.fields == 0).all()
    assert third.abnormal is True
    assert third.lesions is None
    assert (third.fields == -1).all()  # abnormal somewhere: no field may pass for normal
    assert truth.of(result("scan_04")) is None


def test_two_truths_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    write_geojson(tmp_path / "scan_01.geojson", [lesion(0, 0)], slide_name="scan_01")
    table = labels_csv(tmp_path, "slide,label\nscan_01,normal\n")
    with pytest.raises(AnnotationError, match=r"calls scan_01\.svs normal, but its annotation"):
        Truth(table.labels, tmp_path).of(result())


def test_classes_choose_outlines_and_the_others_are_normal_tissue(tmp_path: Path) -> None:
    outlines = [lesion(0, 0, label="Tumour"), lesion(4, 4, label="Fat")]
    write_geojson(tmp_path / "scan_01.geojson", outlines, slide_name="scan_01")
    found = Truth(annotations=tmp_path, classes=("Tumour",)).of(result())
    assert found is not None
    assert np.flatnonzero(found.fields == 1).tolist() == [0]
    assert found.fields[4 * COLUMNS + 4] == 0
    write_geojson(tmp_path / "scan_01.geojson", [lesion(0, 0, label="")], slide_name="scan_01")
    with pytest.raises(AnnotationError, match="have no class; leave --class out"):
        Truth(annotations=tmp_path, classes=("Tumour",)).of(result())


def test_qupath_counts_from_the_scanned_area_and_asap_from_the_file(tmp_path: Path) -> None:
    corner = (5 * FIELD, 3 * FIELD)
    slide = result(bounds=corner)
    slide.table.coords[:] += corner
    write_geojson(tmp_path / "scan_01.geojson", [lesion(2, 1)], slide_name="scan_01")
    found = Truth(annotations=tmp_path).of(slide)
    assert found is not None
    assert np.flatnonzero(found.fields == 1).tolist() == [COLUMNS + 2]
    (tmp_path / "scan_01.geojson").unlink()
    write_asap(tmp_path / "scan_01.xml", [lesion(7, 4)])
    found = Truth(annotations=tmp_path).of(slide)
    assert found is not None
    assert np.flatnonzero(found.fields == 1).tolist() == [COLUMNS + 2]


def test_self_crossing_outlines_are_repaired(tmp_path: Path) -> None:
    bow_tie = '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[0,0],[256,256],[256,0],[0,256],[0,0]]]},"properties":{}}'  # noqa: E501
    (tmp_path / "scan_01.geojson").write_text(bow_tie)
    found = Truth(annotations=tmp_path).of(result())
    assert found is not None
    assert (found.lesions or [])[0].is_valid
    assert (found.lesions or [])[0].area == pytest.approx(256 * 256 / 2)


def test_what_was_drawn_elsewhere_or_is_broken_is_named(tmp_path: Path) -> None:
    far = Outline("Lesion", shapely.box(50_000, 50_000, 60_000, 60_000))
    write_geojson(tmp_path / "scan_01.geojson", [far], slide_name="scan_01")
    with pytest.raises(AnnotationError, match=r"scan_01\.geojson was not drawn on"):
        Truth(annotations=tmp_path).of(result())
    (tmp_path / "scan_02.xml").write_text("<ASAP_Annotations><Annotations>")
    with pytest.raises(AnnotationError, match=r"scan_02\.xml is broken XML"):
        Truth(annotations=tmp_path).of(result("scan_02"))


def test_labels_of_fields_are_found_by_their_corners(tmp_path: Path) -> None:
    truth = labels_csv(
        tmp_path, "slide,x,y,label\nscan_01,0,0,1\nscan_01,128.9,0,0\nscan_01,300,0,1\n"
    )
    found = truth.of(result())
    assert found is not None
    assert found.fields[:3].tolist() == [1, 0, -1]  # 300 is the corner of no field
    assert found.abnormal is True
    assert found.lesions is None
    rest = labels_csv(tmp_path, "slide,x,y,label\nscan_01,0,0,0\n").of(result())
    assert rest is not None
    assert rest.abnormal is None  # one normal field does not make a normal slide
    lines = [f"scan_01,{x * FIELD},{y * FIELD},0" for x in range(COLUMNS) for y in range(ROWS)]
    whole = labels_csv(tmp_path, "\n".join(["slide,x,y,label", *lines])).of(result())
    assert whole is not None
    assert whole.abnormal is False


def test_labels_that_match_no_field_are_named(tmp_path: Path) -> None:
    truth = labels_csv(tmp_path, "slide,x,y,label\nscan_01,31,64,1\nscan_01,95,64,0\n")
    with pytest.raises(WsiAnomalyError, match=r"2 labels of scan_01\.svs, none of them at a field"):
        truth.of(result())


def test_truth_that_cannot_be_of_these_slides_is_refused(tmp_path: Path) -> None:
    slides = [result("scan_01"), result("scan_02")]
    one = tmp_path / "one.geojson"
    write_geojson(one, [], slide_name="")
    fields = labels_csv(tmp_path, "slide,x,y,label\nscan_01,0,0,1\n").labels
    for truth, message in (
        (Truth(), "nothing to compare with; give --labels or --annotations"),
        (Truth(annotations=one), "cannot be right for 2 slides"),
        (Truth(annotations=tmp_path / "nowhere"), "does not exist"),
        (Truth(annotations=tmp_path), r"no file for any of the slides \(such as scan_01\.geojson"),
        (Truth(fields, tmp_path), "both say which fields are abnormal"),
        (Truth(fields, classes=("Tumour",)), "give --annotations"),
    ):
        with pytest.raises(UsageError, match=message):
            truth.check(slides)


def test_lesions_near_to_one_another_are_one() -> None:
    boxes = [shapely.box(x, 0, x + 100, 100) for x in (0, 200, 400)]
    assert len(merged_lesions(boxes, (0.5, 0.5), 49)) == 3  # 100 px are 50 um
    assert len(merged_lesions(boxes, (0.5, 0.5), 51)) == 1
    assert merged_lesions([], (0.5, 0.5), 75) == []


@given(
    st.lists(st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 6)] * 2), min_size=1, max_size=8)
)
def test_merging_keeps_every_lesion_once(boxes: list[tuple[int, int, int, int]]) -> None:
    polygons = [shapely.box(x, y, x + w, y + h) for x, y, w, h in boxes]
    merged = merged_lesions(polygons, (1.0, 1.0), 3.0)
    assert shapely.union_all(merged).equals(shapely.union_all(polygons))
    assert all(a.distance(b) >= 3 - 0.1 for i, a in enumerate(merged) for b in merged[:i])
