"""The house keeps its shape: imports run one way, modules stay readable, the lock stays clean."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "wsi_anomaly"

# Room -> rooms it may import (docs/architecture.md shows the same table), beside BASE.
BASE = {"core", "options"}
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "options": set(),
    "jobs": set(),
    "slides": {"annotations"},
    "annotations": set(),
    "stain": set(),
    "features": set(),
    "calibration": set(),
    "synthetic": {"annotations"},
    "tiles": {"slides", "stain", "annotations", "jobs"},
    "embeddings": {"slides", "tiles"},
    "learning": set(),
    "autoencoder": {"features", "learning"},
    "detectors": {"autoencoder", "features", "learning", "calibration"},
    "baselines": {"detectors", "autoencoder", "features", "learning"},
    "training": {
        "embeddings",
        "learning",
        "scoring",
        "detectors",
        "autoencoder",
        "features",
        "tiles",
        "slides",
        "calibration",
        "jobs",
        "results",
    },
    "tuning": {"training", "detectors", "autoencoder", "learning", "features", "tiles"},
    "scoring": {"embeddings", "slides", "tiles", "detectors", "features", "calibration", "jobs"},
    "results": {"scoring", "slides", "tiles", "annotations", "calibration"},
    "reports": {"results", "scoring", "slides", "tiles"},
    "viewer": {"reports", "results", "scoring", "slides", "tiles"},
    "screening": {"embeddings", "reports", "results", "scoring", "slides", "tiles", "jobs"},
    "studies": {"screening", "reports", "results", "scoring", "slides", "tiles", "jobs"},
    "evaluation": {
        "viewer",
        "reports",
        "results",
        "scoring",
        "slides",
        "tiles",
        "annotations",
        "calibration",
    },
}
EVERYWHERE = {"demo", "reproduce", "cli"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_models" not in path.parts)


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {n.split(".")[1] for n in names if n.startswith("wsi_anomaly.") and n.count(".")}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_down_the_table_only(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room in EVERYWHERE | {"__init__.py", "__main__.py", "api.py"}:
        return
    base = set() if room == "core" else BASE
    above = imported_rooms(path) - {room, "__version__"} - base - MAY_IMPORT[room]
    assert not above, f"{room} must not import {sorted(above)}"


def test_every_room_is_in_the_table() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms == set(MAY_IMPORT) | EVERYWHERE


def imports(path: Path) -> list[tuple[str, str]]:
    """Module and name of every import of ours in a module, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(str(node.module), alias.name) for alias in node.names]
    return [(module, name) for module, name in found if module.split(".")[0] == "wsi_anomaly"]


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_leads_back_to_itself() -> None:
    names = {module_name(path) for path in modules()}
    graph: dict[str, set[str]] = {}
    for path in modules():
        targets = {
            f"{module}.{name}" if f"{module}.{name}" in names else module
            for module, name in imports(path)
        }
        # Every module may ask the package for its version.
        graph[module_name(path)] = targets - {"wsi_anomaly", module_name(path)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_starts_with_an_underscore_stays_in_its_room(path: Path) -> None:
    """No room imports a module or a name with a leading underscore from another one.

    Modules without one are a room's public face, as what its ``__init__`` exports: 225 of the 582
    imports between rooms name such a module (28 November 2026).
    """
    room = path.relative_to(PACKAGE).parts[0]
    for module, name in imports(path):
        words = [*module.split(".")[1:], name]
        if words[0] not in (room, "__version__"):
            assert not any(word.startswith("_") for word in words), f"{module}.{name}"


def test_the_package_holds_nothing_that_was_left_behind() -> None:
    """A merge left a copy of a module, which the wheel would have carried."""
    kinds = {".py", ".css", ".js", ".j2", ".groovy"}
    files = [p for p in PACKAGE.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]
    assert {p.name for p in files if p.suffix not in kinds} == {"py.typed"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_function_fits_on_a_screen_and_takes_few_things(path: Path) -> None:
    """At most 80 lines and 10 parameters; a command has as many as it has options."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if path.parent.name == "cli" and node.name == "command":
                continue
            taken = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 80, f"{node.name} is too long"
            assert len(taken) <= 10, f"{node.name} takes {len(taken)} parameters"


_ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray|ArrayLike)\b")
_BY_NAME = re.compile(r"\bMapping\[str, .*|\bdict\[str, .*")
_SHAPE = re.compile(r"\([^()\n]*,[^()\n]*\)|\(\)")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_public_function_of_arrays_says_their_shape(path: Path) -> None:
    """As (N, 3, S, S), or () for one number; weights by name have the shapes of their network."""
    top = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [n for n in top if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    for node in (*top, *(n for c in classes for n in c.body)):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        taken = [a.annotation for a in (*node.args.posonlyargs, *node.args.args)]
        taken += [*(a.annotation for a in node.args.kwonlyargs), node.returns]
        kinds = " ".join(_BY_NAME.sub("", ast.unparse(a)) for a in taken if a is not None)
        said = ast.get_docstring(node)
        if said is not None and _ARRAYS.search(kinds):
            assert _SHAPE.search(said), f"{node.name}: {kinds}"


def test_the_lock_names_no_host_and_pins_the_torch_pair() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    torch, torchvision = (
        re.search(rf"^{name}==(\d+)\.(\d+)\.\d+ ", lock, re.MULTILINE)
        for name in ("torch", "torchvision")
    )
    assert torch is not None
    assert torchvision is not None
    # torchvision 0.N is built for torch 2.(N - 15).
    assert int(torchvision[2]) - int(torch[2]) == 15


def test_importing_the_package_loads_nothing_else() -> None:
    """Even typing or pathlib would double the time that it takes."""
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import wsi_anomaly\n"
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('wsi_anomaly')))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert out.stdout.strip() in ("[]", "['__future__']")


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    heavy = "{'torch', 'openslide', 'h5py', 'zarr', 'matplotlib', 'skimage', 'scipy', 'numpy'}"
    script = (
        "import sys, wsi_anomaly, wsi_anomaly.cli.main as m\n"
        "assert m.main(['--help']) == 0\n"
        f"print('loaded:', sorted({heavy} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    "verb", ["tile", "train", "tune", "calibrate", "score", "learn", "evaluate"]
)
def test_the_help_of_a_verb_starts_without_the_heavy_packages(verb: str) -> None:
    heavy = "{'torch', 'openslide', 'h5py', 'zarr', 'matplotlib', 'skimage', 'scipy', 'numpy'}"
    script = (
        "import sys, wsi_anomaly.cli.main as m\n"
        f"assert m.main(['{verb}', '--help']) == 0\n"
        f"print('loaded:', sorted({heavy} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "loaded: []"
