"""Which slide becomes which tile file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.core.file_names import output_name, same_on_disk
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.options import Origin
from wsi_anomaly.slides import slide_fingerprint
from wsi_anomaly.tiles.inputs import check_files
from wsi_anomaly.tiles.store import SUFFIX, TileStore


@dataclass(frozen=True)
class Job:
    """One slide to tile.

    Attributes
    ----------
    slide
        Its file.
    name
        Name of its tile file, without suffix; "": that of the slide.
    mpp
        Micrometres per pixel that override what the file says.
    case
        Patient or animal; None: the name stands for it.
    tissue_mask, annotations
        Files that say where the tissue is, and where to cut; or folders of files named as the
        slides.
    origin
        Where QuPath's (0, 0) lies in these files: "bounds" or "level0".
    scene
        Which of several images in the file, from 1; None: the largest.
    backend
        Reader: "auto", "openslide" or "tiff".
    """

    slide: Path
    name: str = ""
    mpp: float | None = None
    case: str | None = None
    tissue_mask: Path | None = None
    annotations: Path | None = None
    backend: str = "auto"
    scene: int | None = None
    origin: Origin = "bounds"

    def from_anywhere(self) -> Self:
        """Return the same with whole paths."""
        return replace(
            self,
            slide=from_anywhere(self.slide),
            tissue_mask=self.tissue_mask and self.tissue_mask.absolute(),
            annotations=self.annotations and self.annotations.absolute(),
        )


def plan_jobs(
    slides: Sequence[Path],
    out_dir: Path,
    *,
    mpp: float | None = None,
    mpp_of: Mapping[Path, float] | None = None,
    cases: Mapping[Path, str] | None = None,
    tissue_mask: Path | None = None,
    annotations: Path | None = None,
    backend: str = "auto",
    scene: int | None = None,
    origin: Origin = "bounds",
) -> list[Job]:
    """Give every slide a tile file of its own and its options.

    A tile file bears its slide's name. Where two slides have one name, or another slide's tiles
    already stand under it, the fingerprint is added; a slide whose tiles exist keeps their name.

    Parameters
    ----------
    mpp, mpp_of
        Micrometres per pixel of every slide, and of single slides (these win).
    cases
        Case of each slide.
    tissue_mask, annotations, backend, scene, origin
        As in :class:`Job`.

    Raises
    ------
    UsageError
        A file would be taken for several slides, or does not exist.
    """
    for option, place in (("--tissue-mask", tissue_mask), ("--annotations", annotations)):
        if place is not None:
            check_files(option, place, slides)
    names = Counter(same_on_disk(output_name(slide)) for slide in slides)
    there = {file.stem for file in out_dir.glob(f"*{SUFFIX}")}
    marked = {stem[:-9] for stem in there if stem[-9:-8] == "-"}
    return [
        Job(
            slide,
            _name(
                slide,
                out_dir,
                there,
                alone=names[same_on_disk(output_name(slide))] == 1,
                marked=output_name(slide) in marked,
            ),
            (mpp_of or {}).get(slide, mpp),
            (cases or {}).get(slide),
            tissue_mask,
            annotations,
            backend,
            scene,
            origin,
        )
        for slide in slides
    ]


def _name(slide: Path, out_dir: Path, there: set[str], *, alone: bool, marked: bool) -> str:
    """Name of a slide's tile file, where those of the names `there` stand."""
    name = output_name(slide)
    if alone and not marked and name not in there:
        return name
    try:
        mark = slide_fingerprint(slide)
    except OSError:
        return name  # opening it will say what is wrong
    with_mark = f"{name}-{mark[:8]}"
    if with_mark in there:
        return with_mark
    if name in there:
        try:
            store = TileStore.open(out_dir / f"{name}{SUFFIX}")
        except TileStoreError:
            return name if alone else with_mark
        same = store.fingerprint == mark or store.slide_path == slide.resolve()
        return name if same else with_mark
    return name if alone else with_mark
