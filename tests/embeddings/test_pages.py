"""Each section of the page leads from what a program has written to a calibrated worklist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from embedding_files import WRITERS, cohort, fields_of

from wsi_anomaly.cli.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "embeddings.md"
FOLDERS = {
    "trident": (
        "TRIDENT and CLAM", "normal/20x_256px_0px_overlap/features_uni_v1",
        "new/20x_256px_0px_overlap/features_uni_v1",
    ),
    "slide2vec": ("slide2vec", "slide2vec_normal", "slide2vec_new"),
    "lazyslide": ("LazySlide", "stores_normal", "stores_new"),
}  # fmt: skip


def commands(section: str) -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line)[1:] for line in block.splitlines()]


@pytest.mark.parametrize("program", FOLDERS)
def test_the_commands_lead_to_a_calibrated_worklist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.chdir(tmp_path)
    section, normal, new = FOLDERS[program]
    cohort(Path(normal), program, 12)
    WRITERS[program](Path(new), "sick", *fields_of(50, lesion=True))
    WRITERS[program](Path(new), "well", *fields_of(51))
    cases = ["slide,case", *(f"n{k:02},case {k}" for k in range(12))]
    Path("cases.csv").write_text("\n".join(cases) + "\n")
    for words in commands(section):
        assert main(words) == 0
    table = Path("results/slides.csv").read_text()
    assert table.index("sick") < table.index("well")
    assert "flagged" in table
    assert "index.html" in {path.name for path in Path("results").iterdir()}


def test_the_commands_for_an_own_scanner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cohort(Path("normal"), "trident", 12)
    assert main(["train", "--embeddings", "normal", "-o", "uni_model"]) == 0
    for number in range(8):
        features, coords = fields_of(100 + number)
        WRITERS["trident"](
            Path("own_normals/features_uni_v1"), f"o{number}", 1.6 * features + 0.8, coords
        )
    check, calibrate = commands("For your own scanner")
    assert main(check) == 1, "it differs"
    assert main(calibrate) == 0
    assert Path("uni_model_here/model.json").exists()
