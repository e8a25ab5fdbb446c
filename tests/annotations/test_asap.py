"""ASAP and Camelyon XML, as those files are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from outline_files import write_asap
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.annotations import Outline, read_asap, read_outlines
from wsi_anomaly.core.errors import AnnotationError


def annotation(points, group="Tumor", kind="Polygon", name="Annotation 0"):
    coordinates = "".join(
        f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(points)
    )
    return (
        f'<Annotation Name="{name}" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{coordinates}</Coordinates></Annotation>"
    )


def document(*annotations, head=""):
    return (
        f'<?xml version="1.0"?>\n{head}<ASAP_Annotations><Annotations>{"".join(annotations)}'
        '</Annotations><AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#64FE2E">'
        "<Attributes /></Group></AnnotationGroups></ASAP_Annotations>"
    )


def square(left, top, side):
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]


@pytest.fixture
def read(tmp_path):
    def reader(text):
        path = tmp_path / "slide 1.xml"
        path.write_text(text, encoding="utf-8")
        return read_outlines(path)

    return reader


def test_the_group_is_the_label_and_the_points_are_level0_pixels(read):
    (outline,) = read(document(annotation(square(10.5, 20, 100), "_0")))
    assert outline.label == "_0"
    assert outline.polygon.bounds == (10.5, 20, 110.5, 120)
    assert outline.polygon.area == pytest.approx(10_000)


def test_an_annotation_without_a_group_has_no_label(read):
    assert [o.label for o in read(document(annotation(square(0, 0, 9), "None")))] == [""]


@pytest.mark.parametrize("group", ["_2", "Exclusion", "exclusion"])
def test_an_exclusion_is_cut_out_of_the_tumour(read, group):
    text = document(annotation(square(0, 0, 100)), annotation(square(20, 20, 10), group))
    (outline,) = read(text)
    assert outline.label == "Tumor"
    assert outline.polygon.area == pytest.approx(100**2 - 10**2)
    assert len(outline.polygon.interiors) == 1


def test_an_island_inside_a_hole_stays(read):
    text = document(
        annotation(square(0, 0, 100)),
        annotation(square(20, 20, 50), "Exclusion"),
        annotation(square(30, 30, 10)),
    )
    areas = [o.polygon.area for o in read(text)]
    assert areas == pytest.approx([100**2 - 50**2, 10**2])


def test_an_exclusion_over_everything_leaves_nothing(read):
    text = document(annotation(square(0, 0, 10)), annotation(square(-5, -5, 30), "_2"))
    # What lies wholly inside an exclusion is an island, see above.
    assert len(read(text)) == 1
    text = document(annotation(square(0, 0, 10)), annotation(square(-5, -5, 14), "_2"))
    assert read(text)[0].polygon.area == pytest.approx(100 - 81)


def test_points_are_taken_in_their_written_order(read):
    shuffled = (
        '<Annotation Name="a" Type="Spline" PartOfGroup="Tumor"><Coordinates>'
        '<Coordinate Order="2" X="10" Y="10"/><Coordinate Order="0" X="0" Y="0"/>'
        '<Coordinate Order="3" X="0" Y="10"/><Coordinate Order="1" X="10" Y="0"/>'
        "</Coordinates></Annotation>"
    )
    assert read(document(shuffled))[0].polygon.area == pytest.approx(100)


def test_a_self_crossing_outline_is_repaired(read):
    (outline,) = read(document(annotation([(0, 0), (10, 10), (10, 0), (0, 10)])))
    assert outline.polygon.is_valid
    assert outline.polygon.area == pytest.approx(50)


@pytest.mark.parametrize("group", ["normal", "Normal"])
def test_camelyon17s_normal_is_cut_out_and_is_no_lesion(read, group):
    text = document(
        annotation(square(0, 0, 100), "metastases"), annotation(square(20, 20, 10), group)
    )
    lesion, normal = read(text)
    assert lesion.label == "metastases"
    assert lesion.polygon.area == pytest.approx(100**2 - 10**2)
    assert (lesion.is_normal, normal.is_normal) == (False, True)
    assert normal.polygon.area == pytest.approx(100)


def test_dots_measurements_and_stray_clicks_are_left_out_and_counted(tmp_path):
    text = document(
        annotation([(1, 1)], kind="Dot"),
        annotation([(1, 1), (5, 5)], kind="Measurement"),
        annotation([(1, 1), (5, 5), (9, 9)]),
        annotation([(1, 1), (2, 2)]),
        annotation(square(0, 0, 10)),
    )
    path = tmp_path / "slide 1.xml"
    path.write_text(text)
    said: list[str] = []
    assert len(read_outlines(path, note=said.append)) == 1
    assert "slide 1.xml: 4 of 5 objects are points or lines" in said[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_no_harm(tmp_path, encoding):
    path = tmp_path / "slide 1.xml"
    text = document(annotation(square(0, 0, 10))).replace('<?xml version="1.0"?>', "")
    path.write_text(text, encoding=encoding)
    assert len(read_outlines(path)) == 1


def test_no_annotations_are_no_outlines(read):
    assert read(document()) == []


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n'
EXTERNAL = '<!DOCTYPE x SYSTEM "file:///etc/passwd">\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (document(annotation(square(0, 0, 9)))[:-30], "broken XML"),
        ("", "broken XML"),
        ("no XML at all", "broken XML"),
        ("<Annotations><Annotation/></Annotations>", "no ASAP annotation"),
        (document(annotation([(1, 1)], kind="Dot")), "marks no area"),
        (document(head=BOMB), "document type"),
        (document(head=EXTERNAL), "document type"),
        (document(annotation([(0, 0), ("nan", 1), (5, 5)])), "no pair of pixels"),
        (document(annotation([(0, 0), ("1e400", 1), (5, 5)])), "no pair of pixels"),
        (document(annotation([(0, 0), ("", 1), (5, 5)])), "no pair of pixels"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_it(read, text, says):
    with pytest.raises(AnnotationError, match=says) as caught:
        read(text)
    assert "slide 1.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"nowhere\.xml cannot be read"):
        read_asap(tmp_path / "nowhere.xml")


def test_an_enormous_file_is_not_read(tmp_path):
    path = tmp_path / "huge.xml"
    with open(path, "wb") as file:
        file.truncate(1 << 29)  # sparse
    with pytest.raises(AnnotationError, match="larger than"):
        read_asap(path)


def test_labels_with_markup_survive(tmp_path):
    outline = Outline('<b>"Tumör" & co</b>', shapely.box(0, 0, 10, 10))
    write_asap(tmp_path / "a.xml", [outline])
    assert read_asap(tmp_path / "a.xml")[0].label == outline.label


coordinate = st.floats(0, 200_000, allow_nan=False, width=32)
rectangle = st.tuples(coordinate, coordinate, st.floats(30, 500), st.floats(30, 500))


@given(where=rectangle, label=st.sampled_from(["Tumor", "_0", ""]))
def test_what_was_written_is_read_back(tmp_path_factory, where, label):
    x, y, w, h = where
    ring = Polygon(
        shapely.box(x, y, x + w, y + h).exterior,
        [shapely.box(x + 5, y + 5, x + w - 5, y + h - 5).exterior],
    )
    island = shapely.box(x + 9, y + 9, x + w - 9, y + h - 9)
    path = Path(tmp_path_factory.getbasetemp()) / "round.xml"
    write_asap(path, [Outline(label, MultiPolygon([ring, island]))])
    back = read_asap(path)
    assert {o.label for o in back} == {label}
    assert shapely.union_all([o.polygon for o in back]).symmetric_difference(
        MultiPolygon([ring, island])
    ).area == pytest.approx(0, abs=1e-3)
