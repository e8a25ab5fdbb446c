"""``wsi-anomaly evaluate``: from the files of ``score`` to figures that can be trusted."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cli_running import Ran, run_cli
from outline_files import write_asap, write_mask
from sklearn.metrics import average_precision_score, roc_auc_score

import wsi_anomaly
from wsi_anomaly.annotations import fractions_inside, read_geojson, write_geojson
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.evaluation import ScoredSlide, label_fields
from wsi_anomaly.evaluation.metrics import LEAST_GROUPS

NAMES = ("unseen lesion 1", "unseen lesion 2", "unseen normal")


@pytest.fixture(scope="module")
def evaluated(small_demo: Ran, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Evaluate the demo's results against the outlines that the demo knows."""
    folder = tmp_path_factory.mktemp("evaluated")
    code, printed = run_cli(
        "evaluate", small_demo.folder / "results", "--annotations", small_demo.folder / "outlines",
        "-o", folder / "evaluation",
    )  # fmt: skip
    return Ran(folder / "evaluation", code, printed)


def figures_of(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def test_the_figures_are_those_of_the_files(small_demo: Ran, evaluated: Ran) -> None:
    assert evaluated.code == 0, evaluated.printed
    found = figures_of(evaluated.folder)
    labels, scores = [], []
    for name in NAMES:
        table = ScoredSlide.read(small_demo.folder / "results" / name)
        outlines = read_geojson(small_demo.folder / "outlines" / f"{name}.geojson")
        inside = label_fields(fractions_inside(outlines, table.coords, table.field))
        keep = (inside >= 0) & table.assessed
        labels.append(inside[keep])
        scores.append(table.scores["density"][keep])
    truth, values = np.concatenate(labels), np.concatenate(scores)
    raw = found["fields"]["density"]["raw"]
    assert raw["abnormal"] == (truth == 1).sum() > 0
    assert raw["normal"] == (truth == 0).sum()
    assert raw["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, values))
    assert raw["pr_auc"]["value"] == pytest.approx(average_precision_score(truth, values))
    assert set(found["fields"]) == {"density", "dpa", "mean colour"}
    assert found["slides"]["highest region"]["abnormal"] == 2
    assert found["froc"]["slides"] == 3
    colour = found["fields"]["mean colour"]["raw"]["roc_auc"]["value"]
    above = found["above_mean_colour"]["raw"]["value"]
    assert above == pytest.approx(raw["roc_auc"]["value"] - colour)
    assert [row["name"] for row in found["table"]] == sorted(NAMES)
    assert found["settings"]["annotations"].endswith("outlines")
    assert found["program"]["wsi-anomaly"] == wsi_anomaly.__version__


def test_the_table_is_printed_with_the_file_to_open(evaluated: Ran) -> None:
    for words in ("Fields:", "density, 3 × 3", "mean colour", "Slides: 2 abnormal, 1 normal"):
        assert words in evaluated.printed
    page = evaluated.folder / "evaluation.html"
    assert evaluated.printed.strip().endswith(f"Open {page}")


class Page(HTMLParser):
    """Collects what a page would load or run, and its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_file_that_loads_nothing(evaluated: Ran) -> None:
    page = Page((evaluated.folder / "evaluation.html").read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.sources
    assert all(source.startswith("data:image/jpeg") for source in page.sources)
    for words in ("ROC", "FROC", "Precision and recall", "missed", "false alarms", *NAMES):
        assert words in page.text
    assert page.tags.count("img") >= 16


def test_masks_xml_and_geojson_give_the_same_figures(
    small_demo: Ran, evaluated: Ran, tmp_path: Path
) -> None:
    results = small_demo.folder / "results"
    expected = figures_of(evaluated.folder)["fields"]["density"]["raw"]
    for kind in ("xml", "png"):
        for name in NAMES:
            outlines = read_geojson(small_demo.folder / "outlines" / f"{name}.geojson")
            path = tmp_path / kind / f"{name}.{kind}"
            path.parent.mkdir(exist_ok=True)
            if kind == "xml":
                write_asap(path, outlines)
            else:
                write_mask(path, outlines, (640, 640), downsample=1)
        code, printed = run_cli(
            "evaluate", results, "--annotations", tmp_path / kind, "-o", tmp_path / "out", "-q"
        )
        assert (code, printed) == (0, "")
        raw = figures_of(tmp_path / "out")["fields"]["density"]["raw"]
        assert raw["abnormal"] == expected["abnormal"]
        assert raw["roc_auc"]["value"] == pytest.approx(expected["roc_auc"]["value"], abs=0.02)


def test_labels_of_slides_alone(small_demo: Ran, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "slide,label\nunseen lesion 1,1\nunseen lesion 2,1\nunseen normal,0\nanother,1\n"
    )
    (tmp_path / "cases.csv").write_text(
        "slide,case\nunseen lesion 1,A\nunseen lesion 2,A\nunseen normal,B\n"
    )
    code, printed = run_cli(
        "evaluate", small_demo.folder / "results", "--labels", tmp_path / "labels.csv",
        "--cases", tmp_path / "cases.csv", "-o", tmp_path,
    )  # fmt: skip
    assert code == 0, printed
    found = figures_of(tmp_path)
    assert found["fields"] == {}
    assert found["froc"] is None
    assert found["slides"]["highest region"]["roc_auc"]["low"] is None  # two cases are no sample
    assert "figures are of slides alone" in printed
    assert "labels.csv also names slides without results: another." in printed
    assert (
        f"No intervals: they need at least {LEAST_GROUPS} slides or cases, here are 2." in printed
    )


def test_labels_of_fields(small_demo: Ran, evaluated: Ran, tmp_path: Path) -> None:
    lines = ["slide,x,y,label"]
    for name in NAMES:
        table = ScoredSlide.read(small_demo.folder / "results" / name)
        outlines = read_geojson(small_demo.folder / "outlines" / f"{name}.geojson")
        inside = label_fields(fractions_inside(outlines, table.coords, table.field))
        lines += [
            f"{name}.tif,{x},{y},{label}"
            for (x, y), label in zip(table.coords, inside, strict=True)
            if label >= 0
        ]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    code, printed = run_cli(
        "evaluate", small_demo.folder / "results", "--labels", tmp_path / "labels.csv",
        "--method", "dpa", "--specificity", "0.8", "-o", tmp_path,
    )  # fmt: skip
    assert code == 0, printed
    found, expected = figures_of(tmp_path), figures_of(evaluated.folder)
    assert found["method"] == "dpa"
    assert [s["specificity"] for s in found["fields"]["dpa"]["raw"]["sensitivity"]] == [0.8]
    for kind in ("raw", "smoothed"):
        for method in ("dpa", "density", "mean colour"):
            one, other = (f["fields"][method][kind] for f in (found, expected))
            assert one["roc_auc"]["value"] == pytest.approx(other["roc_auc"]["value"])


def test_a_camelyon_download_needs_no_preparation(
    small_demo: Ran, evaluated: Ran, tmp_path: Path
) -> None:
    """XML for slides with lesions, a table without header that says which slides are normal."""
    for name in NAMES[:2]:
        outlines = read_geojson(small_demo.folder / "outlines" / f"{name}.geojson")
        write_asap(tmp_path / "xml" / f"{name}.xml", outlines)
    (tmp_path / "reference.csv").write_text(
        "unseen lesion 1,Tumor,IDC,Macro\nunseen lesion 2,Tumor,IDC,Micro\n"
        "unseen normal,Normal,None,None\n"
    )
    code, printed = run_cli(
        "evaluate", small_demo.folder / "results", "--annotations", tmp_path / "xml",
        "--labels", tmp_path / "reference.csv", "-o", tmp_path,
    )  # fmt: skip
    assert code == 0, printed
    found, expected = figures_of(tmp_path), figures_of(evaluated.folder)
    assert found["fields"]["density"]["raw"] == expected["fields"]["density"]["raw"]
    assert found["froc"] == expected["froc"]


def test_scores_from_anywhere(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 400)
    score = generator.normal(size=400) + label
    rows = [f"s{i % 8},{score[i]},{label[i]}" for i in range(400)]
    (tmp_path / "scores.csv").write_text("\n".join(["slide,score,label", *rows]))
    code, printed = run_cli("evaluate", "--scores", tmp_path / "scores.csv", "-o", tmp_path)
    assert code == 0, printed
    raw = figures_of(tmp_path)["fields"]["score"]["raw"]
    assert raw["roc_auc"]["value"] == pytest.approx(roc_auc_score(label, score))
    assert raw["roc_auc"]["low"] < raw["roc_auc"]["value"] < raw["roc_auc"]["high"]
    assert raw["cases"] == 8
    assert "<h1>scores.csv</h1>" in (tmp_path / "evaluation.html").read_text()
    rows = [row.split(",", 1)[1] for row in rows]
    (tmp_path / "scores.csv").write_text("\n".join(["score,label", *rows]))
    code, printed = run_cli("evaluate", "--scores", tmp_path / "scores.csv", "-o", tmp_path)
    assert code == 0
    assert "names no slides: there are no intervals" in printed
    assert figures_of(tmp_path)["fields"]["score"]["raw"]["roc_auc"]["low"] is None


def test_names_are_escaped(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    lines = [f'"{name}",{i},{i % 2}' for i in range(8)]
    (tmp_path / "scores.csv").write_text("\n".join(["slide,score,label", *lines]))
    code, _ = run_cli("evaluate", "--scores", tmp_path / "scores.csv", "-o", tmp_path)
    assert code == 0
    page = Page((tmp_path / "evaluation.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert name in page.text


@pytest.fixture
def results(small_demo: Ran, tmp_path: Path) -> Path:
    """Give a copy of the demo's results that a test may damage."""
    shutil.copytree(small_demo.folder / "results", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def outlines(small_demo: Ran, tmp_path: Path) -> Path:
    """Give a copy of the demo's outlines that a test may damage."""
    folder = tmp_path / "outlines"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(small_demo.folder / "outlines" / f"{name}.geojson", folder)
    return folder


def rewrite_summary(folder: Path, **changed: object) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_one_bad_annotation_leaves_the_figures_of_the_others(
    results: Path, outlines: Path, tmp_path: Path
) -> None:
    (outlines / "unseen lesion 1.geojson").write_text("{broken")
    code, printed = run_cli("evaluate", results, "--annotations", outlines, "-o", tmp_path)
    assert code == 1
    assert "Not used: " in printed
    assert "unseen lesion 1.geojson is no JSON" in printed
    found = figures_of(tmp_path)
    assert [row["name"] for row in found["table"]] == ["unseen lesion 2", "unseen normal"]
    assert len(found["problems"]) == 1
    assert "unseen lesion 1.geojson is no JSON" in (tmp_path / "evaluation.html").read_text()


def test_slides_that_the_model_has_seen_are_left_out(
    results: Path, outlines: Path, tmp_path: Path
) -> None:
    rewrite_summary(results / "unseen lesion 2", seen_in="train")
    code, printed = run_cli("evaluate", results, "--annotations", outlines, "-o", tmp_path)
    assert code == 0
    assert "the model has seen them in training or calibration: unseen lesion 2." in printed
    assert len(figures_of(tmp_path)["table"]) == 2


def test_slides_of_which_nothing_is_known_are_left_out(
    results: Path, outlines: Path, tmp_path: Path
) -> None:
    (outlines / "unseen normal.geojson").unlink()
    code, printed = run_cli("evaluate", results, "--annotations", outlines, "-o", tmp_path)
    assert code == 0
    assert "nothing is known of them: unseen normal (--unannotated-normal takes" in printed
    assert len(figures_of(tmp_path)["table"]) == 2
    code, printed = run_cli(
        "evaluate", results, "--annotations", outlines, "--unannotated-normal", "-o", tmp_path
    )
    assert code == 0
    assert len(figures_of(tmp_path)["table"]) == 3


def test_slides_that_have_moved_are_found_or_missed_with_a_word(
    small_demo: Ran, results: Path, outlines: Path, tmp_path: Path
) -> None:
    for name in NAMES:
        summary = json.loads((results / name / "summary.json").read_text())
        moved = summary["slide"] | {"path": f"/elsewhere/{name}.tif"}
        rewrite_summary(results / name, slide=moved)
    code, printed = run_cli("evaluate", results, "--annotations", outlines, "-o", tmp_path)
    assert code == 0
    assert "no control by colour, and no pictures" in printed
    assert "mean colour" not in figures_of(tmp_path)["fields"]
    code, printed = run_cli(
        "evaluate", results, "--annotations", outlines, "-o", tmp_path,
        "--slides", small_demo.folder / "slides" / "new",
    )  # fmt: skip
    assert code == 0
    assert "no control by colour" not in printed
    assert "mean colour" in figures_of(tmp_path)["fields"]


def test_results_of_several_models_do_not_compare(results: Path, outlines: Path) -> None:
    model = json.loads((results / "unseen normal" / "summary.json").read_text())["model"]
    rewrite_summary(results / "unseen normal", model=model | {"hash": "0123456789abcdef"})
    code, printed = run_cli("evaluate", results, "--annotations", outlines)
    assert code == 1
    assert "holds results of 2 models, whose scores do not compare" in printed
    assert "01234567" in printed


def test_a_damaged_result_is_left_out(results: Path, outlines: Path, tmp_path: Path) -> None:
    shutil.rmtree(results / "unseen lesion 1" / "scores.zarr" / "tiles" / "coords")
    rewrite_summary(results / "unseen lesion 2", slide={})
    code, printed = run_cli("evaluate", results, "--annotations", outlines, "-o", tmp_path)
    assert code == 1
    assert "All 25 fields whose truth is known are normal" in printed
    assert not (tmp_path / "evaluation.json").exists()
    shutil.rmtree(results / "unseen lesion 2")
    shutil.rmtree(results / "unseen normal")
    code, printed = run_cli("evaluate", results, "--annotations", outlines, "-o", tmp_path)
    assert code == 1
    assert str(Path("unseen lesion 1", "scores.zarr is missing or damaged")) in printed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "There is nothing to compare with; give --labels or --annotations."),
        (("--annotations", "nowhere"), 2, "nowhere does not exist"),
        (("--labels", "nowhere.csv"), 2, "nowhere.csv cannot be read"),
        (("--annotations", "OUTLINES", "--method", "guess"), 2, "no scores of 'guess', only of"),
        (("--scores", "s.csv", "--method", "dpa"), 2, "--scores brings its own labels"),
        (("--annotations", "OUTLINES", "--specificity", "2"), 2, "not in the range"),
    ],
)
def test_wrong_usage_is_said_in_a_sentence(
    results: Path, outlines: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    words = [str(outlines) if word == "OUTLINES" else word for word in arguments]
    found, printed = run_cli("evaluate", results, *words)
    assert found == code
    assert message in printed
    assert "Traceback" not in printed


def test_an_empty_folder_holds_no_results(tmp_path: Path, outlines: Path) -> None:
    code, printed = run_cli("evaluate", tmp_path, "--annotations", outlines)
    assert code == 2
    assert "holds no results; give the folder that 'wsi-anomaly score' has written" in printed


def test_one_class_says_so_and_writes_nothing(
    results: Path, outlines: Path, tmp_path: Path
) -> None:
    for name in NAMES:
        write_geojson(outlines / f"{name}.geojson", [], slide_name=name)
    code, printed = run_cli("evaluate", results, "--annotations", outlines, "-o", tmp_path / "out")
    assert code == 1
    assert "are normal: there is nothing to tell apart; add slides or labels" in printed
    assert not (tmp_path / "out").exists()


def test_the_verb_for_programs(results: Path, outlines: Path, tmp_path: Path) -> None:
    found = wsi_anomaly.evaluate(results, tmp_path / "out", annotations=outlines)
    assert found.figures.raw["density"].groups == 3
    assert (tmp_path / "out" / "evaluation.html").is_file()
    assert wsi_anomaly.evaluate(results, None, annotations=outlines).problems == ()
    with pytest.raises(WsiAnomalyError):
        wsi_anomaly.evaluate(tmp_path / "nowhere", annotations=outlines)
