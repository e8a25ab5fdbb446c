"""The authors' lists of training and test images.

In their repository: ``folds/train_test_split/<set>/<part>/<normal|anomaly>/<train|test>``, one file
name a line.
"""

from __future__ import annotations

from pathlib import Path

from wsi_anomaly.core.errors import UsageError


def find_lists(splits: Path, source: str) -> Path:
    """Find the folder with the lists of a set below what the user gave.

    Raises
    ------
    UsageError
        It is not there.
    """
    for place in (splits / "train_test_split" / source, splits / source, splits):
        if place.is_dir() and any(place.glob("*/normal/train")):
            return place
    raise UsageError(
        f"{splits} holds no lists of {source}; give the folder folds/ of the authors' repository "
        f"(it has train_test_split/{source}/)."
    )


def read_list(place: Path, part: str, kind: str, side: str) -> list[str]:
    """File names of one list; empty where the authors have none.

    Raises
    ------
    UsageError
        It cannot be read.
    """
    path = place / part / kind / side
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read; copy the authors' lists again.") from error
    return [line.strip() for line in lines if line.strip()]
