"""Dense maps: what a network gives for a whole image, whatever the way it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.features.pooling import pooled_fields

GLASS = (240, 238, 242)
WIDTH, HEIGHT = 500, 410


def picture(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Coarse colours with noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 220, (height // 24 + 1, width // 24 + 1, 3))
    image = np.kron(coarse, np.ones((24, 24, 1)))[:height, :width] + rng.normal(
        0, 20, (height, width, 3)
    )
    return image.clip(0, 255).astype(np.uint8)


IMAGE = picture()


def read(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    assert x >= 0
    assert y >= 0
    assert x + width <= WIDTH
    assert y + height <= HEIGHT
    return IMAGE[y : y + height, x : x + width]


@pytest.fixture(scope="module")
def lite0() -> PerceptualNetwork:
    return load_features("lite0")


def whole(maps: DenseMaps, **how: int) -> dict[str, torch.Tensor]:
    """Maps of the image, put together from strips that must agree where they overlap."""
    found: dict[str, torch.Tensor] = {}
    for strip in maps.strips(read, WIDTH, HEIGHT, background=GLASS, **how):
        for name, part in strip.maps.items():
            shape = (len(part.values), -(-HEIGHT // part.stride), -(-WIDTH // part.stride))
            full = found.setdefault(name, torch.full(shape, torch.nan))
            rows = slice(part.row, part.row + part.values.shape[1])
            columns = slice(part.column, part.column + part.values.shape[2])
            before = full[:, rows, columns]
            assert torch.allclose(
                before.nan_to_num(0), torch.where(before.isnan(), 0, part.values.float()),
                rtol=1e-3, atol=1e-3,
            )  # fmt: skip
            full[:, rows, columns] = part.values.float()
    assert not any(full.isnan().any() for full in found.values())
    return found


@torch.no_grad()
def on_a_canvas(network: PerceptualNetwork, layers: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The same from one ordinary pass: the image in the middle of a large piece of glass."""
    assert network.fields is not None
    beside = 32 * 14  # the deepest field does not reach the canvas's own zeros
    at = beside + network.fields[layers[-1]].shift
    canvas = np.full((HEIGHT + 2 * beside + 64, WIDTH + 2 * beside + 64, 3), GLASS, np.uint8)
    canvas[at : at + HEIGHT, at : at + WIDTH] = IMAGE
    x = torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 127.5 - 1
    found = {}
    for name, f in network.activations(x, layers).items():
        stride = network.fields[name].stride
        first, rows, columns = beside // stride, -(-HEIGHT // stride), -(-WIDTH // stride)
        found[name] = f[0, :, first : first + rows, first : first + columns].float()
    return found


@pytest.mark.parametrize(
    ("name", "layers"),
    [("lite0", ("b2", "b5", "b6")), ("compact", ("c2", "c4")), ("vgg16", ("r22", "r33"))],
)
def test_a_position_is_what_one_large_pass_gives(name: str, layers: tuple[str, ...]) -> None:
    network = load_features(name, random_seed=0) if name == "vgg16" else load_features(name)
    dense, expected = whole(DenseMaps(network, layers)), on_a_canvas(network, layers)
    assert dense.keys() == expected.keys()
    for layer in layers:
        spread = float(expected[layer].std())
        assert float((dense[layer] - expected[layer]).abs().max()) < 1e-4 * spread


@pytest.fixture(scope="module")
def uncut(lite0: PerceptualNetwork) -> dict[str, torch.Tensor]:
    return whole(DenseMaps(lite0, ("b4", "b5")))


@settings(max_examples=8, deadline=None)
@given(st.integers(20, 500), st.integers(60, 600), st.integers(0, 200))
def test_any_cut_gives_the_same(
    uncut: dict[str, torch.Tensor], lite0: PerceptualNetwork, strip: int, band: int, halo: int
) -> None:
    cut = whole(DenseMaps(lite0, ("b4", "b5")), strip=strip, band=band, halo=halo)
    for layer, expected in uncut.items():
        difference = float((cut[layer] - expected).abs().max())
        assert difference < 1e-4 * float(expected.std())


def test_bfloat16_stays_near_and_does_not_depend_on_the_cut_either(
    uncut: dict[str, torch.Tensor],
) -> None:
    """docs/method.md has the figures; the rounded weights shift whole filters."""
    half = load_features("lite0").set_precision(torch.bfloat16)
    found = whole(DenseMaps(half, ("b4", "b5")))
    again = whole(DenseMaps(half, ("b4", "b5")), strip=128, band=200)
    for layer, expected in uncut.items():
        spread = float(expected.std())
        assert float((found[layer] - expected).abs().mean()) < 0.1 * spread
        assert float((again[layer] - found[layer]).abs().mean()) < 0.01 * spread


def test_what_is_out_of_reach_is_not_computed_and_changes_nothing(
    uncut: dict[str, torch.Tensor], lite0: PerceptualNetwork
) -> None:
    maps = DenseMaps(lite0, ("b4",))
    mask = np.zeros((-(-HEIGHT // 16), -(-WIDTH // 16)), bool)
    mask[20:22, 27:30] = True
    asked = []

    def watched(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        asked.append((x, y))
        return read(x, y, width, height)

    for strip in maps.strips(watched, WIDTH, HEIGHT, background=GLASS, mask=mask, strip=64):
        for name, part in strip.maps.items():
            rows = slice(part.row, part.row + part.values.shape[1])
            columns = slice(part.column, part.column + part.values.shape[2])
            counts = part.weights > 0
            assert torch.equal(counts, torch.from_numpy(mask[rows, columns]))
            expected = uncut[name][:, rows, columns][:, counts]
            assert torch.allclose(part.values[:, counts], expected, rtol=1e-3, atol=1e-3)
    assert asked
    assert min(y for _, y in asked) > 0
    with pytest.raises(ModelError, match="mask is"):
        next(maps.strips(read, WIDTH, HEIGHT, background=GLASS, mask=mask[1:]))


def fields(
    network: PerceptualNetwork, sizes: tuple[int, ...], step: int, **how: object
) -> tuple[dict[int, NDArray[np.float32]], dict[int, NDArray[np.float32]]]:
    """Embeddings and shares of the whole image."""
    rows, columns = -(-HEIGHT // step), -(-WIDTH // step)
    found, shares = {}, {s: np.full((rows, columns), -1, np.float32) for s in sizes}
    for part in pooled_fields(
        DenseMaps(network, ("b4", "b5")), read, WIDTH, HEIGHT,
        background=GLASS, sizes=sizes, step=step, **how,  # type: ignore[arg-type]
    ):  # fmt: skip
        for size in sizes:
            values = part.embeddings[size]
            full = found.setdefault(
                size, np.full((rows, columns, values.shape[2]), np.inf, np.float32)
            )
            place = np.s_[part.row : part.row + len(values), part.column :]
            assert (shares[size][place][:, : values.shape[1]] == -1).all(), "a cell came twice"
            full[place][:, : values.shape[1]] = values
            shares[size][place][:, : values.shape[1]] = part.shares[size]
    assert all((share >= 0).all() for share in shares.values())
    return found, shares


def test_a_field_is_the_mean_of_its_positions(
    uncut: dict[str, torch.Tensor], lite0: PerceptualNetwork
) -> None:
    found, shares = fields(lite0, (64, 192), 64, deviations=True)
    mean, std = lite0.statistics("b4")
    normalised = (uncut["b4"] - mean[:, None, None]) / std[:, None, None]
    # The field of 192 px round cell (2, 3) has pixels 64 to 256 down and 128 to 320 across.
    positions = normalised[:, 4:16, 8:20]
    embedding = torch.from_numpy(found[192][2, 3])
    assert embedding.shape == (2 * (80 + 112),)
    torch.testing.assert_close(embedding[:80], positions.mean((1, 2)), rtol=1e-3, atol=1e-3)
    deviation = positions.std((1, 2), correction=0)
    torch.testing.assert_close(embedding[80:160], deviation, rtol=1e-2, atol=1e-2)
    assert shares[192][2, 3] == pytest.approx(1)
    # 500 px across: the last cell has 52 of its 64 px; of 410 px down, 26.
    assert shares[64][2, -1] == pytest.approx(52 / 64)
    assert shares[64][-1, -1] == pytest.approx(26 / 64 * 52 / 64)


@settings(max_examples=8, deadline=None)
@given(st.integers(20, 500), st.integers(40, 260), st.integers(24, 100))
def test_fields_of_any_size_and_step_do_not_depend_on_the_cut(
    lite0: PerceptualNetwork, strip: int, size: int, step: int
) -> None:
    whole_fields, whole_shares = fields(lite0, (size,), step)
    cut_fields, cut_shares = fields(lite0, (size,), step, strip=strip)
    spread = whole_fields[size].std()
    assert np.abs(cut_fields[size] - whole_fields[size]).max() < 1e-4 * spread
    assert np.allclose(cut_shares[size], whole_shares[size], atol=1e-5)


def test_glass_is_left_out_of_the_mean(
    uncut: dict[str, torch.Tensor], lite0: PerceptualNetwork
) -> None:
    mask = np.zeros((-(-HEIGHT // 16), -(-WIDTH // 16)), bool)
    mask[8:12, 12:14] = True
    found, shares = fields(lite0, (64,), 64, mask=mask)
    mean, std = lite0.statistics("b4")
    tissue = uncut["b4"][:, 8:12, 12:14].mean((1, 2))
    torch.testing.assert_close(
        torch.from_numpy(found[64][2, 3][:80]), (tissue - mean) / std, rtol=1e-3, atol=1e-3
    )
    assert shares[64][2, 3] == pytest.approx(0.5)
    assert shares[64].sum() == pytest.approx(0.5)
    assert np.isnan(found[64][0, 0]).all()


def test_a_network_that_sees_whole_images_is_refused() -> None:
    with pytest.raises(ModelError, match="resnet states no finite field"):
        DenseMaps(load_features("resnet", random_seed=0), ("layer2",))
    with pytest.raises(ModelError, match="no layer 'b9'"):
        DenseMaps(load_features("lite0"), ("b9",))
