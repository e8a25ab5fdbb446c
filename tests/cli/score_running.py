"""How tests run ``wsi-anomaly score``, and read what it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from wsi_anomaly.cli.main import main


def score(*arguments) -> int:
    return main(["score", *map(str, arguments), "--device", "cpu"])


def rows(folder="results"):
    with open(Path(folder) / "slides.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(name, folder="results"):
    return json.loads((Path(folder) / name / "summary.json").read_text(encoding="utf-8"))
