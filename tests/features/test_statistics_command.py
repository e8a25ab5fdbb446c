"""``python -m wsi_anomaly.features.statistics``: a network with statistics of somebody's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_anomaly.features import load_features
from wsi_anomaly.features.statistics import image_files, image_tiles, main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "below").mkdir(parents=True)
    for name, shape in {"a.png": (130, 200, 3), "below/b.JPG": (64, 64, 3)}.items():
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    Image.fromarray(rng.integers(0, 256, (20, 40), dtype=np.uint8)).save(
        tmp_path / "images" / "small.png"
    )
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def test_the_written_file_serves_as_weights_with_these_statistics(folder: Path) -> None:
    output = folder.parent / "network.safetensors"
    assert main(["compact", str(folder), "-o", str(output)]) == 0
    network = load_features("compact", weights=output)
    tiles = torch.cat(list(image_tiles(image_files([folder]), 64, 5000)))
    # 2 x 3 whole tiles, 1, and the enlarged one with room for 2.
    assert tiles.shape == (9, 3, 64, 64)
    assert tiles.min() >= -1
    assert tiles.max() <= 1
    for f in network(tiles, network.layers).values():
        torch.testing.assert_close(f.mean((0, 2, 3)), torch.zeros(f.shape[1]), rtol=0, atol=1e-3)
    shipped = load_features("compact")
    assert not torch.equal(network.statistics("c3")[0], shipped.statistics("c3")[0])


def test_the_authors_file_gives_its_layers_their_statistics(tmp_path: Path) -> None:
    """By layer (mean, standard deviation), (1, C, 1, 1) each; layers that we lack are left out."""
    held = {
        name: (torch.full((1, width, 1, 1), 0.5), torch.full((1, width, 1, 1), 2.0))
        for name, width in (("c2", 48), ("c3", 96), ("p5", 7))
    }
    torch.save(held, tmp_path / "theirs.pt")
    output = tmp_path / "network.safetensors"
    given = ["--statistics", str(tmp_path / "theirs.pt"), "-o", str(output)]
    assert main(["compact", *given]) == 0
    network, shipped = load_features("compact", weights=output), load_features("compact")
    for layer in ("c2", "c3"):
        assert [set(t.tolist()) for t in network.statistics(layer)] == [{0.5}, {2.0}]
    assert torch.equal(network.statistics("c4")[0], shipped.statistics("c4")[0])
    for wrong in ({"x": 1}, {"c2": torch.zeros(3)}, {"c2": (torch.zeros(3), torch.ones(3))}):
        torch.save(wrong, tmp_path / "theirs.pt")
        assert main(["compact", *given]) == 1


def test_images_give_equal_shares_of_the_tiles(folder: Path) -> None:
    files = image_files([folder])
    assert sum(len(batch) for batch in image_tiles(files, 64, 3)) == 3
    again = [torch.cat(list(image_tiles(files, 64, 6, seed=seed))) for seed in (0, 0, 1)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["compact", "NOWHERE", "-o", "x.safetensors"], 2, "does not exist"),
        (["compact", "EMPTY", "-o", "x.safetensors"], 2, "no images"),
        (["compact", "BROKEN", "-o", "x.safetensors"], 2, "no readable image"),
        (["compact", "IMAGES", "-o", "x.pth"], 2, ".safetensors"),
        (["compact", "-o", "x.safetensors"], 2, "Give images"),
        (["compact", "IMAGES", "--statistics", "f.pt", "-o", "x.safetensors"], 2, "Give images"),
        (["compact", "--statistics", "nowhere.pt", "-o", "x.safetensors"], 1, "nowhere.pt"),
        (["compact", "IMAGES", "-o", "x.safetensors", "--size", "2"], 2, "--size"),
        (["nothing", "IMAGES", "-o", "x.safetensors"], 2, "no network"),
        (["vgg19", "IMAGES", "-o", "x.safetensors", "--feature-weights", "NO"], 1, "no weights"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    empty, broken = folder.parent / "empty", folder.parent / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.png").write_bytes(b"not an image")
    places = {"IMAGES": folder, "EMPTY": empty, "BROKEN": broken, "NOWHERE": folder / "nowhere"}
    output = arguments.index("-o") + 1
    arguments = [str(places.get(argument, argument)) for argument in arguments]
    arguments[output] = str(folder.parent / arguments[output])
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert says in error
    assert not Path(arguments[output]).exists()
