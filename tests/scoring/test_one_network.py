"""One process computes for many that read: the same results, whoever of them is lost.

It is what feeds a GPU; here the process that computes does so on the processor.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from spotted import DARK, STRIPED, draw, train
from torch import nn

from wsi_anomaly.core.errors import MemoryShortError, SlideError
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.features import dense
from wsi_anomaly.features.together import Together, _as_one, _Asked
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.scoring import ScoreMap, load_model, score_slide
from wsi_anomaly.scoring.alone import SlideAlone
from wsi_anomaly.scoring.asking import connect
from wsi_anomaly.scoring.served import NetworkServer, served
from wsi_anomaly.screening.slide import ScoreJob
from wsi_anomaly.screening.slides import ScoreOutcome, Scoring, score_slides

IN_WORKERS = Path(__file__).parents[1] / "faults" / "in_workers"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of fields in ``model``, and three slides with spots."""
    folder = tmp_path_factory.mktemp("one network")
    (folder / "work").mkdir()
    train(folder / "work").save(folder / "model")
    for seed, name in enumerate(("a", "b", "killer")):
        draw(folder / f"{name}.tif", seed, (DARK, STRIPED))
    return folder


def same(one: ScoreMap, other: ScoreMap) -> None:
    np.testing.assert_array_equal(one.status, other.status)
    for method, scores in one.scores.items():
        np.testing.assert_allclose(scores, other.scores[method], rtol=1e-4, atol=1e-4)
    assert len(one.interpretation.regions) == len(other.interpretation.regions)


def test_fields_tiles_and_a_slide_alone_have_the_scores_of_one_process(drawn: Path) -> None:
    fields, tiles = drawn / "model", models_folder() / "synthetic-20x"
    models = [load_model(fields, "cpu"), load_model(tiles, "cpu"), SlideAlone()]
    for model in models:
        mpp = 0.5 if model.magnification == 20 else 1.0
        usual = score_slide(drawn / "a.tif", model, ScoreOptions(mpp=mpp))
        with NetworkServer(model) as server:
            answered = served(model, server.address)
            asked = score_slide(drawn / "a.tif", answered, ScoreOptions(mpp=mpp))
        same(usual, asked)
        assert (usual.beside is None) == (asked.beside is None)
        assert (usual.pixel_maps is None) == (asked.pixel_maps is None)


def test_who_asks_copies_no_network(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[nn.Module] = []
    monkeypatch.setattr(dense, "deepcopy", lambda stage: copied.append(stage) or deepcopy(stage))
    for one in (SlideAlone(), load_model(drawn / "model", "cpu")):
        maps = served(one, "nowhere").dense_maps()
        assert (maps.stride, maps.margin) == (one.dense_maps().stride, one.dense_maps().margin)
    assert not copied


class Busy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return x


def test_slides_that_are_read_at_once_share_batches_and_stay_apart(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(drawn / "model", "cpu")
    paths = [drawn / "a.tif", drawn / "b.tif"]
    usual = [score_slide(path, model) for path in paths]
    with NetworkServer(model) as server:
        both, run = threading.Barrier(2, timeout=20), server._together.run
        sizes: list[int] = []

        def met(modules: nn.Module, part: torch.Tensor) -> torch.Tensor:
            """Ask when the other does, while the device is busy."""
            with suppress(threading.BrokenBarrierError):  # the other has no part left
                if both.wait() == 0:
                    server._together._asked.put(_Asked(Busy(), part, Future()))
            return run(modules, part)

        def counted(parts: list[torch.Tensor]) -> torch.Tensor:
            sizes.append(len(parts))
            return _as_one(parts)

        monkeypatch.setattr("wsi_anomaly.features.together._as_one", counted)
        monkeypatch.setattr(server._together, "run", met)
        found: dict[Path, ScoreMap] = {}

        def score(path: Path) -> None:
            found[path] = score_slide(path, served(model, server.address))
            both.abort()

        one = [threading.Thread(target=score, args=(path,)) for path in paths]
        # Each reader is a process: here they share one, but not the way to ask.
        monkeypatch.setattr("wsi_anomaly.scoring.asking._questions", connect)
        for thread in one:
            thread.start()
        for thread in one:
            thread.join()
    assert sizes.count(2) > 5
    for path, scored in zip(paths, usual, strict=True):
        same(scored, found[path])


def asked_at_once(together: Together, asked: list[tuple[nn.Module, torch.Tensor]]) -> list:
    """Ask for all while the thread is busy, so that all lie ready."""
    began, go_on = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            began.set()
            go_on.wait(20)
            return x

    found: dict[int, object] = {}

    def ask(number: int, modules: nn.Module, part: torch.Tensor) -> None:
        try:
            found[number] = together.run(modules, part)
        except ValueError as error:
            found[number] = error

    slow = threading.Thread(target=ask, args=(-1, Slow(), torch.zeros(1, 1, 1, 1)))
    slow.start()
    began.wait(20)
    threads = [
        threading.Thread(target=ask, args=(number, *one)) for number, one in enumerate(asked)
    ]
    for thread in threads:
        thread.start()
    while together._asked.qsize() < len(asked):
        time.sleep(0.001)
    go_on.set()
    for thread in (*threads, slow):
        thread.join()
    return [found[number] for number in range(len(asked))]


def test_parts_of_one_kind_are_one_batch_and_each_gets_its_own() -> None:
    sizes: list[torch.Size] = []

    class Seen(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(x.shape)
            return super().forward(x)

    torch.manual_seed(0)
    network, other = Seen(2, 3, 3), nn.Conv2d(2, 1, 3)
    parts = [torch.randn(1, 2, height, width) for height, width in ((9, 7), (5, 9), (8, 8))]
    together = Together()
    found = asked_at_once(
        together, [(network, parts[0]), (other, parts[1]), (network, parts[1]), (network, parts[2])]
    )
    together.close()
    assert [size[0] for size in sizes] == [3]
    with torch.no_grad():
        for part, module, computed in zip(
            [parts[0], parts[1], parts[1], parts[2]], [network, other, network, network], found,
            strict=True,
        ):  # fmt: skip
            expected = nn.Conv2d.forward(module, part)
            own = computed[:, :, : expected.shape[2], : expected.shape[3]]
            torch.testing.assert_close(own, expected)


def test_what_goes_wrong_is_raised_where_it_was_asked_for_and_others_are_answered() -> None:
    class Broken(nn.Module):
        def forward(self, _x: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    together, part = Together(), torch.ones(1, 1, 2, 2)
    wrong, right = asked_at_once(together, [(Broken(), part), (nn.Identity(), part)])
    together.close()
    assert isinstance(wrong, ValueError)
    assert torch.equal(right, part)


def test_a_full_memory_there_is_a_sentence_about_the_readers_slide(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(models_folder() / "synthetic-20x", "cpu")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with NetworkServer(model) as server:
        monkeypatch.setattr(type(model), "score_tiles", full)
        scoring = Scoring(None, ScoreOptions(device="cpu"))
        job = ScoreJob(drawn / "a.tif", drawn / "out" / "a", mpp=0.5)
        with pytest.raises(MemoryShortError, match="use fewer --workers"):
            scoring.score(job, served(model, server.address), lambda *_: None)


def test_a_reader_whose_slide_breaks_or_that_is_lost_at_work_costs_the_others_nothing(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(drawn / "model", "cpu")
    with NetworkServer(model) as server:
        asks = served(model, server.address)
        lost = connect(server.address)
        maps = model.dense_maps()
        mask = np.ones((512 // maps.stride, 512 // maps.stride), bool)
        lost.send(("pooled", {
            "layers": maps.layers, "width": 512, "height": 512, "mask": mask,
            "background": (245, 245, 245), "sizes": (64,), "step": 64,
        }))  # fmt: skip
        assert lost.recv()[0] == "read"
        lost.close()

        def broken(*_: object) -> None:
            raise SlideError("The slide is broken.")

        with monkeypatch.context() as patch:
            patch.setattr("wsi_anomaly.tiles.plane.SlidePlane.read", broken)
            with pytest.raises(SlideError, match="is broken"):
                score_slide(drawn / "a.tif", asks)
        same(score_slide(drawn / "a.tif", model), score_slide(drawn / "a.tif", asks))


def jobs(drawn: Path, out: Path) -> list[ScoreJob]:
    return [ScoreJob(drawn / f"{n}.tif", out / n) for n in ("a", "b", "killer")]


def scored(
    drawn: Path, out: Path, look: Callable[[ScoreOutcome], None] = lambda _outcome: None
) -> dict[str, ScoreOutcome]:
    """Score by two reading processes, which ask this one."""
    options = ScoreOptions(device="cpu", workers=2)
    scoring = replace(Scoring.of(drawn / "model", options, 3), together=True)
    found = {}
    model = load_model(drawn / "model", "cpu")
    with closing(score_slides(jobs(drawn, out), model, scoring)) as outcomes:
        for outcome in outcomes:
            found[outcome.job.folder.name] = outcome
            look(outcome)
    return found


def of_this_work() -> set[str]:
    return {t.name for t in threading.enumerate()} & {"readers", "network"}


def test_processes_that_ask_write_what_one_process_writes_and_leave_nothing(
    drawn: Path, tmp_path: Path
) -> None:
    scored(drawn, tmp_path / "asked")
    model, options = load_model(drawn / "model", "cpu"), ScoreOptions(device="cpu", workers=1)
    usual = Scoring.of(drawn / "model", options, 3)
    for outcome in score_slides(jobs(drawn, tmp_path / "usual"), model, usual):
        assert outcome.error == ""
        name = outcome.job.folder.name
        one, other = (read_summary(tmp_path / way / name) for way in ("usual", "asked"))
        assert one["result_hash"] == other["result_hash"]
        assert len(one["regions"]) == len(other["regions"]) > 0
        assert one["slide_score"] == pytest.approx(other["slide_score"], rel=1e-4)
    assert not active_children()
    assert not of_this_work()


def test_a_reader_that_its_slide_kills_costs_that_slide_alone(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(IN_WORKERS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("FAULTS_KILL_WORKER_ON", "killer")
    found = scored(drawn, tmp_path)
    assert {name for name, outcome in found.items() if outcome.error} == {"killer"}
    assert "killer.tif ended its process (out of memory" in found["killer"].error
    assert not active_children()


def test_ctrl_c_ends_all_that_read_and_what_answers_them(drawn: Path, tmp_path: Path) -> None:
    def interrupted(_outcome: ScoreOutcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(drawn, tmp_path, interrupted)
    assert not active_children()
    assert not of_this_work()
