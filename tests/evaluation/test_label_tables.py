"""Tables of labels and scores as people have them, and as Camelyon publishes them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.evaluation.tables import read_labels, read_scores


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_of_slides_in_any_order_and_any_words(tmp_path: Path) -> None:
    table = read_labels(
        written(tmp_path, "Label,Slide\nnormal,a\n 1 ,b.svs\nTumor,c\n\n0.0,d\nnegative,e\n")
    )
    assert table.slides == {"a": 0, "b.svs": 1, "c": 1, "d": 0, "e": 0}
    assert not table.fields


def test_labels_of_fields(tmp_path: Path) -> None:
    table = read_labels(
        written(tmp_path, "slide,x,y,label,comment\na,0,128,1,\na,128,128,0,?\nb,7.5,0,normal,\n")
    )
    assert table.names == ["a", "b"]
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
            "patient,stage\npatient_000.zip,pN0(i+)\npatient_000_node_0.tif,negative\n"
            "patient_000_node_1.tif,itc\n",
        )
    )
    assert seventeen.slides == {"patient_000_node_0.tif": 0, "patient_000_node_1.tif": 1}


def test_scores_with_and_without_slides(tmp_path: Path) -> None:
    table = read_scores(written(tmp_path, "slide,score,label\na,0.5,0\nb,nan,1\n"))
    assert table.slide.tolist() == ["a", "b"]
    assert table.label.tolist() == [0, 1]
    assert np.isnan(table.score[1])
    assert not read_scores(written(tmp_path, "label,score\n0,0.5\n1,0.7\n")).has_slides


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no lines below its header"),
        ("slide,label\n", "no lines below its header"),
        ("name,truth\na,1\n", "should begin with the line slide,label or slide,x,y,label"),
        ("slide,label\na\n", "cut short: 'a'"),
        ("slide,label\na,perhaps\n", "the label 'perhaps'; write normal or abnormal"),
        ("slide,label\na,1\na,0\n", "gives a two labels"),
        ("slide,x,y,label\na,left,2,1\n", "'left' where a number should stand"),
        ("patient,stage\npatient_000.zip,pN0\n", "names patients only"),
        ("slide,x,y\na,1,2\n", "no column label"),
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
            assert read_labels(path).names


def test_a_missing_or_binary_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv cannot be read \(No such file"):
        read_labels(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00slide")
    with pytest.raises(UsageError, match=r"binary\.csv cannot be read"):
        read_scores(tmp_path / "binary.csv")
    with pytest.raises(UsageError, match="no column score"):
        read_scores(written(tmp_path, "slide,label\na,1\n"))
