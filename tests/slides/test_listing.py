"""Every file of an archive is accounted for; links are followed, circles end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.slides import find_slides, list_slides


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def others(folder: Path) -> dict[str, tuple[str, str]]:
    found = list_slides([folder]).others
    return {str(o.path.relative_to(folder)): (o.status, o.reason) for o in found}


def test_folders_behind_links_are_searched_and_circles_end(tmp_path: Path) -> None:
    put(tmp_path, "slides/one.tif", "elsewhere/two.tif", "slides/deep/three.tif")
    (tmp_path / "slides" / "batch2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "slides" / "deep" / "up").symlink_to(tmp_path / "slides")
    (tmp_path / "slides" / "deep" / "itself").symlink_to("itself")
    found = list_slides([tmp_path / "slides"])
    assert [str(p.relative_to(tmp_path / "slides")) for p in found.slides] == [
        "batch2/two.tif", "deep/three.tif", "one.tif",
    ]  # fmt: skip
    assert found.missed() == [
        f"{tmp_path / 'slides/deep/itself'} was not searched for slides: the link leads nowhere."
    ]


def test_a_slide_is_named_by_where_it_lies_not_by_a_link_to_it(tmp_path: Path) -> None:
    put(tmp_path, "s/z/one.tif")
    (tmp_path / "s" / "a").symlink_to("z")
    (tmp_path / "s" / "b.tif").symlink_to("z/one.tif")
    assert find_slides([tmp_path / "s"]) == [tmp_path / "s/b.tif"]  # met first, in the folder above
    assert others(tmp_path / "s") == {
        "z/one.tif": ("part of another slide", f"the same file as {tmp_path / 's/b.tif'}")
    }
    (tmp_path / "s" / "b.tif").unlink()
    assert find_slides([tmp_path / "s"]) == [tmp_path / "s/z/one.tif"]


def test_every_file_is_a_slide_or_said_what_it_is(tmp_path: Path) -> None:
    put(
        tmp_path, "a.svs", "notes.txt", ".hidden.tif", "m.mrxs", "m/Slidedat.ini", "m/Data0001.dat",
        "HE.dzi", "HE_files/0/0_0.jpeg", "case/case.tif", "case.mrxs",
        "results/a/summary.json", "results/a/scores.zarr/.zgroup", "results/a/heatmap.ome.tif",
    )  # fmt: skip
    (tmp_path / "gone.svs").symlink_to("nowhere.svs")
    names = [str(path.relative_to(tmp_path)) for path in find_slides([tmp_path])]
    assert names == ["HE.dzi", "a.svs", "case/case.tif", "case.mrxs", "m.mrxs"]
    # The folders with the pixels of HE.dzi and m.mrxs are these slides.
    assert others(tmp_path) == {
        ".hidden.tif": ("not a slide", "hidden"),
        "gone.svs": ("not read", "the link leads nowhere"),
        "notes.txt": ("not a slide", ""),
        "results/a": ("not a slide", "results of wsi-anomaly"),
    }


def test_a_folder_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.tif", "secret/b.tif")
    real = os.scandir

    def closed(folder: Path):
        if folder.name == "secret":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", closed)
    [sentence] = list_slides([tmp_path]).missed()
    assert sentence.endswith("secret was not searched for slides: it cannot be opened (Permission "
                             "denied).")  # fmt: skip
    (tmp_path / "a.tif").unlink()
    with pytest.raises(UsageError, match=r"No slide in .*secret was not searched"):
        list_slides([tmp_path])


def test_thousands_of_files_that_are_no_slides_share_a_line(tmp_path: Path) -> None:
    put(tmp_path, "a.tif", "b/one.txt", *(f"tiles/{i}.png" for i in range(1001)))
    assert others(tmp_path) == {
        "b/one.txt": ("not a slide", ""),
        "tiles": ("not a slide", "1,001 files in it"),
    }
