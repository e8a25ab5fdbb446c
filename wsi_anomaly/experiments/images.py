"""Quality on image sets with known labels, beside three controls.

    python -m wsi_anomaly.experiments.images DATA --dataset chest --method density \
        --features compact --feature-weights no_chest/compact.safetensors -o cells/

DATA is the folder of the sets (for ``synthetic`` that of ``wsi-anomaly demo``). The output folder
gets one file of JSON lines for these settings, a line for each division of the set; a division that
has its line is not computed again. The divisions are in ``divisions.py``, the controls in
``cells.py``. Prints one line of a Markdown table for each row: mean ROC AUC over its divisions and
its 95% interval over groups.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_anomaly import __version__
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import config_hash, fingerprint, make_folder, write_text
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.experiments.cells import COLUMNS, METHODS, Bench, Settings
from wsi_anomaly.experiments.divisions import divide
from wsi_anomaly.experiments.image_sets import SETS, ImageSet, read_set
from wsi_anomaly.features import load_features

HEAD = (
    "| set | what | method | mean colour | random features | supervised | divisions |\n"
    "|---|---|---|---|---|---|---|"
)

Cell = Mapping[str, Any]


def seen_by_features(data: str, features: str, weights: Path | None) -> bool | None:
    """Whether the network was trained on the set, as far as its description says."""
    if features != "compact":
        return None
    description = (weights or models_folder() / "compact.safetensors").with_suffix(".json")
    try:
        sources = json.loads(description.read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, KeyError):
        return None
    return data in sources


def run_cells(
    images: ImageSet,
    settings: Settings,
    output: Path,
    *,
    weights: Path | None = None,
    seeds: int = 3,
) -> list[Cell]:
    """Measure every division that has no line yet; return all cells.

    Raises
    ------
    WsiAnomalyError
        The network's weights are missing, or the file cannot be read or written.
    """
    key = config_hash(settings.to_dict())[:8]
    path = make_folder(output) / f"{settings.data}_{settings.method}_{key}.jsonl"
    found = _read(path)
    bench: Bench | None = None
    divisions = divide(images, seeds)
    for division in divisions:
        if division.name in found:
            continue
        if bench is None:
            bench = Bench(images, settings, load_features(settings.features, weights=weights))
        found[division.name] = {
            "settings": settings.to_dict(),
            "program": f"wsi-anomaly {__version__}",
            "seen_by_features": seen_by_features(settings.data, settings.features, weights),
            **bench.run(division),
        }
        write_text(path, "".join(json.dumps(cell) + "\n" for cell in found.values()))
        print(f"{division.name}: {found[division.name]['auc']}", file=sys.stderr, flush=True)
    return [found[division.name] for division in divisions]


def _read(path: Path) -> dict[str, Cell]:
    """Cells of a file by the name of their division."""
    try:
        cells = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {str(cell["division"]): cell for cell in cells}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged; delete it to have it computed again.") from error


def summarise(cells: Sequence[Cell], column: str) -> tuple[float, float, float]:
    """Mean ROC AUC over cells and its 95% interval, from draws that all cells share."""
    draws = np.array([cell["draws"][column] for cell in cells], float)
    counted = np.isfinite(draws).sum(0)
    means = np.nansum(draws, 0)[counted > 0] / counted[counted > 0]
    low, high = np.percentile(means, [2.5, 97.5]) if len(means) else (np.nan, np.nan)
    values = [cell["auc"][column] for cell in cells]
    return float(np.mean([v for v in values if v is not None])), float(low), float(high)


def markdown_rows(cells: Sequence[Cell]) -> list[str]:
    """Give one table line a row, and a line for the mean where there are several."""
    names = list(dict.fromkeys(cell["row"] for cell in cells))
    rows = [_line([c for c in cells if c["row"] == name], name) for name in names]
    if len(names) > 1:
        rows.append(_line(cells, f"mean of {len(names)}"))
    return rows


def _line(cells: Sequence[Cell], row: str) -> str:
    s = cells[0]["settings"]
    how = (
        f"{s['estimator']}, {'+'.join(s['layers'])}"
        if s["method"] == "density"
        else f"{s['steps']:,} steps of {s['batch_size']}, {s['loss_layer']}"
    )
    seen = " (has seen the set)" if cells[0]["seen_by_features"] else ""
    what = f"{s['method']} ({how}), {s['features']}{seen}, {s['size']} px"
    figures = []
    for column in COLUMNS:
        mean, low, high = summarise(cells, column)
        figures.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
    return (
        f"| {' '.join((s['data'], row)).strip()} | {what} | {' | '.join(figures)} | {len(cells)} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m wsi_anomaly.experiments.images",
        description="Measure a detector on images with known labels, beside three controls.",
    )
    parser.add_argument("data", type=Path, help="folder of the sets, or of the demo")
    parser.add_argument("--dataset", choices=sorted(SETS), required=True)
    parser.add_argument("--method", choices=METHODS, default="density")
    parser.add_argument("--features", default="compact", help="perceptual network")
    parser.add_argument("--feature-weights", type=Path, help="its weights")
    parser.add_argument("--layers", nargs="+", help="of density and the supervised bound")
    parser.add_argument("--estimator", default="both", help="of density")
    parser.add_argument("--size", type=int, default=128, help="side of a tile in px (default 128)")
    parser.add_argument("--steps", type=int, default=2000, help="of dpa (default 2000)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default 3)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the cells")
    options = parser.parse_args(arguments)
    try:
        if options.seeds < 1:
            raise UsageError("--seeds is at least 1.")
        weights: Path | None = options.feature_weights
        network = load_features(options.features, weights=weights)
        layers = tuple(options.layers or _usual_layers(options.features, network.default_layer))
        network.check_layers(layers)
        settings = Settings(
            data=options.dataset,
            size=options.size,
            method=options.method,
            features=options.features,
            weights=fingerprint(weights) if weights else "",
            layers=layers,
            estimator=options.estimator,
            steps=options.steps,
            loss_layer=network.default_layer,
        )
        images = read_set(options.dataset, options.data, options.size)
        cells = run_cells(images, settings, options.output, weights=weights, seeds=options.seeds)
    except WsiAnomalyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join([HEAD, *markdown_rows(cells)]))
    return 0


def _usual_layers(features: str, default: str) -> tuple[str, ...]:
    from wsi_anomaly.training.config import TrainConfig

    return (
        TrainConfig(features=features, steps={16: (0, 1), 32: (1, 1), 64: (1, 1)})
        .density(default)
        .layers
    )


if __name__ == "__main__":
    sys.exit(main())
