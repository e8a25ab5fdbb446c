"""Which device is taken, without one: PyTorch's answers about GPUs are made up."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
import torch

from wsi_anomaly.core import devices
from wsi_anomaly.core.devices import choose_device, memory_explained, passed_over, why_no_gpu
from wsi_anomaly.core.errors import MemoryShortError, UsageError
from wsi_anomaly.features.precision import fast_precision
from wsi_anomaly.learning import distributed
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.screening.slides import Scoring


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine that says that it has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return 2


@pytest.fixture
def no_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a usable GPU; gives the file that would hold the driver's version."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(devices, "_DRIVER", tmp_path / "version")
    return tmp_path / "version"


def driver(path: Path, version: str = "470.42.01") -> None:
    path.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Jun 15\n")


def under_torchrun(monkeypatch: pytest.MonkeyPatch, rank: int, world: int = 2) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(world))
    monkeypatch.setenv("LOCAL_RANK", str(rank))


@pytest.mark.usefixtures("cards")
def test_a_gpu_is_given_with_its_number_so_that_every_thread_means_the_same() -> None:
    assert choose_device("auto") == choose_device("cuda") == "cuda:0"
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("cpu") == "cpu"


@pytest.mark.usefixtures("cards")
def test_each_process_of_torchrun_takes_the_card_of_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    under_torchrun(monkeypatch, 1)
    assert choose_device("cuda") == choose_device("auto") == "cuda:1"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(UsageError, match=r"takes a GPU of its own.*give --device cuda"):
        choose_device("cuda:1")
    under_torchrun(monkeypatch, 2, world=3)
    with pytest.raises(UsageError, match="no more processes than cards"):
        choose_device("cuda")


@pytest.mark.usefixtures("cards")
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("cuda:9", "There is no cuda:9: this machine shows 2 GPUs"),
        ("meta", "'meta' is not supported"),
        ("mps", "'mps' is not supported"),
        ("xpu:0", "'xpu:0' is not supported"),
        ("gpu", "'gpu' is no device"),
        ("", "'' is no device"),
    ],
)
def test_a_device_that_is_not_there_is_wrong_usage(asked: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose_device(asked)
    assert str(refused.value).startswith(says)


def test_without_a_driver_auto_is_the_processor_and_nothing_is_said(no_cards: Path) -> None:
    assert choose_device("auto") == "cpu"
    assert passed_over("auto") is None
    with pytest.raises(UsageError, match=r"No NVIDIA driver is loaded here.*--device cpu"):
        choose_device("cuda")


def test_an_old_driver_is_named_with_what_pytorch_was_built_for(
    no_cards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(no_cards)
    monkeypatch.setattr(Path, "glob", lambda _self, _pattern: iter([Path("/dev/nvidia0")]))
    said = why_no_gpu()
    assert "470.42.01" in said
    assert "CUDA 13.0" in said
    assert "install a newer driver" in said
    assert passed_over("auto") == f"Computing on the processor. {said}"
    assert passed_over("cpu") is None


def test_a_hidden_card_and_a_build_without_cuda_have_their_own_remedies(
    no_cards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(no_cards)
    monkeypatch.setattr(Path, "glob", lambda _self, _pattern: iter([]))
    assert "--gpus all" in why_no_gpu()
    monkeypatch.setattr(Path, "glob", lambda _self, _pattern: iter([Path("/dev/nvidia0")]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES hides" in why_no_gpu()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in why_no_gpu()


@pytest.mark.parametrize(
    ("capability", "wanted"),
    [
        ((7, 0), torch.float32),
        ((7, 5), torch.float32),
        ((8, 0), torch.bfloat16),
        ((9, 0), torch.bfloat16),
    ],
)
def test_cards_that_only_emulate_bfloat16_compute_in_float32(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], wanted: torch.dtype
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or capability >= (8, 0)

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert fast_precision("cuda:0") == wanted


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_shortage_of_memory_becomes_a_sentence(error: Exception) -> None:
    with (
        pytest.raises(MemoryShortError, match=r"^There is not enough memory on cuda:0; take less."),
        memory_explained("cuda:0", "take less"),
    ):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), memory_explained("cpu", "take less"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda:1", "cpu:gloo,cuda:nccl")])
def test_the_group_is_joined_for_the_device_that_computes(
    monkeypatch: pytest.MonkeyPatch, device: str, backend: str
) -> None:
    under_torchrun(monkeypatch, 1)
    asked: list[str] = []
    cards: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", cards.append)
    monkeypatch.setattr(distributed.dist, "init_process_group", asked.append)
    monkeypatch.setattr(distributed, "_JOINED", Event())
    distributed.join(device)
    assert asked == [backend]
    assert cards == [device] * (device != "cpu")


def test_a_group_of_the_calling_program_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: ended.append(True))
    monkeypatch.setattr(distributed, "_JOINED", Event())
    distributed.leave()
    assert not ended


def test_a_worker_of_a_cluster_chooses_its_device_itself(
    no_cards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ScoreOptions(device="cuda", dask="tcp://scheduler:8786")
    scoring = Scoring.of(None, options, slides=4)  # the client has no GPU, and needs none
    assert scoring.options.device == "cuda"
    assert scoring.device_here == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device(scoring.options.device) == "cuda:0"


def test_workers_of_a_cluster_share_their_processors_when_the_client_does_not_know_their_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsi_anomaly.screening.slides.available_cores", lambda: 4)
    here = Scoring.of(None, ScoreOptions(device="cpu"), slides=8)
    there = Scoring.of(None, ScoreOptions(device="auto", dask="tcp://scheduler:8786"), slides=8)
    assert here.threads == there.threads == 1


@pytest.mark.usefixtures("cards")
def test_a_card_is_asked_by_as_many_processes_as_it_has_memory_for_slides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsi_anomaly.screening.slides.available_cores", lambda: 16)
    for free_gb, workers, threads in ((140, 16, 1), (8, 10, 1), (5, 4, 4), (2, 1, None)):
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda _device, gb=free_gb: (gb * 2**30, 2**40)
        )
        scoring = Scoring.of(None, ScoreOptions(device="cuda"), slides=20)
        assert (scoring.options.workers, scoring.threads) == (workers, threads)
        assert scoring.together
    asked = Scoring.of(None, ScoreOptions(device="cuda", workers=3), slides=20)
    assert asked.options.workers == 3
    assert not Scoring.of(None, ScoreOptions(device="cpu"), slides=20).together
    far = ScoreOptions(device="cuda", dask="tcp://scheduler:8786")
    assert not Scoring.of(None, far, slides=20).together
