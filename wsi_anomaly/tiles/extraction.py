"""One slide becomes one tile file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from wsi_anomaly.annotations import Outline
from wsi_anomaly.annotations.outlines import Note
from wsi_anomaly.core.errors import (
    AnnotationError,
    NotASlideError,
    NoTissueError,
    TooCoarseError,
)
from wsi_anomaly.core.file_names import output_name
from wsi_anomaly.core.magnification import served
from wsi_anomaly.jobs.progress import Progress, unwatched
from wsi_anomaly.options import Origin
from wsi_anomaly.slides import Slide, TissueMap, find_tissue, open_slide, slide_fingerprint
from wsi_anomaly.slides.overview import Overview, read_overview
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.fields import STORED, Fields, Status, plan_fields
from wsi_anomaly.tiles.inputs import file_for, identity, outlines_from_file, tissue_from_file
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.tiles.picture import PICTURE_SUFFIX, overview_picture, save_picture
from wsi_anomaly.tiles.plane import CHUNK_PX, SQUARE_UM, SlidePlane
from wsi_anomaly.tiles.plane_file import MOST_PLANE_BYTES, PlaneToStore, plan_chunks
from wsi_anomaly.tiles.preprocessing import SlidePreprocessor
from wsi_anomaly.tiles.reading import read_fields
from wsi_anomaly.tiles.resume import finished
from wsi_anomaly.tiles.store import SUFFIX
from wsi_anomaly.tiles.writing import TileWriter, chunks_of, tiles_of, write_tiles

_BATCH_BYTES = 16_000_000  # so that its blocks stay decoded from one magnification to the next


class Stage(IntEnum):
    """What is done with a slide, in this order."""

    OPENING = 0
    TISSUE = 1
    STAIN = 2
    PLANE = 3
    TILES = 4


@dataclass(frozen=True)
class TileResult:
    """What became of one slide.

    Attributes
    ----------
    slide, path
        The slide and its tile file.
    magnifications
        Those stored.
    counts
        Fields by status name ("ok", "failed", ...).
    seconds
        Time taken.
    skipped
        The file was there already, whole and under the same configuration.
    notes
        What the user should know: magnifications that the slide cannot serve, why it was redone.
    """

    slide: Path
    path: Path
    magnifications: tuple[int, ...]
    counts: dict[str, int]
    seconds: float
    skipped: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def tiles(self) -> int:
        """Number of fields stored."""
        return sum(self.counts.values())


def tile_slide(
    slide: str | Path | Job,
    out_dir: str | Path,
    config: TileConfig,
    *,
    resume: bool = True,
    progress: Progress | None = None,
) -> TileResult:
    """Cut one slide into tiles: a tile file, and a picture of where they lie beside it.

    Parameters
    ----------
    slide
        The slide, or a job that says more of it: name, case, pixel size, mask, annotations.
    out_dir
        Folder of tile files.
    config
        What to store.
    resume
        Keep a file that is whole, of this slide and of this configuration.
    progress
        Told how many of how many fields are done, and the :class:`Stage`.

    Raises
    ------
    SlideError, StainError, AnnotationError, OutputError
        It cannot be done; nothing half-written stands under the final name.
    """
    started = time.perf_counter()
    job = slide if isinstance(slide, Job) else Job(Path(slide))
    name = job.name or output_name(job.slide)
    case = job.case or name
    report = progress or unwatched
    target = Path(out_dir) / f"{name}{SUFFIX}"
    report(0, 0, Stage.OPENING)
    with open_slide(job.slide, mpp=job.mpp, backend=job.backend, scene=job.scene) as opened:
        files = _files(job)
        sources = {n: identity(file, job.origin) if file else "" for n, file in files.items()}
        mark = slide_fingerprint(job.slide)
        former, why = (
            finished(target, mark, config, case, opened, sources) if resume else (None, "")
        )
        if former is not None:
            return TileResult(
                job.slide, target, former.magnifications, _counts(former.status), 0.0,
                skipped=True, notes=opened.left_out,
            )  # fmt: skip
        notes = [*opened.left_out, *([why] if why else [])]

        def note(sentence: str) -> None:
            notes.append(sentence.removesuffix("."))  # they stand in a row

        magnifications = _served(opened, config, notes)
        report(0, 0, Stage.TISSUE)
        overview = read_overview(opened)
        outlines = _outlines(opened, files["annotations"], config, job.origin, note)
        tissue = _tissue(opened, files["tissue_mask"], overview, job.origin, note)
        fields = _plan(opened, tissue, config, outlines, files["annotations"])
        report(0, len(fields), Stage.STAIN)
        preprocess = config.preprocessing.for_slide(opened, tissue)
        if preprocess.doubt:
            notes.insert(0, preprocess.doubt.removesuffix("."))
        status = fields.status.copy()
        planes = _planes(opened, tissue, fields, config, magnifications, preprocess, outlines)
        with write_tiles(
            target, opened, fields, status, config=config, magnifications=magnifications,
            stain=preprocess.stain, planes=planes,
            attributes={"fingerprint": mark, "case": case, **sources, **_mask_path(files)},
        ) as writer:  # fmt: skip
            _store_planes(planes, writer, report)
            _extract(opened, fields, status, writer, config, magnifications, preprocess, report)
            picture = overview_picture(opened, overview, tissue, fields, status)
            save_picture(target.with_suffix(PICTURE_SUFFIX), picture)
    return TileResult(
        job.slide, target, magnifications, _counts(status), time.perf_counter() - started,
        notes=tuple(notes),
    )  # fmt: skip


def _files(job: Job) -> dict[str, Path | None]:
    """Find the files that were given beside the slide."""
    given = {"tissue_mask": job.tissue_mask, "annotations": job.annotations}
    return {name: file_for(place, job.slide) if place else None for name, place in given.items()}


def _mask_path(files: Mapping[str, Path | None]) -> dict[str, str]:
    """Where the tissue mask lies, for those who read the slide again."""
    mask = files["tissue_mask"]
    return {} if mask is None else {"tissue_mask_path": str(mask.resolve())}


def _tissue(
    slide: Slide, mask: Path | None, overview: Overview, origin: Origin, note: Note
) -> TissueMap:
    """Take the tissue from a file, or find it."""
    if mask is None:
        return find_tissue(slide, overview)
    return tissue_from_file(slide, mask, overview, origin, note=note)


def _outlines(
    slide: Slide, file: Path | None, config: TileConfig, origin: Origin, note: Note
) -> list[Outline] | None:
    """Where to cut; None: anywhere."""
    if file is None:
        return None
    return outlines_from_file(slide, file, config.labels, origin, note=note)


def _plan(
    slide: Slide,
    tissue: TissueMap,
    config: TileConfig,
    outlines: list[Outline] | None,
    annotations: Path | None,
) -> Fields:
    """Choose the fields to cut."""
    fields = plan_fields(
        slide,
        tissue,
        field_um=float(config.tile_size),
        stride_um=None if config.stride is None else float(config.stride),
        min_tissue=config.min_tissue,
        max_tiles=config.max_tiles,
        seed=config.seed,
        outlines=outlines,
    )
    if not len(fields):
        raise _nothing_to_cut(slide, config, annotations)
    return fields


def _served(slide: Slide, config: TileConfig, notes: list[str]) -> tuple[int, ...]:
    """Magnifications that the slide can give; what it cannot is noted."""
    magnifications = served(slide.finest_mpp, config.magnifications)
    if not magnifications:
        raise TooCoarseError(
            f"{slide.path} has {slide.finest_mpp:.3g} um pixels, too coarse for "
            f"{min(config.magnifications)}x ({10 / min(config.magnifications):g} um); leave it "
            "out, or give --mpp if its metadata are wrong."
        )
    missing = [f"{m}x" for m in config.magnifications if m not in magnifications]
    if missing:
        notes.append(f"its {slide.finest_mpp:.3g} um pixels cannot serve {' and '.join(missing)}")
    return magnifications


def _nothing_to_cut(slide: Slide, config: TileConfig, annotations: Path | None) -> Exception:
    if annotations is None:
        return NoTissueError(
            f"{slide.path} has no field of {config.tile_size} um with at least "
            f"{config.min_tissue:.0%} tissue; look at it, lower --min-tissue, or leave it out."
        )
    return AnnotationError(
        f"No field of {config.tile_size} um with at least {config.min_tissue:.0%} tissue lies "
        f"inside the annotations of {annotations}; lower --stride (fields then overlap), "
        "--tile-size or --min-tissue."
    )


def _extract(
    slide: Slide,
    fields: Fields,
    status: np.ndarray,
    writer: TileWriter,
    config: TileConfig,
    magnifications: tuple[int, ...],
    preprocess: Callable[[np.ndarray], np.ndarray],
    report: Progress,
) -> None:
    """Read every magnification of a batch before the next, so that they share decoded blocks.

    A field that fails at one magnification is failed; blur is judged on the coarsest, as when a
    slide is scored at it.
    """
    side = config.tile_size * max(magnifications) // 10
    batch = int(np.clip(_BATCH_BYTES // (side * side * 3), 1, 256))
    readers = [
        read_fields(
            slide,
            fields,
            magnification=m,
            tile_size=config.tile_size * m // 10,
            preprocess=preprocess,
            batch_size=batch,
        )
        for m in magnifications
    ]
    done = 0
    for parts in zip(*readers, strict=True):
        for magnification, (indices, images, found) in zip(magnifications, parts, strict=True):
            writer.put(tiles_of(magnification), indices, images)
            if magnification == magnifications[0]:
                status[indices] = found
            else:
                status[indices[found == Status.FAILED]] = Status.FAILED
        done += len(parts[0][0])
        report(done, len(fields), Stage.TILES)
    if (status == Status.FAILED).all():
        raise NotASlideError(
            f"{slide.path} is damaged: none of its {len(fields)} fields of tissue can be read; "
            "copy the file again."
        )


def _planes(
    slide: Slide,
    tissue: TissueMap,
    tiles: Fields,
    config: TileConfig,
    magnifications: tuple[int, ...],
    preprocess: SlidePreprocessor,
    outlines: list[Outline] | None,
) -> dict[int, PlaneToStore]:
    """Choose what is stored of the plane of each magnification."""
    if not config.preprocessing.is_pixelwise:
        return {}
    cells = plan_fields(
        slide, tissue, field_um=SQUARE_UM, min_tissue=config.min_tissue, outlines=outlines
    )
    # Without outlines the tiles lie where the cells do.
    outlined = None if outlines is None else tiles
    if not any((f.status == Status.OK).any() for f in (cells, outlined) if f is not None):
        return {}
    found = {}
    for m in magnifications:
        plane = SlidePlane(slide, tissue, m, preprocess)
        room = MOST_PLANE_BYTES // len(magnifications)
        plan = plan_chunks(plane, cells, room, config.seed, tiles=outlined)
        found[m] = PlaneToStore(plane, cells, plan)
    return found


def _store_planes(planes: dict[int, PlaneToStore], writer: TileWriter, report: Progress) -> None:
    """Read the chunks of the planes into the tile file.

    What a chunk of the coarsest covers is read at every magnification before the next, so that
    they share decoded blocks.
    """
    coarsest = min(planes, default=1)
    chunks = sorted(
        (row * coarsest // m, column * coarsest // m, m, index, row, column)
        for m, stored in planes.items()
        for index, (row, column) in enumerate(stored.plan.places.tolist())
    )
    whole = np.empty((1, CHUNK_PX, CHUNK_PX, 3), np.uint8)
    for done, (_, _, m, index, row, column) in enumerate(chunks, start=1):
        plane = planes[m].plane
        pixels = plane.chunk(row, column)
        whole[:] = plane.background
        whole[0, : pixels.shape[0], : pixels.shape[1]] = pixels
        writer.put(chunks_of(m), np.array([index]), whole)
        report(done, len(chunks), Stage.PLANE)


def _counts(status: np.ndarray) -> dict[str, int]:
    return {s.name.lower(): int(np.count_nonzero(status == s)) for s in STORED}
