"""Camelyon16: tiles of normal lymph node against tiles of metastases.

As published (Shvetsova et al. 2021 and the authors' repository): fields of 768 px at 40x that are
all tissue, at most 50 a slide; normal ones from normal slides, tumour ones wholly inside the
annotations; Vahadane tile by tile; seen at 10x. Training cuts 64 px at random, the middle 64 px are
judged. The challenge's own training and test slides are the two sides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reproduce.problems import KNOWN, Problem, centres, draw, judged
from wsi_anomaly.reproduce.sources.camelyon_files import SIDES, Challenge, Side
from wsi_anomaly.reproduce.sources.camelyon_tiles import (
    SIDE_PX,
    listed_tiles,
    room_for_tiles,
    tile_sides,
)
from wsi_anomaly.reproduce.sources.lists import find_lists
from wsi_anomaly.tiles.tiling import TileOutcome

HEALTHY = "healthy"


class Camelyon16:
    """Tiles of the challenge, cut once and kept in the output folder.

    Parameters
    ----------
    data
        The download: slides, ``lesion_annotations`` (folders or zip files), ``reference.csv``.
    output
        Where tiles go.
    splits
        The authors' lists; None: their rules on the challenge's own division.
    learn, judge
        Limits, see :class:`~wsi_anomaly.reproduce.plan.Plan`.
    workers
        Processes that tile.
    progress
        Told of every slide that is tiled.
    note
        Told beforehand what the tiles take, and how many slides there are.

    Raises
    ------
    UsageError
        Pieces are missing, listed with where to get them; no tile was found for one side; or the
        disk is too small for them.
    """

    key = "camelyon16"
    title = "Camelyon16"
    classes = (HEALTHY,)
    divided_by_seed = False

    def __init__(
        self,
        data: Path,
        output: Path,
        *,
        splits: Path | None = None,
        learn: int | None = None,
        judge: int | None = None,
        workers: int = 1,
        progress: Callable[[TileOutcome], None] | None = None,
        note: Callable[[str, int], None] | None = None,
    ) -> None:
        self._most = (learn, judge)
        challenge = Challenge.find(data, output)
        room = room_for_tiles(challenge, output)
        if note is not None:
            note(room, sum(map(len, challenge.slides.values())))
        lists = None if splits is None else find_lists(splits, self.key)
        self.errors: list[str] = list(challenge.errors)
        if lists is None:
            tiles, how = tile_sides(challenge, output, workers, progress)
        else:
            tiles, how = listed_tiles(challenge, output, lists)
        self.errors += how.errors
        self._tiles = tiles
        empty = [str(side) for side in SIDES if side.judged and not len(tiles[side].images)]
        empty += [] if len(tiles[Side("normal", "train")].images) else ["normal train"]
        if empty:
            first = f" The first trouble: {self.errors[0]}" if self.errors else ""
            raise UsageError(
                f"{data} gave no tiles for {', '.join(empty)}; check its slides and annotations."
                f"{first}"
            )
        self.notes = (
            "; ".join(
                f"{side}: {len(tiles[side].images):,} tiles of {tiles[side].slides} slides"
                for side in SIDES
            )
            + ".",
            *how.notes,
            f"Known anomalies: at most {KNOWN} tumour tiles of training slides, of one type.",
            "No slide is on both sides; intervals are over slides.",
        )

    def problem(self, name: str, *, size: int, equalise: bool, seed: int) -> Problem:
        """Give the tiles; the training ones larger than `size`, to be cut at random."""
        del equalise, seed
        if size > SIDE_PX:
            raise UsageError(f"Tiles have {SIDE_PX} px at 10x; give --size {SIDE_PX} or less.")
        most_learn, most_judge = self._most
        normal, tumour = self._tiles[Side("normal", "test")], self._tiles[Side("anomaly", "test")]
        images = np.concatenate([centres(side.images, size) for side in (normal, tumour)])
        groups = np.concatenate([normal.group, tumour.group])
        abnormal = np.arange(len(images)) >= len(normal.images)
        chosen = judged(abnormal, np.arange(len(images)), most_judge)
        train = self._tiles[Side("normal", "train")]
        mine = draw(np.arange(len(train.images)), most_learn)
        known = self._tiles[Side("anomaly", "train")].images
        known = centres(known[draw(np.arange(len(known)), KNOWN)], size)
        return Problem(
            name,
            train.images[mine],
            train.group[mine],
            images[chosen],
            abnormal[chosen],
            groups[chosen],
            np.where(abnormal, "tumour", "normal")[chosen],
            known,
            "tumour",
        )
