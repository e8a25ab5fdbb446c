"""Models that must stay as they are: a study's, or one that a laboratory has approved."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.files import output_errors, write_json

FROZEN = "frozen.json"
"""File in a model's folder that says so, with the SHA-256 of all others."""


def freeze(folder: Path) -> None:
    """Have no command replace this model any more.

    Raises
    ------
    UsageError
        It is no model's folder, or is frozen already.
    OutputError
        The folder cannot be written.
    """
    if not (folder / "model.json").is_file():
        raise UsageError(f"{folder} holds no model; give the folder that train has written.")
    refuse_frozen(folder)
    with output_errors(folder):
        files = _checksums(folder)
    frozen = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / FROZEN, {"frozen": frozen, "sha256": files})


def refuse_frozen(folder: Path) -> None:
    """See that a model may be replaced.

    Raises
    ------
    UsageError
        It is frozen.
    """
    if (folder / FROZEN).exists():
        raise UsageError(
            f"The model {folder} is frozen and stays as it is; choose another folder with -o."
        )


def changed_since(folder: Path) -> tuple[str, list[str]]:
    """When a model was frozen ("": it is not), and which of its files have changed since.

    Raises
    ------
    ModelError
        The note of the freezing cannot be read.
    """
    path = folder / FROZEN
    if not path.exists():
        return "", []
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        frozen, known = str(note["frozen"]), {str(k): str(v) for k, v in note["sha256"].items()}
        found = _checksums(folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); copy the model again.") from error
    return frozen, sorted(n for n in {*known, *found} if known.get(n) != found.get(n))


def _checksums(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name != FROZEN):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
