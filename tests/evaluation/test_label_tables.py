"""Tables of labels and scores as people have them, and as Camelyon publishes them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from evaluation_fakes import result
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.evaluation.tables import LabelTable, read_scores
from wsi_anomaly.evaluation.tables import read_labels as read_labels_of

NAMES = ("a", "b", "c", "d", "e", "test_001", "test_003", "patient_000_node_0",
         "patient_000_node_1")  # fmt: skip


def read_labels(path: Path) -> LabelTable:
    return read_labels_of(path, [result(name) for name in NAMES])


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_of_slides_in_any_order_and_any_words(tmp_path: Path) -> None:
    table = read_labels(
        written(tmp_path, "Label,Slide\nnormal,a\n 1 ,b.svs\nTumor,c\n\n0.0,d\nnegative,e\n")
    )
    assert table.slides == {"a": 0, "b": 1, "c": 1, "d": 0, "e": 0}
    assert not table.fields


def test_labels_of_fields(tmp_path: Path) -> None:
    table = read_labels(
        written(tmp_path, "slide,x,y,label,comment\na,0,128,1,\na,128,128,0,?\nb,7.5,0,normal,\n")
    )
    assert list(table.fields) == ["a", "b"]
    corners, labels = table.fields["a"]
    assert corners.tolist() == [[0, 128], [128, 128]]
    assert labels.tolist() == [1, 0]
    assert table.fields["b"][0].tolist() == [[7.5, 0]]


def test_camelyons_own_tables(tmp_path: Path) -> None:
    sixteen = read_labels(
        written(tmp_path, "test_001,Tumor,IDC,Macro\ntest_003,Normal,None,None\n")
    )
    assert sixteen.slides == {"test_001": 1, "test_003": 0}
    seventeen = read_labels(
        written(
            tmp_path,
            "patient,stage\npatient_000.zip,pN0(i+)\npatient_000_node_0.svs,negative\n"
            "patient_000_node_1.svs,itc\n",
        )
    )
    assert seventeen.slides == {"patient_000_node_0": 0, "patient_000_node_1": 1}


def test_scores_with_and_without_slides(tmp_path: Path) -> None:
    table = read_scores(written(tmp_path, "slide,score,label\na,0.5,0\nb,nan,1\n"))
    assert table.slide.tolist() == ["a", "b"]
    assert table.label.tolist() == [0, 1]
    assert np.isnan(table.score[1])
    assert not read_scores(written(tmp_path, "label,score\n0,0.5\n1,0.7\n")).has_slides


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no lines of slide,label"),
        ("slide,label\n", "holds no lines of slide,label"),
        ("name,truth\na,1\n", r"should begin with the line slide,label \(and x,y"),
        ("slide,label\na\n", "line 2, should give slide,label, not 'a'"),
        ("slide,label\na,perhaps\n", "the label 'perhaps'; write normal or abnormal"),
        (
            "slide,label\na,1\na,0\n",
            "lines 2 and 3, give slides/a.svs two values, as a and as a; keep one",
        ),
        ("slide,x,y,label\na,left,2,1\n", "line 2, gives the x as 'left', which is no number"),
        ("patient,stage\npatient_000.zip,pN0\n", "names patients only"),
        ("slide,label\nz,1\n", r"names none of the slides \(it has z, the results have slides/a"),
        ("slide,x,y,label\nz,0,0,1\n", "names none of the slides"),
        ("slide,x,y\na,1,2\n", "should begin with the line slide,label"),
    ],
)
def test_what_cannot_be_labels_is_said_in_a_sentence(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))


@given(st.text(max_size=60))
def test_any_text_is_a_table_or_a_sentence(tmp_path: Path, text: str) -> None:
    for start in ("", "slide,label\n", "slide,x,y,label\n"):
        path = tmp_path / "any.csv"
        path.write_bytes((start + text).encode("utf-8", "surrogatepass"))
        with contextlib.suppress(UsageError):
            assert len(read_labels(path).slides) + len(read_labels(path).fields)


def test_a_missing_or_binary_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv cannot be read \(No such file"):
        read_labels(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"PK\x03\x04\x00slide")
    with pytest.raises(UsageError, match=r"binary\.csv is no text, so it cannot be read"):
        read_scores(tmp_path / "binary.csv")
    with pytest.raises(UsageError, match="should begin with the line score,label"):
        read_scores(written(tmp_path, "slide,label\na,1\n"))
