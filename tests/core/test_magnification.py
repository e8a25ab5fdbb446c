"""Which slide serves which magnification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core.magnification import mpp_of, served, serves


@pytest.mark.parametrize(
    ("finest_mpp", "expected"),
    [
        (0.25, (10, 20, 40)),
        (0.293, (10, 20, 40)),  # a scanner's "40x"
        (0.30, (10, 20, 40)),
        (0.3001, (10, 20)),
        (0.499, (10, 20)),
        (1.0, (10,)),
        (1.21, ()),
        (2.93, ()),
    ],
)
def test_a_slide_serves_what_its_finest_level_can_show(
    finest_mpp: float, expected: tuple[int, ...]
) -> None:
    assert served(finest_mpp, (10, 20, 40)) == expected


@given(st.floats(0.05, 10), st.sampled_from([5, 10, 20, 40]))
def test_a_finer_slide_serves_at_least_as_much(finest_mpp: float, magnification: int) -> None:
    assert not serves(finest_mpp, magnification) or serves(finest_mpp / 1.5, magnification)


def test_a_magnification_is_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        mpp_of(0)
