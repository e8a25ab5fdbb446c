"""What a search starts from: tile files of normal slides and of known anomalies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import TileStoreError, UsageError
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.tiles import Status, TileSet, TileStore, find_tile_files
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.training.fields import cells_of_tiles, with_fields_or_without
from wsi_anomaly.training.inputs import anomaly_set, read_stores, tiles_of_cases
from wsi_anomaly.training.splits import split_cases
from wsi_anomaly.tuning.search_data import Part, Places, SearchData, at_most
from wsi_anomaly.tuning.space import with_network

_MOST_OF_A_CASE = 500
_LEAST_CASES = 3

Paths = str | Path | Sequence[str | Path]
Notes = Callable[[str], None]


@dataclass(frozen=True)
class Inputs:
    """Tiles to search with.

    Attributes
    ----------
    data
        The tiles of the cases that take part, and the anomalies; a view for each magnification.
    views
        Name of each view to its magnification and the side of its tiles in um.
    cases
        Normal cases that take part, sorted.
    calibration
        Those kept apart, as ``train`` will keep them apart.
    tiles, anomalies
        Identity of the files that took part.
    fields_um
        Network to the sides of the fields that are judged with it; no entry: tiles.
    """

    data: SearchData
    views: dict[str, tuple[int, int]]
    cases: tuple[str, ...]
    calibration: tuple[str, ...]
    tiles: list[str]
    anomalies: list[str]
    fields_um: dict[str, tuple[int, ...]]


def read_inputs(
    tiles: Paths,
    anomalies: Sequence[str | Path],
    base: TrainConfig,
    magnifications: Sequence[int],
    networks: Mapping[str, PerceptualNetwork],
    note: Notes,
) -> Inputs:
    """Open the tile files, keep calibration cases apart, and check that all fits together.

    Parameters
    ----------
    tiles, anomalies
        Tile files or folders of them; the latter may be empty.
    base
        Its seed parts the cases, as in ``train``.
    magnifications
        Those to choose among, as far as all files hold them.
    networks
        Perceptual networks by name whose fields may be judged; none: only tiles are.
    note
        Told what is left out.

    Raises
    ------
    UsageError, TileStoreError
        There are too few cases, or the files do not fit together.
    """
    stores, known = _normal(tiles, base, magnifications, note)
    split = split_cases(tiles_of_cases(stores), seed=base.seed)
    # Below four cases train keeps none apart, and one that has chosen must not calibrate later.
    apart = split.calibration or split.train[-1:]
    taking = tuple(case for case in (*split.train, *split.validation) if case not in apart)
    if len(taking) < 2:
        raise UsageError(
            f"tune needs at least {_LEAST_CASES} normal cases, one to keep apart for calibration "
            f"and two to judge by turns, and found {len(taking) + len(apart)}; tile "
            "more normal slides."
        )
    own = [s for s in stores if s.case in taking]
    abnormal = _abnormal(anomalies, stores, note)
    views = _common(known, abnormal)
    sets = {m: TileSet(own, m, tile_size=replace(base, magnification=m).tile_size) for m in views}
    strange = {
        m: found
        for m in views
        if (found := anomaly_set(anomalies, sets[m], replace(base, magnification=m))) is not None
    }
    fields_um = _fields_um(replace(base, magnification=views[0]), networks, own + abnormal, note)
    places = None
    if fields_um and strange:
        largest = max(um for sizes in fields_um.values() for um in sizes)
        places = _places(sets, largest, note), _places(strange, largest, note)
    normal_places, abnormal_places = places or (None, None)
    if normal_places is None or abnormal_places is None:
        fields_um, normal_places, abnormal_places = {}, None, None
    cases = _cases(next(iter(sets.values())))
    kept = _drawn(cases, normal_places, base.seed)
    groups = _cases(next(iter(strange.values()))) if strange else np.empty(0, np.str_)
    few = _drawn(groups, abnormal_places, base.seed)
    data = SearchData(
        {f"{m}x": Part(tiles_, kept) for m, tiles_ in sets.items()},
        cases[kept],
        {f"{m}x": Part(tiles_, few) for m, tiles_ in strange.items()},
        groups[few],
        None if normal_places is None else normal_places.take(kept),
        None if abnormal_places is None else abnormal_places.take(few),
    )
    return Inputs(
        data,
        {f"{m}x": (m, base.field_um) for m in views},
        tuple(sorted(taking)),
        apart,
        sorted(s.fingerprint + s.config_hash for s in own),
        sorted(s.fingerprint + s.config_hash for s in abnormal),
        fields_um,
    )


def _normal(
    tiles: Paths, base: TrainConfig, magnifications: Sequence[int], note: Notes
) -> tuple[list[TileStore], list[int]]:
    """Return the stores of the magnification that most files hold, and all that these hold."""
    found: dict[int, list[TileStore]] = {}
    notes: dict[int, list[str]] = {}
    error: TileStoreError | None = None
    for m in magnifications:
        notes[m] = []
        try:
            found[m] = read_stores(tiles, replace(base, magnification=m), notes[m].append)
        except TileStoreError as missing:
            error = error or missing
    if not found:
        assert error is not None
        raise error
    most = max(found, key=lambda m: (len(found[m]), m == base.magnification))
    for text in notes[most]:
        note(text)
    paths = [s.path for s in found[most]]
    return found[most], [m for m in found if [s.path for s in found[m]] == paths]


def _abnormal(
    paths: Sequence[str | Path], normal: Sequence[TileStore], note: Notes
) -> list[TileStore]:
    stores = [TileStore.open(path) for path in find_tile_files(paths)] if paths else []
    slides = {s.fingerprint: s.path for s in normal}
    for store in stores:
        if store.fingerprint in slides:
            raise UsageError(
                f"{store.path} and {slides[store.fingerprint]} come from one slide, which cannot "
                "be abnormal and normal; take it out of the normal tiles."
            )
        if store.label is None:
            note(
                f"{store.path} was not cut inside annotations: every tile of it counts as abnormal."
            )
    if stores and not any((s.status == Status.OK).any() for s in stores):
        raise TileStoreError(
            f"No tile in {stores[0].path} is good enough to judge by; give other anomalies."
        )
    return stores


def _common(known: Sequence[int], abnormal: Sequence[TileStore]) -> list[int]:
    """Magnifications that all files hold."""
    views = [m for m in known if all(m in s.magnifications for s in abnormal)]
    if not views:
        other = min(abnormal, key=lambda s: len(set(known) & set(s.magnifications)))
        raise TileStoreError(
            f"{other.path} has tiles at {_listed(other.magnifications)}, the normal ones are used "
            f"at {_listed(known)}; tile both at the same magnification."
        )
    return views


def _listed(magnifications: Sequence[int]) -> str:
    return ", ".join(f"{m}x" for m in magnifications)


def _cases(tiles: TileSet) -> NDArray[np.str_]:
    return np.array(tiles.cases, np.str_)


def _fields_um(
    base: TrainConfig,
    networks: Mapping[str, PerceptualNetwork],
    stores: Sequence[TileStore],
    note: Notes,
) -> dict[str, tuple[int, ...]]:
    """Sides of the fields that each network judges; those that can judge tiles alone are left out.

    Files hold planes at all their magnifications, or at none.
    """
    said: dict[str, None] = {}
    found = {}
    for name, network in networks.items():
        own = replace(with_network(base.ranked_by("density"), name), density_estimator="")
        settled = with_fields_or_without(own, network, stores, said.setdefault)
        found[name] = settled.density(network.default_layer).fields_um
    for sentence in said:
        note(sentence)
    return {name: sizes for name, sizes in found.items() if sizes}


def _places(sets: Mapping[int, TileSet], field_um: int, note: Notes) -> Places | None:
    """Find the cell of each tile; -1 where it would not be judged, at any magnification.

    None where a file has no tile whose cell would be: then tiles are judged, and it is said.
    """
    tiles = next(iter(sets.values()))
    cells = np.empty((len(tiles), 3), np.intp)
    for number, store in enumerate(tiles.stores):
        found = [cells_of_tiles(store, m, field_um) for m in sets]
        mine = np.flatnonzero(tiles.slide == number)
        rows_columns = np.min([place for place, _ in found], axis=0)[tiles.index[mine]]
        judged = np.all([good for _, good in found], axis=0)[tiles.index[mine]]
        if len(mine) and not judged.any():
            note(
                f"{store.path} does not hold what lies round its tiles, so tune judges tiles; run "
                f"tile again for fields of {field_um} um, which see more."
            )
            return None
        cells[mine, 0] = np.where(judged, number, -1)
        cells[mine, 1:] = rows_columns
    return Places(tiles.stores, cells)


def _drawn(cases: NDArray[np.str_], places: Places | None, seed: int) -> NDArray[np.intp]:
    """Positions (n,) of the tiles that take part; the same for trials that judge tiles."""
    known = np.arange(len(cases)) if places is None else np.flatnonzero(places.cells[:, 0] >= 0)
    return known[at_most(cases[known], _MOST_OF_A_CASE, seed)]
