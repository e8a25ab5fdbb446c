"""The scripts of ``benchmarks/`` find each other: nothing else runs them in the tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(FOLDER.rglob("*.py"))


def module_file(name: str) -> Path | None:
    """File of a module of the folder; None where the name is another package's."""
    root = name.partition(".")[0]
    if not (FOLDER / f"{root}.py").exists() and not (FOLDER / root).is_dir():
        return None
    return FOLDER / f"{name.replace('.', '/')}.py"


def defined_in(path: Path) -> set[str]:
    """Names that a module has after its import."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_what_a_script_imports_from_the_others_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            path = module_file(node.module)
            if path is not None:
                assert path.exists(), f"{script.name}: there is no {node.module}"
                missing = {alias.name for alias in node.names} - defined_in(path)
                assert not missing, f"{script.name}: {node.module} has no {missing}"
