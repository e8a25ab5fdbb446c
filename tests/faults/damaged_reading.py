"""Read damaged tile files, models and results in a process of its own: it may not survive it.

``python damaged_reading.py KIND ORIGINAL FOLDER FIRST LAST`` prints a JSON line before and after
each try: ``{"try": i}``, then ``{"outcome": ..., "sentence": ...}``.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from damage import bit_flipped, cut_off, overwritten

from wsi_anomaly.core.errors import WsiAnomalyError

_MEMORY = 12 << 30  # more is a bomb
_KINDS = (bit_flipped, overwritten, cut_off)


def _sample(store: object) -> list[np.ndarray]:
    from wsi_anomaly.tiles import TileStore

    assert isinstance(store, TileStore)
    images = [store.images(m, slice(None)) for m in store.magnifications]
    return [store.coords, store.status, store.tissue_fraction, *images]


def read_tiles(path: Path) -> list[np.ndarray]:
    """All that a training reads."""
    from wsi_anomaly.tiles import TileStore

    return _sample(TileStore.open(path / "tiles.h5"))


def read_model(path: Path) -> list[np.ndarray]:
    """All that scoring uses: its scores of some tiles."""
    from wsi_anomaly.detectors import Model

    model = Model.load(path)
    size = model.tile_size
    tiles = np.random.default_rng(0).integers(0, 255, (2, size, size, 3)).astype(np.uint8)
    scores = [values for _, values in sorted(model.score_tiles(tiles).items())]
    reference = model.calibration[model.primary]
    return [*scores, np.asarray(reference.operating_point().threshold)]


def read_results(path: Path) -> list[np.ndarray]:
    """All that the viewer shows."""
    from wsi_anomaly.results.stored_scores import StoredScores

    stored = StoredScores.read(path)
    return [stored.score, stored.flagged, stored.fields.coords]


READ: dict[str, Callable[[Path], list[np.ndarray]]] = {
    "tiles": read_tiles,
    "model": read_model,
    "results": read_results,
}


def damage_one_file(folder: Path, number: int) -> str:
    """Damage one of a folder's files: every file in its turn."""
    random = np.random.default_rng(number)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _READ_SUFFIXES)
    path = files[number % len(files)]
    kind = _KINDS[number // len(files) % len(_KINDS)]
    content = path.read_bytes()
    if path.suffix == ".h5" and number % 2:  # half of the tries: not pixels, but structure
        content, pixels = content[:12000], content[12000:]
        path.write_bytes(kind(content, random) + (b"" if kind is cut_off else pixels))
    else:
        path.write_bytes(kind(content, random))
    return f"{path.relative_to(folder)} {kind.__name__}"


_READ_SUFFIXES = {".h5", ".json", ".safetensors", ""} | {".zarray", ".zgroup", ".zattrs"}


def main(kind: str, original: Path, folder: Path, first: int, last: int) -> None:
    """Damage and read, try after try."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    read = READ[kind]
    whole = read(original)
    for number in range(first, last):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        print(json.dumps({"try": number, "what": damage_one_file(folder, number)}), flush=True)
        sentence, outcome = "", "harmless"
        try:
            found = read(folder)
            same = len(found) == len(whole) and all(
                np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
                for a, b in zip(whole, found, strict=True)
            )
            outcome = "harmless" if same else "not noticed"
        except WsiAnomalyError as error:
            sentence, outcome = str(error), "refused"
        except Exception as error:  # noqa: BLE001 - exactly what must not happen
            sentence, outcome = f"{type(error).__name__}: {error}", "traceback"
        print(json.dumps({"outcome": outcome, "sentence": sentence}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
