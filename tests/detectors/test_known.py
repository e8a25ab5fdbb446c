"""Known findings: what takes a flag away, what does not, and what is kept in files."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_anomaly.detectors.known import Finding, Known

WIDTH, FIELDS = 16, 8


def direction(kind):
    return np.eye(WIDTH)[kind]


def fields(kind, seed, noise=0.25, count=FIELDS):
    """Fields of one region, (count, WIDTH)."""
    rng = np.random.default_rng(seed)
    made = direction(kind) + noise * rng.normal(size=(count, WIDTH)) / 4
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def finding(kind, name, *, harmless=True, cases=("a", "a", "b", "b", "c", "c")):
    return Finding(
        name, harmless, np.concatenate([fields(kind, 100 * kind + i) for i in range(len(cases))]),
        np.repeat(np.arange(len(cases)), FIELDS), tuple(cases),
    )  # fmt: skip


def test_a_region_like_what_was_called_harmless_goes():
    known = Known.of([finding(0, "follicle")])
    like = known.like(fields(0, 7))
    assert like.taken_away
    assert like.finding.name == "follicle"
    assert not known.like(fields(1, 7)).taken_away


@pytest.mark.parametrize("cases", [("a", "b", "c", "d"), ("a", "a", "a", "b", "b", "b")])
def test_too_few_regions_or_cases_are_a_hint_only(cases):
    like = Known.of([finding(0, "follicle", cases=cases)]).like(fields(0, 7))
    assert not like.taken_away
    assert like.finding.name == "follicle"


def test_what_is_like_something_abnormal_stays():
    """Even of one region, and though a harmless class lies near."""
    harmless = finding(0, "follicle")
    abnormal = finding(0, "lymphoma", harmless=False, cases=("d",))
    near = abnormal.vectors
    assert Known.of([harmless]).like(near).taken_away
    assert not Known.of([harmless, abnormal]).like(near).taken_away


def test_a_lesion_beside_a_follicle_stays():
    known = Known.of([finding(0, "follicle"), finding(1, "tumour", harmless=False)])
    mixed = np.concatenate([fields(0, 7, count=6), fields(1, 8, count=4)])
    assert known.like(fields(0, 7, count=10)).taken_away
    assert not known.like(mixed).taken_away


def test_one_wrong_review_takes_no_lesion_away():
    members = [fields(0, i) for i in range(9)] + [fields(1, 50)]  # the last is a tumour
    wrong = Finding(
        "follicle", True, np.concatenate(members), np.repeat(np.arange(10), FIELDS),
        tuple("aabbccddee"),
    )  # fmt: skip
    known = Known.of([wrong])
    assert known.like(fields(0, 7)).taken_away
    assert not known.like(fields(1, 51)).taken_away


def test_nothing_known_says_nothing():
    assert Known.of([]).like(fields(0, 1)) is None
    assert Known.of([finding(0, "follicle")]).like(np.empty((0, WIDTH), np.float32)) is None


def test_a_left_out_case_is_not_looked_at():
    known = Known.of([finding(0, "fold", cases=("a",))])
    assert known.like(fields(0, 1), leave_out="a") is None


def test_it_comes_back_from_its_state():
    known = Known.of([finding(0, "follicle"), finding(1, "tumour", harmless=False)], [{"id": "x"}])
    tensors, facts = known.to_state()
    again = Known.from_state(tensors, facts)
    assert [f.radius for f in again.findings] == [f.radius for f in known.findings]
    assert again.reviews == ({"id": "x"},)
    assert again.like(fields(0, 7)).distance == known.like(fields(0, 7)).distance


@pytest.mark.parametrize(
    "change",
    [{"radius": 7.0}, {"radius": "x"}, {"cases": ["a"]}, {"cases": None}, {"radius": float("nan")}],
)
def test_a_state_that_contradicts_itself_is_refused(change):
    tensors, facts = Known.of([finding(0, "follicle")]).to_state()
    facts["findings"][0] |= change
    with pytest.raises((ValueError, TypeError, KeyError)):
        Known.from_state(tensors, facts)
