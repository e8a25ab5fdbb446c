"""NIH ChestX-ray14: "No Finding" is normal, everything else is not.

Parts as in the paper: views PA and AP, and the subset of the authors' lists. An image is brought
to 300 px, its central 224 px are kept, turned grey, equalised if so configured, and resized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.tables import read_table
from wsi_anomaly.reproduce.problems import KNOWN, Problem, draw, judged
from wsi_anomaly.reproduce.published import NIH
from wsi_anomaly.reproduce.sources.files import files_below, open_image
from wsi_anomaly.reproduce.sources.lists import find_lists, read_list

CHOSEN_BY = "Infiltration"
_NORMAL = "No Finding"
_WHERE = "download ChestX-ray14 (the images, Data_Entry_2017.csv) from the NIH Clinical Center"
_RESIZED, _CROP = 300, 224
_TEST_SHARE = 0.25
_SHOWN = 3


@dataclass(frozen=True)
class _Entry:
    patient: str
    labels: str
    view: str


class ChestXRays:
    """ChestX-ray14 on disk.

    Parameters
    ----------
    data
        Its folder: images anywhere below, ``Data_Entry*.csv``, and (where they are)
        ``train_val_list.txt`` and ``test_list.txt``.
    splits
        The authors' lists; the subset is in them alone.
    learn, judge
        Limits, see :class:`~wsi_anomaly.reproduce.plan.Plan`.

    Raises
    ------
    UsageError
        Pieces are missing or damaged; the sentence lists them and says where to get them.
    """

    key = "nih"
    title = "NIH ChestX-ray14"
    errors: tuple[str, ...] = ()
    divided_by_seed = False

    def __init__(
        self,
        data: Path,
        *,
        splits: Path | None = None,
        learn: int | None = None,
        judge: int | None = None,
    ) -> None:
        self._most = (learn, judge)
        self._files = {path.name: path for path in files_below(data, {".png"})}
        texts = files_below(data, {".csv", ".txt"})
        tables = [path for path in texts if path.match("Data_Entry*.csv")]
        missing = [] if self._files else ["images (*.png)"]
        missing += [] if tables else ["Data_Entry_2017.csv"]
        if missing:
            raise UsageError(f"{data} lacks {' and '.join(missing)}; {_WHERE}.")
        self._entries = _read_entries(tables[0])
        self._sides, self._official = _sides(texts, self._entries)
        self._lists = None if splits is None else find_lists(splits, self.key)
        patients = sorted({entry.patient for entry in self._entries.values()})
        self._patients = {patient: k for k, patient in enumerate(patients)}
        self._divisions = {part: self._divide(part) for part in NIH}
        self.classes = tuple(p for p in NIH if all(len(s) for s in self._divisions[p][:2]))
        if not self.classes:
            raise UsageError(
                f"{data} has no part with normal images on both sides: {len(self._files):,} images "
                f"are there, {sum(n in self._files for n in self._entries):,} of them in "
                f"{tables[0].name}; {_WHERE}."
            )
        self.notes = self._describe()

    def problem(self, name: str, *, size: int, equalise: bool, seed: int) -> Problem:
        """Read the images of one part."""
        del seed
        learn_names, judge_names, known_names = self._divisions[name]
        most_learn, most_judge = self._most
        abnormal = np.array([self._entries[n].labels != _NORMAL for n in judge_names])
        chosen = judged(abnormal, np.arange(len(judge_names)), most_judge)
        mine = draw(np.arange(len(learn_names)), most_learn)
        few = draw(np.arange(len(known_names)), KNOWN)
        learn = [learn_names[i] for i in mine]
        judge = [judge_names[i] for i in chosen]
        images = self._read(learn, size, equalise)
        return Problem(
            name,
            images,
            self._groups(learn),
            self._read(judge, size, equalise),
            abnormal[chosen],
            self._groups(judge),
            np.array([self._entries[n].labels for n in judge]),
            self._read([known_names[i] for i in few], size, equalise),
            CHOSEN_BY,
        )

    def _divide(self, part: str) -> tuple[list[str], list[str], list[str]]:
        """Names to learn from, to judge, and the known anomalies of the training side."""
        there = {n for n in self._entries if n in self._files}
        if self._lists is not None:
            learn, *tests = (
                [n for n in read_list(self._lists, part, *side) if n in there]
                for side in (("normal", "train"), ("normal", "test"), ("anomaly", "test"))
            )
            judge = tests[0] + tests[1]
        else:
            mine = sorted(n for n in there & set(self._sides) if self._entries[n].view == part)
            learn = [n for n in mine if not self._sides[n] and self._entries[n].labels == _NORMAL]
            judge = [n for n in mine if self._sides[n]]
        held = {self._entries[n].patient for n in judge}
        # Whatever the lists say: who is judged is not learned from.
        learn = [n for n in learn if self._entries[n].patient not in held]
        views = {self._entries[n].view for n in judge}
        known = [
            n
            for n in sorted(there)
            if self._entries[n].labels == CHOSEN_BY
            and self._entries[n].view in views
            and self._entries[n].patient not in held
        ]
        return learn, judge, known

    def _groups(self, names: Sequence[str]) -> NDArray[np.intp]:
        return np.array([self._patients[self._entries[n].patient] for n in names], np.intp)

    def _read(self, names: Sequence[str], size: int, equalise: bool) -> NDArray[np.uint8]:
        found = np.empty((len(names), size, size, 3), np.uint8)
        for k, name in enumerate(names):
            found[k] = read_xray(self._files[name], size, equalise=equalise)
        return found

    def _describe(self) -> tuple[str, ...]:
        parts = []
        for name in self.classes:
            learn, judge, _ = self._divisions[name]
            abnormal = sum(self._entries[n].labels != _NORMAL for n in judge)
            parts.append(
                f"{name}: {len(learn):,} images to learn from, {len(judge) - abnormal:,} normal "
                f"and {abnormal:,} abnormal ones to judge"
            )
        how = "the authors' lists" if self._lists else "the official lists, by view position"
        if not self._lists and not self._official:
            how = f"by patient, {_TEST_SHARE:.0%} to judge: the official lists are not there"
        return (
            f"{'; '.join(parts)}. Division: {how}. No patient is on both sides.",
            f"Known anomalies: at most {KNOWN} images that are labelled exactly {CHOSEN_BY}.",
            "Images are grey, given to the networks as three equal channels.",
        )


def read_xray(path: Path, size: int, *, equalise: bool = False) -> NDArray[np.uint8]:
    """Read one radiograph as published, (size, size, 3) uint8.

    Raises
    ------
    UsageError
        It is no readable image.
    """
    image = open_image(path, "L", "download it again")
    image = image.resize((_RESIZED, _RESIZED), Image.Resampling.BILINEAR)
    start = (_RESIZED - _CROP) // 2
    image = image.crop((start, start, start + _CROP, start + _CROP))
    if equalise:
        image = ImageOps.equalize(image)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"))


def _read_entries(table: Path) -> dict[str, _Entry]:
    columns = ("image index", "patient id", "finding labels", "view position")
    rows = read_table(table, columns)
    return {row[columns[0]]: _Entry(*(row[name] for name in columns[1:])) for row in rows}


def _sides(texts: Sequence[Path], entries: Mapping[str, _Entry]) -> tuple[dict[str, bool], bool]:
    """Whether each image is a test image, and whether the official lists say so.

    Without them a quarter of the patients is judged.
    """
    sides: dict[str, bool] = {}
    for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
        for path in [path for path in texts if path.name == name][:1]:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{path} cannot be read; {_WHERE}.") from error
            sides.update({line.strip(): test for line in text.splitlines() if line.strip()})
    if set(sides.values()) == {False, True}:
        return sides, True
    patients = sorted({entry.patient for entry in entries.values()})
    rng = np.random.default_rng(0)
    judged_patients = set(rng.permutation(patients)[: round(_TEST_SHARE * len(patients))].tolist())
    return {n: entry.patient in judged_patients for n, entry in entries.items()}, False
