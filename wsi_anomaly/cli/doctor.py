"""``wsi-anomaly doctor``: what works in this installation, and what to do about what does not."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from wsi_anomaly.cli.common import common_options
from wsi_anomaly.core.caches import provide_caches
from wsi_anomaly.core.devices import why_no_gpu
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.plugins import DETECTORS, NETWORKS, READERS
from wsi_anomaly.core.registry import Registry

# Module to import -> distribution whose version is shown.
REQUIRED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "openslide": "openslide-python",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "h5py": "h5py",
    "zarr": "zarr",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "shapely": "shapely",
    "safetensors": "safetensors",
    "numba": "numba",
}
REGISTRIES: tuple[Registry[Any], ...] = (NETWORKS, DETECTORS, READERS)
EXTRAS = {"staintools": "staintools", "timm": "timm", "distributed": "dask", "pylibCZIrw": "czi"}
_NEEDS = {"czi": "pylibCZIrw"}  # readers that are an extra


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; `ok` is None for something optional that is absent."""

    subject: str
    ok: bool | None
    says: str


def examine() -> list[Finding]:
    """Examine the installation; never raises."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", _python),
        *((name, _importer(module, name)) for module, name in REQUIRED.items()),
        ("torch + torchvision", _torch_pair),
        ("OpenSlide library", _openslide_library),
        ("slide readers", _slide_readers),
        ("shipped models", _models),
        ("temporary folder", _temporary_folder),
    ]
    findings = []
    for subject, check in checks:
        try:
            findings.append(Finding(subject, True, check()))
        except Exception as error:  # noqa: BLE001 - whatever is broken here is the answer
            findings.append(Finding(subject, False, " ".join(str(error).split())))
    findings.append(_caches())
    findings += [finding for registry in REGISTRIES for finding in _registered(registry)]
    findings += _licences()
    findings += [_extra(module, extra) for module, extra in EXTRAS.items()]
    findings += [Finding("processor cores", True, str(_cores())), _gpu()]
    return findings


def _python() -> str:
    return sys.version.split()[0]


def _importer(module: str, distribution: str) -> Callable[[], str]:
    def check() -> str:
        importlib.import_module(module)
        return importlib.metadata.version(distribution)

    return check


def _torch_pair() -> str:
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    # Fails when torchvision's compiled part was made for another torch.
    torchvision.ops.nms(boxes, torch.ones(1), 0.5)
    return "fit together"


def _openslide_library() -> str:
    import openslide

    return str(openslide.__library_version__)


def _slide_readers() -> str:
    """Read a small slide with both readers of files, not only import them."""
    import numpy as np
    import tifffile

    from wsi_anomaly.slides import open_slide

    image = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        tifffile.imwrite(
            path, image, tile=(64, 64), photometric="rgb", compression="deflate", metadata=None
        )
        for reader in ("tiff", "openslide"):
            with open_slide(path, mpp=0.5, backend=reader) as slide:
                if not np.array_equal(slide.read_level(0, 0, 0, 64, 64).rgb, image):
                    raise RuntimeError(f"the {reader} reader gives other pixels than are stored")
    return (
        "TIFF, SVS and OME-TIFF directly; NDPI, MIRAX, SCN, BIF, DICOM, CZI and others through "
        "OpenSlide; DeepZoom; other formats with a plug-in"
    )


def _models() -> str:
    from wsi_anomaly.core.resources import models_folder

    names = sorted(path.name for path in models_folder().glob("*.safetensors"))
    names += sorted(path.parent.name for path in models_folder().glob("*/model.json"))
    if not names:
        raise RuntimeError("none found; install the package again")
    return ", ".join(names)


def _temporary_folder() -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test").write_bytes(b"x")
        free = os.statvfs(folder) if hasattr(os, "statvfs") else None
    space = f", {free.f_bavail * free.f_frsize / 1e9:.0f} GB free" if free else ""
    return f"writable{space}"


def _caches() -> Finding:
    """Compile something and draw something: both libraries keep files, or do without."""

    def one() -> int:
        return 1

    try:
        from matplotlib.figure import Figure

        from wsi_anomaly.core.compiling import compiled

        compiled()(one)()
        Figure(figsize=(1, 1)).savefig(io.BytesIO())
    except Exception as error:  # noqa: BLE001 - as above
        return Finding("caches", False, " ".join(str(error).split()))
    if provide_caches():
        return Finding("caches", True, "what is compiled is kept")
    return Finding(
        "caches",
        None,
        "no home that can be written: every start compiles anew",
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _extra(module: str, extra: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(module, None, f'optional: pip install "wsi-anomaly[{extra}]"')
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - as above
        return Finding(module, False, " ".join(str(error).split()))
    return Finding(module, True, "installed")


def _registered(registry: Registry[Any]) -> list[Finding]:
    """Names of one kind that work here, and one line for each that other packages bring."""
    working, findings = [], []
    for name in registry.names():
        if name in _NEEDS and importlib.util.find_spec(_NEEDS[name]) is None:
            continue
        try:
            registry.get(name)
            working.append(name)
        except Exception as error:  # noqa: BLE001 - as above
            findings.append(Finding(f"{registry.kind} {name}", False, " ".join(str(error).split())))
    findings.insert(0, Finding(f"{registry.kind}s", bool(working), ", ".join(working)))
    for name, package in registry.foreign().items():
        subject = f"{registry.kind} {name}"
        if name in registry.names():
            says = f"that of {package} is not used: wsi-anomaly has one of this name"
            findings.append(Finding(subject, None, says))
            continue
        try:
            registry.get(name)
            findings.append(Finding(subject, True, f"of {package}"))
        except WsiAnomalyError as error:
            findings.append(Finding(subject, False, str(error)))
    return findings


def _licences() -> list[Finding]:
    """One line for each network of ours whose weights come under terms of their makers."""
    findings = []
    for name in NETWORKS.names():
        with contextlib.suppress(Exception):  # what cannot be loaded is listed already
            licence = NETWORKS.get(name)().licence
            if licence:
                findings.append(Finding(f"weights of {name}", None, licence))
    return findings


def _gpu() -> Finding:
    try:
        import torch

        if not torch.cuda.is_available():
            return Finding("GPU", None, f"none: everything runs on the processor. {why_no_gpu()}")
        properties = torch.cuda.get_device_properties(0)
        memory = properties.total_memory / 1e9
        return Finding("GPU", True, f"{properties.name}, {memory:.0f} GB")
    except Exception as error:  # noqa: BLE001 - as above
        return Finding("GPU", False, " ".join(str(error).split()))


@click.command("doctor")
@common_options
def command(verbosity: int) -> int:
    r"""Check the installation: packages, slide library, shipped models, GPU.

    \b
      wsi-anomaly doctor

    Exits with 0 when everything that is needed works, with 1 otherwise.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = examine()
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = {True: "[green]ok[/]", False: "[red]broken[/]", None: "[dim]-[/]"}[finding.ok]
        table.add_row(mark, finding.subject, escape(finding.says))
    broken = [finding.subject for finding in findings if finding.ok is False]
    if verbosity >= 0:
        Console(highlight=False).print(table)
    if broken:
        click.echo(
            f"Error: {', '.join(broken)} must be repaired; install the package again.", err=True
        )
        return 1
    if verbosity >= 0:
        click.echo("Everything that is needed works.")
    return 0
