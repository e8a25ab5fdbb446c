"""Hours of commands, kills, full disks and damaged files on one archive.

    python tests/faults/soak.py [--minutes 120] [--seed 0] [--first 0] [--most N] [--folder FOLDER]

Every disturbance has a number, from which and from the seed everything about it is drawn: what, to
which command, when. After each the command is given again, and what it leaves is compared with an
undisturbed run, byte for byte but for times and identities; after every tenth, and at the end, all
commands are. FOLDER/soak.log says what was done to whom. What is lost is said with its number, the
archive is put back, and the soak goes on; ``--first N --most 1`` does number N again (a moment of a
kill is the same in seconds, not in what the program does then). The exit code is 1 if anything was
lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from damage import DAMAGE
from faults_running import Ended, end, kill_all, run, start
from recording import Tally
from soak_archive import OFTEN_SAVED, REVIEW, SLIDES, STEPS, Archive

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LONGEST_CHANGE = 80
SECONDS = {"tile": 10, "train": 12, "score": 7, "score finely": 8, "score learned": 7}
WRITES_AS_IT_GOES = [name for name in SECONDS if name != "train"]
"""Commands whose finished parts are kept, and so may be whole beside a damaged one."""


def ended_in_sentences(ended: Ended) -> None:
    """It did its work, or said in sentences why not; or a signal took it."""
    assert ended.code in (0, 1, 130) or ended.code < 0 or ended.code > 128, ended.printed
    assert "Traceback" not in ended.printed, ended.printed
    assert "unexpected" not in ended.printed, ended.printed


def begun(archive: Archive, name: str, moments: random.Random) -> subprocess.Popen[str]:
    """Start a command, mostly so that it does everything anew."""
    step = STEPS[name]
    anew = step.anew if moments.random() < 0.8 else ()
    return start(archive.root, *step.arguments, *anew, **OFTEN_SAVED)


def interrupted(archive: Archive, moments: random.Random) -> str:
    """A signal at a random moment."""
    name = moments.choice(list(STEPS))
    number, whom = moments.choice(SIGNALS), moments.choice(["parent", "group"])
    wait = moments.uniform(0, SECONDS.get(name, 4))
    process = begun(archive, name, moments)
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        (os.killpg if whom == "group" else os.kill)(process.pid, number)
    ended_in_sentences(end(process))
    heal(archive, name)
    return f"{name}: {number.name} to the {whom} after {wait:.1f} s"


def changed(fault: str, what: str) -> Callable[[Archive, random.Random], str]:
    """A change of the file system at which the command dies, or which fails."""

    def disturb(archive: Archive, moments: random.Random) -> str:
        name = moments.choice([*STEPS, "a reader's review"])
        counter = archive.root.parent / "changes"
        counter.unlink(missing_ok=True)
        at = round(LONGEST_CHANGE ** moments.random())
        faults = {"FAULTS_COUNTER": str(counter), "FAULTS_BELOW": str(archive.root), fault: str(at)}
        if name in STEPS:
            step = STEPS[name]
            arguments = (*step.arguments, *step.anew)
            ended_in_sentences(run(archive.root, *arguments, **OFTEN_SAVED, **faults))
            heal(archive, name)
        else:
            results = str(archive.root / "results")
            ended = run(archive.root, results, "artefact", program=REVIEW, **faults)
            assert "unexpected" not in ended.printed, ended.printed
            unrecorded = archive.take_back_an_unrecorded_review()
            archive.review()
            heal(archive, "score")
            heal(archive, "review")
            name += " (its record was missing, as the audit said)" if unrecorded else ""
        return f"{name}: {what} {at}"

    return disturb


def full_disk(archive: Archive, moments: random.Random) -> str:
    """The disk has room for a part of what a command writes."""
    name = moments.choice(list(STEPS))
    kilobytes = round(20_000 ** moments.random())
    if not archive.fill_the_disk(kilobytes):
        return "a full disk: none can be mounted here"
    try:
        step = STEPS[name]
        ended = run(archive.root, *step.arguments, *step.anew, **OFTEN_SAVED)
    finally:
        archive.make_room()
    ended_in_sentences(ended)
    assert ended.code == 0 or "the disk is full" in ended.printed, ended.printed
    heal(archive, name)
    return f"{name}: {kilobytes} kB left on the disk ({'did' if ended.code == 0 else 'said so'})"


def damaged_slide(archive: Archive, moments: random.Random) -> str:
    """A slide is damaged or gone while commands run; then it is whole again."""
    name, part = moments.choice(
        [("tile", "slides"), ("train", "slides"), ("calibrate", "normals"), ("score", "new"),
         ("score finely", "new"), ("learn", "new")]
    )  # fmt: skip
    path = archive.root / part / f"{part}{moments.randrange(SLIDES[part])}.tif"
    how = harm(path, moments)
    step = STEPS[name]
    ended_in_sentences(run(archive.root, *step.arguments, **OFTEN_SAVED))
    archive.restore_file(path)
    heal(archive, name)
    return f"{name}: {path.name} {how}"


def damaged_output(archive: Archive, moments: random.Random) -> str:
    """A file that a command has written is damaged or gone, and read by those after it."""
    name = moments.choice([name for name, step in STEPS.items() if step.output])
    path = archive.some_file(STEPS[name].output, moments)
    where = path.relative_to(archive.root)
    how = harm(path, moments)
    after = list(STEPS)[list(STEPS).index(name) + 1 :]
    reader = moments.choice(after)
    ended_in_sentences(run(archive.root, *STEPS[reader].arguments, **OFTEN_SAVED))
    anew = run(archive.root, *STEPS[name].arguments, *STEPS[name].anew, **OFTEN_SAVED)
    assert anew.code == 0, anew.printed
    heal(archive, name)
    step = STEPS[reader]  # it may have worked with what was damaged
    again = run(archive.root, *step.arguments, *step.anew, **OFTEN_SAVED)
    assert again.code == 0, again.printed
    heal(archive, reader)
    return f"{reader} after {name}: {where} {how}"


def harm(path: Path, moments: random.Random) -> str:
    """Damage a file, or remove it; say which."""
    how = moments.choice([*DAMAGE, "removed"])
    if how == "removed":
        path.unlink()
    else:
        drawn = np.random.default_rng(moments.getrandbits(32))
        data = path.read_bytes()
        path.write_bytes(DAMAGE[how](data, drawn) if data else b"?")
    return how


def two_at_once(archive: Archive, moments: random.Random) -> str:
    """Two commands that read and write the same folders at the same time."""
    names = moments.choice(
        [("tile", "tile"), ("score", "score"), ("score", "export"), ("score", "audit"),
         ("score", "qupath"), ("score", "review"), ("tile", "train"), ("train", "score"),
         ("learn", "score"), ("calibrate", "score finely"), ("export", "export")]
    )  # fmt: skip
    both = [begun(archive, name, moments) for name in names]
    for ended in [end(process) for process in both]:
        ended_in_sentences(ended)
    for name in dict.fromkeys(names):
        heal(archive, name)
    return " and ".join(names) + " at once"


def other_options(archive: Archive, moments: random.Random) -> str:
    """Results are made otherwise in their place, read, and made again as they were."""
    more = moments.choice(
        [("--stride", "32"), ("--pixel-map",), ("--fdr", "0.3"), ("--min-tissue", "0.5"),
         ("--false-regions", "0.2"), ("--gzip",)]
    )  # fmt: skip
    ended = run(archive.root, *STEPS["score"].arguments, *more)
    assert ended.code == 0, ended.printed
    reader = moments.choice(["review", "learn", "export", "qupath", "audit"])
    archive.run(reader)
    heal(archive, "score")
    heal(archive, reader)
    return f"{reader} after score {' '.join(more)}"


def heal(archive: Archive, name: str) -> None:
    """Give the same command again, as a person would: all is as if nothing had been."""
    archive.run(name)
    archive.is_whole(name)


KINDS: dict[str, Callable[[Archive, random.Random], str]] = {
    "a signal": interrupted,
    "killed at a change of the file system": changed("FAULTS_DIE_AT", "killed at change"),
    "a failing change of the file system": changed("FAULTS_FAIL_AT", "EIO at change"),
    "a full disk": full_disk,
    "a damaged slide": damaged_slide,
    "a damaged output": damaged_output,
    "two commands at once": two_at_once,
    "other options": other_options,
}


def soak(folder: Path, minutes: float, seed: int, first: int, most: int | None) -> list[str]:
    """Disturb an archive for so long; what was lost, a sentence each."""
    archive = Archive(folder)
    log = (folder / "soak.log").open("a", buffering=1)
    tally = Tally(
        "soak",
        f"`make soak`: commands, kills, full disks and damaged files on one archive, {minutes:g} "
        f"minutes, seed {seed}",
        "the same command, given again, leaves the files of an undisturbed run",
    )

    def note(**entry: object) -> None:
        log.write(json.dumps(entry) + "\n")

    try:
        archive.make()
        until, number = time.monotonic() + 60 * minutes, first
        while time.monotonic() < until and (most is None or number < first + most):
            moments = random.Random(f"{seed} {number}")
            kind = moments.choice(list(KINDS))
            lost = len(tally.lost)
            with tally.attempt(f"number {number}, {kind}"):
                note(number=number, kind=kind, began=time.strftime("%H:%M:%S"))
                what = KINDS[kind](archive, moments)
                note(number=number, what=what)
                if number % 10 == 9:
                    archive.all_is_whole()
            tally.note(kind)
            if len(tally.lost) > lost:
                note(number=number, lost=tally.lost[-1])
                print(tally.lost[-1], file=sys.stderr, flush=True)
                archive.restore()
            number += 1
        lost = len(tally.lost)
        with tally.check("all commands once more, at the end"):
            archive.all_is_whole()
        for sentence in tally.lost[lost:]:
            note(lost=sentence)
            print(sentence, file=sys.stderr, flush=True)
    finally:
        kill_all()
        log.close()
        archive.close()
    print(f"seed {seed}: {tally.tried} disturbances, {len(tally.lost)} lost; {tally.counts}")
    if os.environ.get("FAULTS_RECORD"):
        tally.finish()
    return tally.lost


def main() -> int:
    """Soak, print, and say by the exit code whether all was as undisturbed."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first disturbance")
    parser.add_argument("--most", type=int, help="disturbances at most")
    parser.add_argument("--folder", type=Path, help="kept; without it a folder that goes")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {asked.seed}, in {folder}", flush=True)
    lost = soak(folder, asked.minutes, asked.seed, asked.first, asked.most)
    if not lost and asked.folder is None:
        shutil.rmtree(folder)
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
