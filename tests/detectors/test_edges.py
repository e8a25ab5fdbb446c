"""Scores above those of fields with as much tissue: the edge of tissue is not an anomaly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.detectors.edges import MOST_KNOTS, above_usual, usual_by_share
from wsi_anomaly.features import load_features

FIELDS = 6000


def at_edges(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores that are higher where there is less tissue; most fields are whole."""
    share = np.where(rng.random(FIELDS) < 0.7, 1.0, rng.uniform(0.1, 1, FIELDS))
    return 6 * (1 - share) + rng.normal(0, 1, FIELDS), share


def test_normal_fields_of_every_share_are_alike_and_a_lesion_inside_stands_out() -> None:
    score, share = at_edges(np.random.default_rng(0))
    usual = torch.from_numpy(usual_by_share(score, share))
    new_score, new_share = at_edges(np.random.default_rng(1))
    found = above_usual(torch.from_numpy(new_score), torch.from_numpy(new_share), usual).numpy()
    for low, high in ((0.1, 0.4), (0.4, 0.7), (0.7, 1), (1, 2)):
        here = found[(new_share >= low) & (new_share < high)]
        assert abs(np.median(here)) < 0.25
        assert np.quantile(here, 0.9) == pytest.approx(1.28, abs=0.4)
    # 4 spreads above the middle of whole fields: below many an edge before, above nearly all after.
    lesion = float(above_usual(torch.tensor([4.0]), torch.tensor([1.0]), usual))
    assert (new_score > 4).mean() > 3 * (found > lesion).mean()


@pytest.mark.parametrize("count", [0, 1, 900])
def test_too_few_fields_tell_nothing(count: int) -> None:
    assert usual_by_share(np.zeros(count), np.ones(count)) is None


@given(
    arrays(np.float32, 2000, elements=st.floats(-10, 10, width=32)),
    arrays(np.float32, 2000, elements=st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0])),
)
def test_whatever_is_learned_from_gives_finite_scores_in_the_order_of_the_raw_ones(
    score: np.ndarray, share: np.ndarray
) -> None:
    usual = usual_by_share(score, share)
    assert usual is not None
    assert usual.shape[1] <= MOST_KNOTS
    assert (np.diff(usual[0]) > 0).all()
    grid = torch.linspace(-20, 20, 9)
    for one in (0.0, 0.1, 0.33, 1.0):
        found = above_usual(grid, torch.full((9,), one), torch.from_numpy(usual))
        assert found.isfinite().all()
        assert (found.diff() > 0).all()


def test_density_learns_what_is_usual_at_edges_and_keeps_it() -> None:
    rng = np.random.default_rng(2)
    share = torch.from_numpy(rng.uniform(0.1, 1, FIELDS).astype(np.float32))
    network = load_features("compact")
    config = DensityConfig(("c3",), fields_um=(256,))
    width = Density(network, config).features.statistics("c3")[0].numel()
    noise = torch.from_numpy(rng.normal(0, 1, (FIELDS, width)).astype(np.float32))
    fields = noise / share[:, None].sqrt()  # a mean over fewer positions varies more
    density = Density(network, config).fit_fields({256: fields}, share)
    raw = Density(network, config).fit_fields({256: fields})
    assert "usual" not in raw.state_
    scarce = (share < 0.3).numpy()
    before = raw.score_fields({256: fields}, share).numpy()
    after = density.score_fields({256: fields}, share).numpy()
    assert (before[scarce].mean() - before[~scarce].mean()) / before.std() > 1
    assert abs(after[scarce].mean() - after[~scarce].mean()) / after.std() < 0.5
    again = Density.from_state(density.state_, config.to_dict(), network, {})
    assert np.array_equal(again.score_fields({256: fields}, share).numpy(), after)
