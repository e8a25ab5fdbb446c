"""A sample of what ``make fuzz`` does: mutated files are refused in a sentence, or read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from mutations import mutated
from parsers import PARSERS

SLOW = {"model_json": 15, "tile_file": 60, "plane_file": 30}
NEVER_REFUSED = (
    "summary_json",
    "slides_csv",
    "beside_json",
    "ome_xml",
    "dicom",
)  # read as far as they can be


@pytest.mark.parametrize("name", PARSERS)
def test_mutated_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    parser = PARSERS[name]
    path = tmp_path / parser.name
    seeds = parser.seeds()
    for seed in seeds:
        path.write_bytes(seed)
        assert parser.accepts(path), "a whole file is read"
    chance = random.Random(name)
    refused = 0
    for _ in range(SLOW.get(name, 150)):
        data = mutated(chance.choice(seeds), chance, text=parser.text)
        path.write_bytes(data)
        try:
            refused += not parser.accepts(path)
        except Exception as error:
            raise AssertionError(f"{data!r:.2000}") from error
    assert refused or name in NEVER_REFUSED, "nothing was refused: the mutations are too weak"
