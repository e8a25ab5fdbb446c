"""One row on one problem with one seed: fit, score, keep the scores.

A cell is a JSON file with its figures and an ``.npz`` file with its scores, in a folder that is
named after the row and a hash of its settings. A cell that is there is not computed again, and two
processes never write the same file half.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_anomaly import __version__
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import config_hash, make_folder, write_json
from wsi_anomaly.detectors import Density, Detector, Dpa
from wsi_anomaly.detectors.base import Fitting, batches, device_of, fit_missing_statistics
from wsi_anomaly.detectors.fusion import supported_weights
from wsi_anomaly.evaluation import ColourControl, mean_colours
from wsi_anomaly.features import (
    PerceptualNetwork,
    load_features,
    network_spec,
    working_precision,
)
from wsi_anomaly.learning.batches import ArrayTiles, to_images
from wsi_anomaly.learning.loop import Report
from wsi_anomaly.reproduce.embeddings import Embeddings
from wsi_anomaly.reproduce.plan import ASIDE, PRECISIONS, Plan
from wsi_anomaly.reproduce.problems import (
    Labelled,
    Problem,
    Source,
    centres,
    mean_of_images,
)
from wsi_anomaly.reproduce.rows import (
    DENOMINATOR,
    FUSED,
    FUSION,
    MEAN_COLOUR,
    RANDOM,
    SUPERVISED,
    UNTRAINED,
    make_detector,
    settings_of,
    used_layers,
)
from wsi_anomaly.reproduce.scores import Place, Scores

_FOLDS = 5
_PENALTY = 0.01  # inverse strength, the smaller the stronger

Score = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass
class Bench:
    """A source, a plan and a folder; computes the cells that are missing.

    Attributes
    ----------
    source, plan, output
        What is computed, how, and the folder of the set.
    report
        Told of the training under way.
    """

    source: Source
    plan: Plan
    output: Path
    report: Callable[[Report], None] | None = None

    def __post_init__(self) -> None:
        self._networks: dict[tuple[int | None, str], PerceptualNetwork] = {}
        self._embeddings: dict[tuple[PerceptualNetwork, tuple[str, ...]], Embeddings] = {}
        self._problems: dict[tuple[Any, ...], Problem] = {}

    def place(self, row: str, problem: str, seed: int) -> Place:
        """Where the cell lies."""
        settings = settings_of(row, self.source.key, problem, self.plan) | {
            "data": self.source.title, "learn": self.plan.learn, "judge": self.plan.judge,
        }  # fmt: skip
        if self.plan.aside != ASIDE:
            settings["aside"] = self.plan.aside
        folder = self.output / "cells" / f"{row}-{config_hash(settings)[:8]}"
        return Place(folder, row, problem, seed, settings)

    def places(
        self, rows: tuple[str, ...], problems: tuple[str, ...], seeds: int
    ) -> Iterator[Place]:
        """All cells, problem by problem, so that its images are read once."""
        ordered = sorted(rows, key=lambda row: row == FUSION)  # after its members
        for problem in problems:
            for seed in range(seeds):
                yield from (self.place(row, problem, seed) for row in ordered)

    def check_network(self, places: Sequence[Place]) -> None:
        """Load the network once where a cell still needs it: better now than in every cell.

        Raises
        ------
        ModelError, UsageError
            Its weights cannot be had, or there is no such network.
        """
        if any(not place.done and "features" in place.settings for place in places):
            load_features(self.plan.features, weights=self.plan.weights)

    def run(self, place: Place) -> dict[str, Any]:
        """Compute a cell, or read it; JSON-ready."""
        if place.done:
            return place.read()
        started = time.perf_counter()
        if place.row == FUSION:
            for name in FUSED:
                self.run(self.place(name, place.problem, place.seed))
            scores, more = self._fuse(place)
        else:
            scores, more = self._compute(place)
        if not np.isfinite(scores.judge).all():
            raise UsageError(
                f"{place.row} on {place.problem} gave scores that are no numbers; lower its length "
                "with --steps or leave the row out."
            )
        scores.save(place.scores)
        auc, slide = scores.auc(), scores.slide_auc()
        cell = {
            "row": place.row, "problem": place.problem, "seed": place.seed,
            "auc": round(auc, 4), "slide_auc": None if slide is None else round(slide, 4),
            "normal": int((~scores.abnormal).sum()), "abnormal": int(scores.abnormal.sum()),
            "groups": len(np.unique(scores.group)), "known": len(scores.known), **more,
            "seconds": round(time.perf_counter() - started, 1),
            "settings": dict(place.settings), "program": f"wsi-anomaly {__version__}",
        }  # fmt: skip
        write_json(place.figures, cell)
        return cell

    def problem(self, place: Place) -> Problem:
        """Read the problem of a cell; those of one name and seed are kept."""
        size, equalise = place.settings["size"], place.settings["equalise"]
        division = (place.problem, place.seed if self.source.divided_by_seed else None)
        if any(key[:2] != division for key in self._problems):
            self._problems = {}
        grey = place.settings.get("grey", False)
        key = (*division, size, equalise, grey)
        if key not in self._problems:
            problem = self.source.problem(
                place.problem, size=size, equalise=equalise, seed=place.seed
            )
            self._problems[key] = problem.greyed() if grey else problem
        return self._problems[key]

    def _compute(self, place: Place) -> tuple[Scores, dict[str, Any]]:
        settings, seed = place.settings, place.seed
        whole = self.problem(place)
        problem, aside, aside_image = whole.hold_out(seed, self.plan.aside)
        more: dict[str, Any] = {"learned_from": len(problem.learn)}

        def scored(of_tiles: Score, of_images: Score = lambda values: values) -> Scores:
            judge, normal, known = (
                of_images(mean_of_images(of_tiles(tiles), image)) if len(tiles) else np.empty(0)
                for tiles, image in (
                    (problem.judge, problem.judge_image),
                    (aside, aside_image),
                    (problem.known, None),
                )
            )
            return Scores(judge, problem.abnormal, problem.judge_group, problem.kind, normal, known)

        size = problem.judge.shape[1]
        learn = centres(problem.learn, size)
        if place.row == MEAN_COLOUR:
            control = ColourControl().fit(mean_of_images(mean_colours(learn), problem.learn_image))
            return scored(mean_colours, control.score_samples), more
        random = seed if place.row.endswith(RANDOM) else None
        network = self._network(random, place, ArrayTiles(learn))
        more["precision"] = str(network.precision).removeprefix("torch.")
        detector = make_detector(settings, network, seed)
        if isinstance(detector, Density):
            embeddings = self._embeddings.setdefault(
                (network, detector.layers), Embeddings(detector)
            )
            if place.row == SUPERVISED:
                return self._supervised(problem, embeddings, seed), more
            detector.fit_embeddings(embeddings.of(learn))
            return scored(
                lambda tiles: detector.score_embeddings(embeddings.of(tiles)).numpy()
            ), more
        if place.row == UNTRAINED:
            assert isinstance(detector, Dpa)
            return scored(detector.start().score_samples), more
        if place.row == DENOMINATOR:
            return scored(lambda tiles: denominator(detector, tiles)), more
        fitting = Fitting(
            torch.device(self.plan.device),
            make_folder(place.training),
            {"settings": dict(settings), "problem": place.problem, "seed": seed},
            self.report,
        )
        # The compared systems saw the middle of a tile alone, the autoencoder any part.
        tiles = problem.learn if isinstance(detector, Dpa) else learn
        detector.fit(ArrayTiles(tiles, size), None, fitting)
        scores = scored(detector.score_samples)
        shutil.rmtree(place.training, ignore_errors=True)
        return scores, more

    def _network(self, random: int | None, place: Place, learn: ArrayTiles) -> PerceptualNetwork:
        """Perceptual network, its filters scaled; random ones as those of photographs are."""
        spec = network_spec(self.plan.features)
        of_tissue = spec is not None and spec.of_tissue
        key = (random, f"{place.problem} {place.seed}" if of_tissue else "")
        if key not in self._networks:
            network = load_features(
                self.plan.features,
                weights=None if random is not None else self.plan.weights,
                random_seed=random,
            )
            network.to(self.plan.device)
            if self.plan.precision != PRECISIONS[0]:
                network.set_precision(working_precision(self.plan.features, self.plan.device))
            self._networks[key] = network
        network = self._networks[key]
        fit_missing_statistics(network, learn, used_layers(place.settings, network))
        return network

    def _supervised(self, problem: Problem, embeddings: Embeddings, seed: int) -> Scores:
        """Judge by a classifier that saw neither the image nor its group.

        Its penalty is fixed, C = 0.01, and was not chosen: with few labels other methods, ours
        among them, can be better. It bounds nothing.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        def embed(tiles: NDArray[np.uint8], image: NDArray[np.intp] | None) -> NDArray[np.float64]:
            return mean_of_images(embeddings.of(tiles).numpy(), image)

        x = embed(problem.judge, problem.judge_image)
        y, groups, judged = problem.abnormal, problem.judge_group, len(x)
        others = problem.labelled
        if others is None and not self.plan.aside:  # the images that are learned from, all normal
            learned = np.arange(len(problem.learn))
            tiles = centres(problem.learn, problem.judge.shape[1])
            others = Labelled(tiles, learned, learned < 0, problem.learn_group, groups)
        if others is not None:
            x = np.concatenate((x, embed(others.tiles, others.image)))
            y = np.concatenate((y, others.abnormal))
            groups = np.concatenate((others.judge_group, others.group))
        scores = np.zeros(len(x))
        fewest = min(len(np.unique(groups[y])), len(np.unique(groups[~y])))
        if fewest < 2:
            raise WsiAnomalyError(
                "the supervised control needs two groups of each class to judge; leave the row out."
            )
        # Among the judged images alone each fold wants both classes; the other side has them too.
        most = fewest if others is None else len(np.unique(groups))
        folds = StratifiedGroupKFold(min(_FOLDS, most), shuffle=True, random_state=seed)
        for fit, held in folds.split(x, y, groups):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=500))
            scores[held] = model.fit(x[fit], y[fit]).decision_function(x[held])
        nothing = np.empty(0)
        return Scores(
            scores[:judged], problem.abnormal, problem.judge_group, problem.kind, nothing, nothing
        )

    def _fuse(self, place: Place) -> tuple[Scores, dict[str, Any]]:
        """Weigh the members' scores by what the known anomalies say of each."""
        members = [
            Scores.load(self.place(name, place.problem, place.seed).scores) for name in FUSED
        ]
        normal = torch.from_numpy(np.stack([m.normal for m in members], 1)).float()
        known = torch.from_numpy(np.stack([m.known for m in members], 1)).float()
        weights, units, support = supported_weights(normal, known)

        def fused(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
            stacked = torch.from_numpy(np.stack(parts, 1)).float()
            total: NDArray[np.float64] = (
                (((stacked - units[0]) / units[1]) @ weights).double().numpy()
            )
            return total

        first = members[0]
        scores = Scores(
            fused([m.judge for m in members]), first.abnormal, first.group, first.kind,
            fused([m.normal for m in members]), fused([m.known for m in members]),
        )  # fmt: skip
        return scores, {
            "weights": {name: round(float(w), 3) for name, w in zip(FUSED, weights, strict=True)},
            "support": {name: round(a, 3) for name, a in zip(FUSED, support, strict=True)},
        }


@torch.no_grad()
def denominator(detector: Detector, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1 / mean|f_hat(x)| of tiles (N, S, S, 3), (N,): what the score is without its numerator."""
    parts = []
    for batch in batches(tiles):
        truth = detector.features(to_images(batch, device_of(detector.features)), detector.layers)
        parts.append(sum(1 / f.abs().mean((1, 2, 3)) for f in truth.values()).cpu())
    return torch.cat(parts).numpy()
