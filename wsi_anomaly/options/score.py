"""Options of ``score``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.options.checks import (
    Origin,
    check_cache,
    check_origin,
    check_share,
    check_slides,
    check_workers,
    make_floats,
)


@dataclass(frozen=True)
class ScoreOptions:
    """Everything that ``score`` may be asked for.

    Attributes
    ----------
    heatmap
        Also write the heatmap files.
    stride_um
        From one field to the next, micrometres; None: one field, without overlap.
    false_regions
        At most so many false regions on a normal slide.
    fdr
        Flag single fields by Benjamini-Hochberg at this q instead.
    all_flags
        Flag also what is like findings that readers have called harmless, see ``learn``.
    pixel_map
        Keep the error maps of all flagged fields (at most 1,000), not only of the gallery's.
    min_tissue
        Least share of tissue in a field.
    tissue_mask
        Outlines or a mask image of the tissue, in place of finding it; or a folder of files named
        as the slides.
    normal
        Outlines of normal tissue on the slide itself, whose classes are kinds of tissue and each a
        reference beside the model's; or a folder of files named as the slides that have one.
    cases
        Table of ``slide,case``, or case by slide: the worklist shows slides of a case together.
    mpp, mpp_csv
        Micrometres per pixel of all slides, and a table of ``slide,mpp`` for single ones.
    backend
        Reader of the slides: "auto", "openslide" or "tiff"; the pixels are the same.
    scene
        Which of several images in a file is the slide, from 1; None: the largest.
    origin
        Where QuPath's (0, 0) lies on slides with bounds: "bounds" or "level0".
    gzip
        Compress the overlay.
    workers
        Slides at a time, a process each; None: one for each core, on a GPU as its memory allows.
    dask
        Address of a Dask scheduler, in place of processes.
    cache
        Folder of a fast disk to which slides are copied ahead of the work, and removed after it.
    shard
        "i/n": only the i-th of n parts of the slides; "slurm": as the job array says.
    device
        Where to compute: "cpu", "cuda", or "auto", a GPU if there is one.
    resume
        Keep results that the same model and settings have given.
    embeddings
        Folder of embeddings that another program has made of the slides' fields; they are scored
        in place of pixels.
    embeddings_out
        Folder for the embeddings of the slides' fields, a file each as TRIDENT writes them.
    """

    heatmap: bool = False
    stride_um: float | None = None
    false_regions: float = 1.0
    fdr: float | None = None
    all_flags: bool = False
    pixel_map: bool = False
    min_tissue: float = 0.1
    tissue_mask: str | Path | None = None
    normal: str | Path | None = None
    cases: str | Path | Mapping[str, str] | None = None
    mpp: float | None = None
    mpp_csv: str | Path | None = None
    backend: str = "auto"
    scene: int | None = None
    origin: Origin = "bounds"
    gzip: bool = False
    workers: int | None = None
    dask: str | None = None
    cache: str | Path | None = None
    shard: str | None = None
    device: str = "auto"
    resume: bool = True
    embeddings: str | Path | None = None
    embeddings_out: str | Path | None = None

    def __post_init__(self) -> None:
        make_floats(self, "stride_um", "false_regions", "fdr", "min_tissue", "mpp")
        if self.stride_um is not None and not self.stride_um >= 1:
            raise UsageError(f"A stride is at least one micrometre, not {self.stride_um:g}.")
        if not self.false_regions > 0:
            raise UsageError(f"False regions a slide are more than 0, not {self.false_regions:g}.")
        if self.fdr is not None and not 0 < self.fdr < 1:
            raise UsageError(f"A false discovery rate lies between 0 and 1, not {self.fdr:g}.")
        check_share(self.min_tissue)
        check_origin(self.origin)
        check_slides(self.mpp, self.backend, self.scene)
        check_workers(self.workers)
        check_cache(self.cache, self.dask)
        if self.embeddings is not None and (
            self.embeddings_out is not None
            or self.stride_um is not None
            or self.pixel_map
            or self.tissue_mask is not None
            or self.normal is not None
        ):
            raise UsageError(
                "Embeddings have their own fields and no pixels; leave --stride, --pixel-map, "
                "--tissue-mask, --normal and --embeddings-out out with --embeddings."
            )


class ScoreKeywords(TypedDict, total=False):
    """The fields of :class:`ScoreOptions`, for callers that name them one by one."""

    heatmap: bool
    stride_um: float | None
    false_regions: float
    fdr: float | None
    all_flags: bool
    pixel_map: bool
    min_tissue: float
    tissue_mask: str | Path | None
    normal: str | Path | None
    cases: str | Path | Mapping[str, str] | None
    mpp: float | None
    mpp_csv: str | Path | None
    backend: str
    scene: int | None
    origin: Origin
    gzip: bool
    workers: int | None
    dask: str | None
    cache: str | Path | None
    shard: str | None
    device: str
    resume: bool
    embeddings: str | Path | None
    embeddings_out: str | Path | None
