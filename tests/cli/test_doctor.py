"""``wsi-anomaly doctor``: says what is broken, and what to do."""

from __future__ import annotations

import importlib

import pytest
from cli_running import run_cli

from wsi_anomaly.cli import doctor


@pytest.fixture
def broken_import(monkeypatch):
    """Make a module fail on import, as a half-installed package does."""
    real = importlib.import_module

    def install(name, reason):
        def fake(module, package=None):
            if module == name:
                raise ImportError(reason)
            return real(module, package)

        monkeypatch.setattr(importlib, "import_module", fake)

    return install


def by_subject():
    return {finding.subject: finding for finding in doctor.examine()}


def test_this_installation_works():
    code, printed = run_cli("doctor")
    assert code == 0, printed
    assert "Everything that is needed works." in printed
    for name in ("torch", "openslide", "torch + torchvision", "shipped models", "temporary folder"):
        assert name in printed


def test_it_names_versions_and_shipped_models():
    found = by_subject()
    import torch

    assert found["torch"].says.split("+")[0] == torch.__version__.split("+")[0]
    assert "compact" in found["shipped models"].says
    assert all(finding.ok is not False for finding in found.values())


def test_a_broken_package_is_named_and_the_exit_code_is_1(broken_import):
    broken_import("zarr", "libblosc.so: cannot\nopen shared object")
    code, printed = run_cli("doctor")
    assert code == 1
    assert "broken" in printed
    assert "libblosc.so: cannot open shared object" in " ".join(printed.split())
    assert "Error: zarr must be repaired" in printed
    assert "Traceback" not in printed


def test_quiet_still_says_what_is_broken(broken_import):
    broken_import("zarr", "gone")
    code, printed = run_cli("doctor", "-q")
    assert code == 1
    assert printed.splitlines() == ["Error: zarr must be repaired; install the package again."]


def test_it_names_the_licences_of_weights_that_are_not_free():
    found = by_subject()
    assert "not for commercial use" in found["weights of uni"].says
    assert (
        "huggingface.co/paige-ai/Virchow2, which grants access" in found["weights of virchow2"].says
    )
    assert found["weights of uni"].ok is None
    assert "weights of lite0" not in found


def test_an_absent_extra_is_no_fault(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "timm" else real(name, *a)
    )
    found = by_subject()["timm"]
    assert found.ok is None
    assert 'pip install "wsi-anomaly[timm]"' in found.says


def test_torchvision_of_another_torch_is_found(monkeypatch):
    import torchvision

    def fail(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", fail)
    found = by_subject()["torch + torchvision"]
    assert found.ok is False
    assert "nms" in found.says


def test_no_shipped_models_is_a_fault(monkeypatch, tmp_path):
    from wsi_anomaly.core import resources

    monkeypatch.setattr(resources, "models_folder", lambda: tmp_path)
    found = by_subject()["shipped models"]
    assert found.ok is False
    assert "install the package again" in found.says


def test_a_full_disk_is_found(monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryDirectory", fail)
    assert by_subject()["temporary folder"].ok is False


def test_it_never_needs_a_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu = by_subject()["GPU"]
    assert gpu.ok is None
    assert "processor" in gpu.says


def test_readers_are_tried_on_a_slide_not_only_imported(monkeypatch):
    [finding] = [f for f in doctor.examine() if f.subject == "slide readers"]
    assert finding.ok
    assert "DICOM" in finding.says

    def not_this_one(*_):
        raise OSError("libjpeg.so: cannot open shared object")

    monkeypatch.setattr(
        "wsi_anomaly.slides.openslide_backend.OpenSlideSlide.read_level", not_this_one
    )
    [finding] = [f for f in doctor.examine() if f.subject == "slide readers"]
    assert finding.ok is False
    assert "libjpeg.so" in finding.says
