"""A pixel size that cannot be read is asked for, whichever reader and table says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_running import run_cli
from scoring_fakes import make_slide

from wsi_anomaly.core.errors import MissingMppError
from wsi_anomaly.slides import open_slide


def svs(path: Path, facts: str) -> Path:
    """A slide as Aperio writes it, with these facts in its description."""
    tifffile.imwrite(
        path, np.full((512, 512, 3), 200, np.uint8), tile=(256, 256), photometric="rgb",
        compression="jpeg", metadata=None,
        description=f"Aperio Image Library v11.2.1 \r\n512x512 (256x256) JPEG/RGB Q=85|{facts}",
    )  # fmt: skip
    return path


@pytest.fixture(params=["made", "reported"])
def slides(request, tmp_path, field_case):
    """The three slides of the case, and such as the test makes itself."""
    if request.param == "reported":
        return field_case("svs_pixel_size")
    svs(tmp_path / "comma.svs", "AppMag = 20|MPP = 0,2500")
    svs(tmp_path / "comma_alone.svs", "MPP = 0,5000")
    svs(tmp_path / "contradiction.svs", "AppMag = 40|MPP = 0.025")
    return tmp_path


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
def test_both_readers_read_a_decimal_comma(slides, backend):
    for name, mpp in (("comma", 0.25), ("comma_alone", 0.5)):
        with open_slide(slides / f"{name}.svs", backend=backend) as slide:
            assert (slide.mpp.x, slide.mpp.y) == (mpp, mpp)
    assert "0.25 um  (from aperio.MPP)" in run_cli("info", slides / "comma.svs")[1]


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
def test_a_pixel_far_too_fine_for_its_objective_is_asked_for(slides, backend, here):
    path = slides / "contradiction.svs"
    for figure in (r"0\.025 um", "40x", "--mpp"):
        with pytest.raises(MissingMppError, match=figure):
            open_slide(path, backend=backend)
    with open_slide(path, mpp=0.25, backend=backend) as slide:
        assert slide.mpp.x == 0.25
    shown = " ".join(run_cli("info", path)[1].split())
    assert "not used: the file says 0.025 um per pixel" in shown
    assert "40x" in shown


@pytest.mark.parametrize("facts", ["AppMag = 20|MPP = 0.25 um", "AppMag = 20|MPP = 250"])
def test_an_unreadable_size_is_not_replaced_by_the_objective(tmp_path, facts):
    path = svs(tmp_path / "a.svs", facts)
    for backend in ("tiff", "openslide"):
        with pytest.raises(MissingMppError, match=r"(aperio\.MPP|openslide\.mpp).*--mpp"):
            open_slide(path, backend=backend)


@pytest.mark.parametrize("made", [True, False])
def test_tables_that_contradict_themselves_or_name_nobody_are_named(here, field_case, made):
    if made:
        folder = here
        make_slide(here / "A.tif")
        (here / "twice.csv").write_text("slide,mpp\nA.tif,0.5\nA.tif,0.25\n")
        (here / "nobody.csv").write_text("slide,mpp\nAA.tif,0.25\n")
        (here / "scores.csv").write_text("score,label,slide\n1,0,a\nnan,1,a\n0.5,0,b\n2,1,b\n")
    else:
        folder = field_case("tables")
    for verb in ("tile", "score"):
        code, said = run_cli(verb, folder / "A.tif", "--mpp-csv", folder / "twice.csv")
        assert code == 2
        assert "lines 2 and 3," in said
    said = run_cli("tile", folder / "A.tif", "--mpp-csv", folder / "nobody.csv")[1]
    assert "--mpp-csv names none of the slides, so it has no effect." in said
    code, said = run_cli("evaluate", "--scores", folder / "scores.csv")
    assert code == 0
    assert "1 of 4 lines have no score and are left out, 1 of them abnormal." in said
