"""The promise about normal slides, held on simulated cohorts.

The full simulation is ``python benchmarks/calibration.py``; this is a part of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from cohorts import DRAWN, Kind, batch, cohort, knowing, pool

COHORTS = 60
KINDS = (Kind(False, 0.0, False), Kind(False, 1.0, True), Kind(True, 0.5, False))


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def slides(request):
    if request.param.drawn and not DRAWN.is_file():
        pytest.skip("no score maps of drawn slides here")
    return pool(request.param, 120, large=20)


@pytest.mark.parametrize("large", [False, True], ids=["of equal area", "twenty times as large"])
@pytest.mark.parametrize("cases", [4, 8, 20, 50])
def test_the_promise_holds_whatever_slides_differ_by(slides, cases, large):
    rng = np.random.default_rng(cases)
    found = [cohort(slides, cases, rng, large=large) for _ in range(COHORTS)]
    assert np.mean([f.capped for f in found]) <= 1.0
    # And it is no empty promise: so many cases give flags, and these find lesions.
    assert all(f.flags for f in found) == (cases >= 40 or not large)
    if not large:
        assert np.mean([f.power for f in found]) > (0.8 if cases >= 20 else 0.5) * knowing(slides)


def test_what_the_sentence_says_is_what_happens(slides):
    rng = np.random.default_rng(0)
    found = [cohort(slides, 12, rng) for _ in range(COHORTS)]
    for happened, said in (("capped", "expected"), ("any_flag", "any_expected")):
        truth = np.mean([getattr(f, happened) for f in found])
        assert truth - 0.1 < np.mean([getattr(f, said) for f in found]) < truth + 0.25


@pytest.mark.parametrize("cases", [4, 8, 20, 50])
def test_a_shift_of_the_whole_batch_breaks_no_promise(slides, cases):
    rng = np.random.default_rng(cases)
    found = [batch(slides, cases, rng, shift=1.0, new=60) for _ in range(COHORTS)]
    assert np.mean([f.capped for f in found]) <= 1.0
