"""``tile``: slides in, tile files and the table of them out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from wsi_anomaly.core.files import make_folder, remove_left_behind
from wsi_anomaly.core.staging import Cache
from wsi_anomaly.jobs import Watch, available_cores, kept_apart, parse_shard, take_shard
from wsi_anomaly.options import TileOptions
from wsi_anomaly.slides import Listing
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.jobs import Job, plan_jobs
from wsi_anomaly.tiles.named import Note, named_slides
from wsi_anomaly.tiles.slides_table import SlidesTable
from wsi_anomaly.tiles.tiling import TileOutcome, tile_slides


@dataclass(frozen=True)
class TileRun:
    """Slides that are to be tiled, each with its tile file.

    Attributes
    ----------
    output
        Folder of tile files.
    jobs
        The slides.
    config
        What is stored of each.
    options
        How the work is done.
    note
        Told what the user should read.
    listing
        Everything that lies where slides were looked for.
    """

    output: Path
    jobs: Sequence[Job]
    config: TileConfig
    options: TileOptions
    note: Note
    listing: Listing

    @classmethod
    def plan(
        cls,
        slides: Sequence[str | Path],
        output: str | Path,
        options: TileOptions,
        config: TileConfig | None = None,
        *,
        note: Note = lambda _text: None,
    ) -> Self:
        """Find the slides and what is known of each.

        Parameters
        ----------
        slides
            Slides, folders of them, or a manifest; slides that it calls abnormal are left out,
            unless they are cut inside annotations.
        output
            Folder of tile files.
        options
            What to store, what is known of the slides, and how the work is done.
        config
            What to store, over the options.
        note
            Told what the user should read.

        Raises
        ------
        WsiAnomalyError
            A path does not exist, an option makes no sense, or the folder cannot be made.
        """
        part = parse_shard(options.shard)
        config = config or TileConfig.of(options)
        named = named_slides(
            slides,
            note,
            mpp_csv=options.mpp_csv,
            cases=options.cases,
            tissue_mask=options.tissue_mask,
            normal_only=options.annotations is None,
        )
        jobs = plan_jobs(
            named.slides,
            make_folder(output),
            mpp=options.mpp,
            mpp_of=named.sizes,
            cases=named.cases,
            tissue_mask=_path(options.tissue_mask),
            annotations=_path(options.annotations),
            backend=options.backend,
            scene=options.scene,
            origin=options.origin,
        )
        jobs = [
            replace(job, tissue_mask=named.masks.get(job.slide, job.tissue_mask)) for job in jobs
        ]
        # Names are those of the whole run, whichever part of it this is.
        return cls(Path(output), take_shard(jobs, part), config, options, note, named.listing)

    def outcomes(self, watch: Watch[Job] | None = None) -> Generator[TileOutcome]:
        """Tile them, and say in ``slides.csv`` what became of each.

        Yields
        ------
        Each slide as it is done.

        Raises
        ------
        OutputError
            The table cannot be written; the tile files are.
        """
        remove_left_behind(self.output)
        table = SlidesTable(self.output / "slides.csv", self.listing.others)
        outcomes = tile_slides(
            self.jobs,
            self.output,
            self.config,
            workers=self._workers(),
            dask=self.options.dask,
            resume=self.options.resume,
            watch=watch,
            cache=None if (place := _path(self.options.cache)) is None else Cache(place, self.note),
        )
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    table.add(outcome)
                    yield outcome
        finally:
            table.write()
            if table.note:
                self.note(table.note)

    def _workers(self) -> int:
        """Count processes; none beside this one for a single slide, unless one has ended it."""
        alone = int(kept_apart())
        return self.options.workers or (available_cores() if len(self.jobs) > 1 else alone)


def _path(place: str | Path | None) -> Path | None:
    return None if place is None else Path(place)
