"""One small archive, every command that works on it, and what an undisturbed run leaves there."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from faults_running import Ended, differences, leftovers, run
from faults_world import CHECKPOINT_EVERY, CONFIG, TILE, TRAIN

from wsi_anomaly.results.audit import audit_results

SLIDES = {"slides": 7, "normals": 4, "new": 4}
"""Slides to train on, to calibrate on and to score, by their folders."""
OFTEN_SAVED = {"FAULTS_CHECKPOINT_EVERY": str(CHECKPOINT_EVERY)}
REVIEW = Path(__file__).with_name("soak_review.py")
KILLED_BETWEEN = "0 recorded reviews changed or taken out, 1 in no record."


@dataclass(frozen=True)
class Step:
    """A command of the archive.

    Attributes
    ----------
    arguments, output
        The command, and the folder that it writes; "" where it only prints.
    anew
        What makes it do again what is done already.
    """

    arguments: tuple[str, ...]
    output: str
    anew: tuple[str, ...] = ()


def _score(model: str, output: str, *more: str) -> Step:
    return Step(
        ("score", "new", "--model", model, "-o", output, *more), output, ("--overwrite",)
    )  # fmt: skip


STEPS = {
    "tile": Step(TILE, "tiles", ("--overwrite",)),
    "train": Step(TRAIN, "model", ("--overwrite",)),
    "calibrate": Step(
        ("calibrate", "normals", "--model", "model", "-o", "calibrated"), "calibrated"
    ),
    "score": _score("model", "results", "--heatmap", "--workers", "1"),
    "score finely": _score("calibrated", "fine", "--stride", "32", "--pixel-map", "--fdr", "0.5",
                           "--workers", "2"),
    "review": Step(("review", "results", "--outlines", "outlines"), "outlines"),
    "learn": Step(("learn", "results", "--model", "model", "-o", "learned"), "learned"),
    "score learned": _score("learned", "again", "--all-flags", "--gzip", "--workers", "2"),
    "export": Step(("export", "results", "--to", "csv"), "exported"),
    "qupath": Step(("qupath", "results"), "project"),
    "audit": Step(("audit", "results"), ""),
}  # fmt: skip
"""In the order in which each needs those before it."""


class Archive:
    """The archive in ``archive``, beside it how it looked undisturbed.

    Parameters
    ----------
    folder
        Where both are made.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self._whole = folder / "archive", folder / "undisturbed"
        self._disk = _mounted(self.root)

    def make(self) -> None:
        """Draw the slides, run every command once and keep what they leave.

        Raises
        ------
        AssertionError
            A command fails without any disturbance.
        """
        from wsi_anomaly.synthetic import make_slide

        for part, number in SLIDES.items():
            (self.root / part).mkdir()
            for i in range(number):
                path, seed = self.root / part / f"{part}{i}.tif", 900 + 50 * len(part) + i
                sick = "easy" if part == "new" and i < 2 else None
                make_slide(path, seed=seed, size_px=(512, 512), mpp=0.5, lesions=sick)
        (self.root / "train.toml").write_text(CONFIG)
        for name, step in STEPS.items():
            self.run(name)
            if step.output == "results":
                self.review()
                run(self.root, *step.arguments, *step.anew)  # reports and worklist show reviews
        shutil.copytree(self.root, self._whole)

    def run(self, name: str) -> Ended:
        """Run a command as anybody would, which must end well."""
        ended = run(self.root, *STEPS[name].arguments, **OFTEN_SAVED)
        assert ended.code == 0, f"{name}: {ended.printed}"
        return ended

    def review(self) -> None:
        """Decide as the reader does; again, decisions stand in the same order."""
        for verdict in ("artefact", "abnormal"):
            run(self.root, str(self.root / "results"), verdict, program=REVIEW)

    def is_whole(self, name: str) -> None:
        """See that what a command has written is what it writes undisturbed, and nothing else.

        Raises
        ------
        AssertionError
            It is not: these files differ, or lie about.
        """
        output = STEPS[name].output
        if output:
            different = differences(self._whole / output, self.root / output)
            assert not different, f"{name}: differ: {different}"
        left = leftovers(self.root)
        assert not left, f"{name}: left behind: {left}"

    def all_is_whole(self) -> None:
        """Run every command once more, undisturbed, and see that all is whole."""
        for name in STEPS:
            self.run(name)
        for name in STEPS:
            self.is_whole(name)

    def restore(self) -> None:
        """Put everything back, so that the next disturbance is judged by itself."""
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._whole, self.root, dirs_exist_ok=True)

    def restore_file(self, path: Path) -> None:
        """Put one file back."""
        shutil.copy2(self._whole / path.relative_to(self.root), path)

    def some_file(self, part: str, moments: random.Random) -> Path:
        """Draw a file of a part of the archive, but no lock and no record of what was done."""
        files = sorted(
            path
            for path in (self.root / part).rglob("*")
            if path.is_file() and path.suffix not in {".lock", ".jsonl"}
        )
        return moments.choice(files)

    def take_back_an_unrecorded_review(self) -> bool:
        """Whether a review was killed between its line and its record, which the audit names.

        The line is taken out: nobody can tell it from one that somebody has put there.
        """
        recorded = (self.root / "results" / "audit.jsonl").read_text()
        for problem in audit_results(self.root / "results").problems:
            path, _, what = problem.partition(": ")
            assert what == KILLED_BETWEEN, problem
            lines = Path(path).read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if hashlib.sha256(line).hexdigest() in recorded]
            Path(path).write_bytes(b"".join(kept))
            return True
        return False

    def fill_the_disk(self, kilobytes: int) -> bool:
        """Leave so much room on the archive's disk; False where it has none of its own."""
        if self._disk:
            used = shutil.disk_usage(self.root).used // 1024
            self._resize(used + kilobytes)
        return self._disk

    def make_room(self) -> None:
        """Give the disk its room back."""
        if self._disk:
            self._resize(1 << 20)

    def _resize(self, kilobytes: int) -> None:
        resize = ["mount", "-o", f"remount,size={kilobytes}k", str(self.root)]
        subprocess.run(resize, check=True)

    def close(self) -> None:
        """Give the disk back, and all that is on it."""
        if self._disk:
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)


def _mounted(folder: Path) -> bool:
    """Make a folder, on a small disk in memory where one may be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(folder)]
    try:
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
