"""Known findings beside the normal reference: what readers named, and what is like it.

The reference stays as it is. A finding is a class of its own (Graf et al. 2026): reviewed regions,
each with the embeddings of some of its fields. A field is as far from a class as from its third
nearest region (a sixth of them where they are many), so that a wrong review neither takes a flag
away nor keeps one. Distances are between directions of deviation from normal tissue. A harmless
class takes flags away only from ``LEAST_REGIONS`` of ``LEAST_CASES`` on, within a radius that is
set by leaving out a case at a time, and only where no known abnormal finding is nearer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.prefixes import below
from wsi_anomaly.detectors.base import Detector, robust_units

LEAST_REGIONS, LEAST_CASES = 5, 3
NEIGHBOURS = 3
"""A field is like a class when it is like so many of its regions."""
MOST_FIELDS = 32
"""Fields that are kept of a region."""
WHOLE = 0.75
"""Share of a region's fields that must be like one class for the region to go."""

_MOST_ABNORMAL = 1 / 3  # of a region's fields may lie nearer to something abnormal
_RADIUS_SPREADS = 3.0  # robust ones above the middle
_LEAST_SPREAD = 0.1  # of the middle
_LEAST_SHARE_NEAR = 0.15
_MOST_CLASSES, _MOST_VECTORS = 500, 200_000

Floats = NDArray[np.float32]


def knows_directions(detector: Detector) -> bool:
    """Whether it judges fields, and keeps what :func:`likeness` needs."""
    return bool(detector.fields_um) and f"{detector.fields_um[0]}um.mean" in detector.state_


def likeness(detector: Detector, embeddings: Mapping[int, Floats]) -> Floats:
    """Directions in which fields deviate from normal tissue, (N, d) of length one.

    Parameters
    ----------
    detector
        One that judges fields, with what it has learned.
    embeddings
        By size in um, (N, D).
    """
    parts = []
    for um in detector.fields_um:
        state = {k: v.cpu() for k, v in below(f"{um}um.", detector.state_).items()}
        z = (torch.from_numpy(embeddings[um]) - state["mean"]) / state["scale"]
        if "directional.components" in state:
            z = torch.nn.functional.normalize(z, dim=1) @ state["directional.components"].T
            z = (z - state["directional.centre"]) @ state["directional.root"]
        parts.append(torch.nn.functional.normalize(z, dim=1))
    out: Floats = (torch.cat(parts, 1) / len(parts) ** 0.5).numpy()
    return out


def _unit(vectors: Floats) -> Floats:
    out: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return out


@dataclass(frozen=True, eq=False)
class Finding:
    """One class of reviewed regions.

    Attributes
    ----------
    name
        What readers called it.
    harmless
        Whether it is a normal variant or an artefact; else it is abnormal.
    vectors
        (n, d) float32, :func:`likeness` of fields of its regions.
    region
        (n,) int, number of each field's region.
    cases
        Patient or animal of each region.
    radius
        Farthest distance at which a field is like it; None: too few to say, it is a hint only.
    """

    name: str
    harmless: bool
    vectors: Floats
    region: NDArray[np.int64]
    cases: tuple[str, ...]
    radius: float | None = None

    @property
    def decides(self) -> bool:
        """Whether it takes flags away."""
        return self.harmless and self.radius is not None

    def distance(
        self, vectors: Floats, leave_out: str | None = None, *, of_regions: bool = False
    ) -> Floats:
        """Distances (N,) of fields (N, d), 0 to 2; infinite where nothing is left.

        `leave_out` is a case whose regions are not looked at. With `of_regions` those are of
        regions as a whole, each by its mean direction.
        """
        kept = [i for i, case in enumerate(self.cases) if case != leave_out]
        if not kept:
            return np.full(len(vectors), np.inf, np.float32)
        members = [self.vectors[self.region == i] for i in kept]
        if of_regions:
            members = [_unit(member.mean(0, keepdims=True)) for member in members]
        nearest = np.stack([1 - (vectors @ member.T).max(1) for member in members], 1)
        k = min(max(NEIGHBOURS, math.ceil(_LEAST_SHARE_NEAR * len(kept)) + 1), len(kept)) - 1
        out: Floats = np.partition(nearest, k, axis=1)[:, k]
        return out

    def with_radius(self) -> Finding:
        """Return it with the radius that its left-out cases lie in, if it is large enough."""
        enough = len(self.cases) >= LEAST_REGIONS and len(set(self.cases)) >= LEAST_CASES
        if not enough:
            return Finding(self.name, self.harmless, self.vectors, self.region, self.cases)
        # How far most of a region lies from the other cases; wrong reviews lie far out.
        reach = [
            float(np.quantile(self.distance(self.vectors[self.region == i], case), WHOLE))
            for i, case in enumerate(self.cases)
        ]
        middle, spread = robust_units(torch.tensor(reach)[:, None]).flatten().tolist()
        # A few regions may be alike by chance.
        radius = min(middle + _RADIUS_SPREADS * max(spread, _LEAST_SPREAD * middle), 2.0)
        return Finding(self.name, self.harmless, self.vectors, self.region, self.cases, radius)


@dataclass(frozen=True)
class Like:
    """What a region is like.

    Attributes
    ----------
    finding
        The class that is nearest, or that takes its flag away.
    distance
        Of the region's mean direction from it.
    taken_away
        Whether the region is no flag any more.
    """

    finding: Finding
    distance: float
    taken_away: bool


@dataclass(frozen=True, eq=False)
class Known:
    """All known findings of a model.

    Attributes
    ----------
    findings
        The classes.
    reviews
        Who decided what, one entry a reviewed region, for the model card.
    """

    findings: tuple[Finding, ...]
    reviews: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, findings: Sequence[Finding], reviews: Sequence[Mapping[str, Any]] = ()) -> Self:
        """Set the radius of each class."""
        return cls(tuple(f.with_radius() for f in findings), tuple(reviews))

    def like(self, vectors: Floats, leave_out: str | None = None) -> Like | None:
        """Say what a region of fields (N, d) is like; None where nothing is known.

        A harmless class takes its flag away if most of its fields lie within the class's radius,
        the region as a whole is nearer to it than to anything abnormal, and so are most fields: a
        lesion beside a follicle stays. `leave_out` as in :meth:`Finding.distance`.
        """
        if not len(vectors):
            return None
        middle = _unit(vectors.mean(0, keepdims=True))
        far = [float(f.distance(middle, leave_out, of_regions=True)[0]) for f in self.findings]
        if not far or not np.isfinite(min(far)):
            return None
        nearest = int(np.argmin(far))
        good = [i for i, f in enumerate(self.findings) if f.decides and np.isfinite(far[i])]
        best = min(good, key=lambda i: far[i], default=None)
        bad = [i for i, f in enumerate(self.findings) if not f.harmless]
        if best is None or any(far[i] <= far[best] for i in bad):
            return Like(self.findings[nearest], far[nearest], taken_away=False)
        of_field = {i: self.findings[i].distance(vectors, leave_out) for i in (best, *bad)}
        radius = self.findings[best].radius or 0.0
        enough = np.mean(of_field[best] <= radius) >= WHOLE
        worse = np.min([of_field[i] for i in bad], axis=0) < of_field[best] if bad else False
        if not enough or np.mean(worse) > _MOST_ABNORMAL:
            return Like(self.findings[nearest], far[nearest], taken_away=False)
        return Like(self.findings[best], far[best], taken_away=True)

    # -- files -------------------------------------------------------------------------------

    def to_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-ready facts from which :meth:`from_state` rebuilds it."""
        tensors = {}
        for i, finding in enumerate(self.findings):
            tensors[f"{i}.vectors"] = torch.from_numpy(finding.vectors)
            tensors[f"{i}.region"] = torch.from_numpy(finding.region)
        facts = [
            {"name": f.name, "harmless": f.harmless, "cases": list(f.cases), "radius": f.radius}
            for f in self.findings
        ]
        return tensors, {"findings": facts, "reviews": [dict(r) for r in self.reviews]}

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """Rebuild it from what anybody may have written.

        Raises
        ------
        KeyError, TypeError, ValueError
            It contradicts itself.
        """
        findings = []
        for i, fact in enumerate(facts["findings"][:_MOST_CLASSES]):
            vectors = tensors[f"{i}.vectors"].float().numpy()
            region = tensors[f"{i}.region"].long().numpy()
            cases = tuple(str(case) for case in fact["cases"])
            radius = None if fact["radius"] is None else float(fact["radius"])
            whole = vectors.ndim == 2 and region.shape == (len(vectors),) and len(vectors) > 0
            if not whole or len(vectors) > _MOST_VECTORS or not np.isfinite(vectors).all():
                raise ValueError("a known finding has another shape than it should have")
            if set(region.tolist()) != set(range(len(cases))):
                raise ValueError("the regions of a known finding are not its own")
            if radius is not None and not 0 <= radius <= 2:
                raise ValueError("the radius of a known finding is out of range")
            findings.append(
                Finding(str(fact["name"]), fact["harmless"] is True, vectors, region, cases, radius)
            )
        return cls(tuple(findings), tuple(dict(r) for r in facts["reviews"]))
