"""Any folder with ``normal/`` and ``abnormal/``, whole images.

Folders inside ``abnormal/`` are types of anomaly. ``groups.csv`` (lines of ``image,group``) says
which images come from one patient; these stay together.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.slide_names import Entry, match, read_pairs
from wsi_anomaly.reproduce.problems import KNOWN, Problem, draw, judged
from wsi_anomaly.reproduce.sources.files import files_below, open_image

NORMAL = "normal"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
_LEARN_SHARE = 0.6
_KNOWN_SHARE = 0.2
_LEAST = 10


class Folder:
    """A folder of normal and abnormal images.

    Parameters
    ----------
    data
        The folder.
    learn, judge
        Limits, see :class:`~wsi_anomaly.reproduce.plan.Plan`.

    Raises
    ------
    UsageError
        A part is missing, an image unreadable, or the groups do not fit the images.
    """

    key = "folder"
    classes = (NORMAL,)
    errors: tuple[str, ...] = ()
    divided_by_seed = True

    def __init__(self, data: Path, *, learn: int | None = None, judge: int | None = None) -> None:
        self.title = data.resolve().name
        self._most = (learn, judge)
        files = {part: files_below(data / part, _SUFFIXES) for part in (NORMAL, "abnormal")}
        missing = [f"{part}/" for part, found in files.items() if len(found) < _LEAST]
        if missing:
            raise UsageError(
                f"{data} needs folders normal/ and abnormal/ with at least {_LEAST} images each; "
                f"too few are in {' and '.join(missing)}."
            )
        self._files = files[NORMAL] + files["abnormal"]
        self._abnormal = np.arange(len(self._files)) >= len(files[NORMAL])
        self._kind = np.array(
            [NORMAL] * len(files[NORMAL])
            + [
                file.parent.name if file.parent != data / "abnormal" else "abnormal"
                for file in files["abnormal"]
            ]
        )
        self._group, known_groups = _groups(data, self._files)
        together = (
            "Images of one group (groups.csv) are never on both sides."
            if known_groups
            else "There is no groups.csv: images are taken to be independent. If several come from "
            "one patient or slide, these figures are too good."
        )
        self.notes: tuple[str, ...] = (
            (
                f"{(~self._abnormal).sum():,} normal and {self._abnormal.sum():,} abnormal images, "
                f"brought to the stated size whole. {together}"
            ),
            (
                f"A seed draws the division: {_LEARN_SHARE:.0%} of the normal groups to learn "
                "from, the others to judge."
            ),
            (
                f"A fifth of the abnormal groups of one type, at most {KNOWN} images, are the "
                "known anomalies to choose by and are not judged."
            ),
        )

    def problem(self, name: str, *, size: int, equalise: bool, seed: int) -> Problem:
        """Divide by the seed and read the images."""
        most_learn, most_judge = self._most
        rng = np.random.default_rng([seed, 2])
        normal_groups = rng.permutation(np.unique(self._group[~self._abnormal]))
        mine = normal_groups[: max(1, round(_LEARN_SHARE * len(normal_groups)))]
        ours = np.isin(self._group, mine)
        learn = draw(np.flatnonzero(ours & ~self._abnormal), most_learn)
        kinds = np.unique(self._kind[self._abnormal & ~ours])
        if not len(kinds):
            raise UsageError(
                "Every abnormal image comes from a group that is learned from; check groups.csv."
            )
        kind = str(rng.choice(kinds))
        groups = rng.permutation(np.unique(self._group[(self._kind == kind) & ~ours]))
        few = groups[: max(1, round(_KNOWN_SHARE * len(groups)))] if len(groups) > 1 else groups[:0]
        chosen_by = np.isin(self._group, few)
        known = draw(np.flatnonzero((self._kind == kind) & chosen_by), KNOWN)
        judge = judged(self._abnormal, np.flatnonzero(~ours & ~chosen_by), most_judge)
        images = self._read(learn, size, equalise)
        return Problem(
            name,
            images,
            self._group[learn],
            self._read(judge, size, equalise),
            self._abnormal[judge],
            self._group[judge],
            self._kind[judge],
            self._read(known, size, equalise),
            kind,
        )

    def _read(self, indices: NDArray[np.intp], size: int, equalise: bool) -> NDArray[np.uint8]:
        found = np.empty((len(indices), size, size, 3), np.uint8)
        for k, index in enumerate(indices):
            found[k] = read_image(self._files[index], size, equalise=equalise)
        return found


def read_image(path: Path, size: int | None = None, *, equalise: bool = False) -> NDArray[np.uint8]:
    """Read one image whole, (size, size, 3) uint8; at its own size (H, W, 3) when None.

    Raises
    ------
    UsageError
        It is no readable image.
    """
    image = open_image(path, "RGB", "take it out of the set")
    if equalise:
        image = ImageOps.equalize(image)
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _groups(data: Path, files: list[Path]) -> tuple[NDArray[np.intp], bool]:
    """Give the number of each file's group, and say whether a table told it."""
    table = data / "groups.csv"
    if not table.is_file():
        return np.arange(len(files)), False
    rows = read_pairs(table, "image", "group")
    entries = [Entry(row["image"], row["group"], row.line) for row in rows]
    group_of = match(table, entries, [path.relative_to(data) for path in files]).by(files)
    for path in files:
        if path not in group_of:
            raise UsageError(f"{table} has no line for {path}; every image needs its group.")
    groups = [group_of[path] for path in files]
    return np.unique(groups, return_inverse=True)[1].astype(np.intp), True
