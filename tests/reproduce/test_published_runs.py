"""Every configuration of the paper's autoencoder, held against facts written down by us.

``published_runs.csv`` holds one line a run: what the configurations of the authors' repository
(ninatu/anomaly_detection, configs/dpa, run_0) make its program do. Widths are those that the
program takes of a longer list; steps are ``resolution:transition+stabilisation``.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from wsi_anomaly.reproduce.published import CONFIGURATIONS, GRID, Published, configuration

FACTS = Path(__file__).with_name("published_runs.csv")
PAGE = Path(__file__).parents[2] / "docs" / "method.md"


def facts() -> dict[tuple[str, str, str], dict[str, str]]:
    with FACTS.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return {(line.pop("set"), line.pop("problem"), line.pop("row")): line for line in lines}


def as_written(run: Published) -> dict[str, str]:
    """A run of ours in the words of the file."""
    return {
        "resolution": str(run.resolution),
        "first_resolution": str(run.first_resolution or run.resolution),
        "latent_resolution": str(run.latent_resolution),
        "latent_channels": str(run.latent_channels),
        "widths": " ".join(map(str, run.widths)),
        "layers": " ".join(f"{at}:{'+'.join(names)}" for at, names in run.layers.items()),
        "learning_rate": f"{run.learning_rate:g}",
        "batch_size": str(run.batch_size),
        "steps": " ".join(f"{at}:{grow}+{stay}" for at, (grow, stay) in run.steps.items()),
        "adversarial_weight": f"{run.adversarial_weight:g}",
        "pixel_weight": f"{run.pixel_weight:g}",
        "equalise": str(int(run.equalise)),
        "flips": str(int(run.flips)),
        "image_channels": str(run.image_channels),
    }


def test_every_run_is_configured_as_published() -> None:
    ours = {
        (name, problem, row): as_written(run)
        for name, problems in CONFIGURATIONS.items()
        for problem, runs in problems.items()
        for row, run in runs.items()
    }
    assert ours == facts()
    assert len(ours) == 10 + 10 + 3 * 7 + 7


def as_documented(place: tuple[str, str, str], line: dict[str, str]) -> str:
    """A line of the file as a line of the page."""
    several = " " in line["steps"]
    stages = [re.fullmatch(r"(\d+):(\d+)\+(\d+)", part) for part in line["steps"].split()]
    steps = [
        (f"{at}: " if several else "")
        + (f"{int(grow):,} + " if grow != "0" else "")
        + f"{int(stay):,}"
        for at, grow, stay in (match.groups() for match in stages if match)
    ]
    layers = [part.replace(":", ": ").replace("+", " + ") for part in line["layers"].split()]
    also = {
        f"adversary {line['adversarial_weight']}": line["adversarial_weight"] != "0",
        f"pixel L1 {line['pixel_weight']}": line["pixel_weight"] != "0",
        "equalised": line["equalise"] == "1",
        "flips": line["flips"] == "1",
        "grey": line["image_channels"] == "1",
    }
    grows = line["first_resolution"] != line["resolution"]
    side = line["latent_resolution"]
    cells = (
        f"{place[0]}, {place[1]}", place[2],
        f"{line['first_resolution']} to {line['resolution']}" if grows else line["resolution"],
        f"{line['latent_channels']} x {side} x {side}", line["widths"].replace(" ", "-"),
        ", ".join(layers) if several else layers[0].split(": ")[1],
        line["learning_rate"], line["batch_size"], "; ".join(steps),
        ", ".join(name for name, holds in also.items() if holds) or "-",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_the_page_states_every_run() -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    stated = [line for line in page if re.match(r"\| (cifar10|svhn|nih|camelyon16), ", line)]
    assert stated == [as_documented(place, line) for place, line in facts().items()]


def test_a_row_of_the_curve_has_the_flips_and_channels_of_its_set() -> None:
    for source, problem, expected in (
        ("cifar10", "automobile", (False, 3)),
        ("nih", "PA", (False, 1)),
        ("camelyon16", "healthy", (True, 3)),
    ):
        for row in GRID:
            run = configuration(source, problem, row)
            assert run is not None
            assert (run.flips, run.image_channels) == expected


def test_the_grid_to_choose_from_has_tight_bottlenecks_and_one_that_can_copy() -> None:
    run = configuration("cifar10", "automobile", "dpa-map64-r42")
    assert run is not None
    latents = {
        row: found.latent_channels * found.latent_resolution**2
        for row in GRID
        if (found := configuration("cifar10", "automobile", row))
    }
    image = 3 * run.resolution**2
    assert min(latents.values()) < image / 100
    assert latents["dpa-map16-r42"] < image < latents["dpa-map64-r42"]


def test_no_row_of_a_folder_flips_and_all_are_in_colour() -> None:
    for row in ("dpa", *(f"dpa-{k}" for k in range(1, 7)), *GRID):
        run = configuration("folder", "folder", row)
        assert run is not None
        assert not run.flips
        assert run.image_channels == 3
