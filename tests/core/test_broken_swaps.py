"""Whatever breaks off the replacement of a folder, one whole content is left, and can be found.

Every step of the replacement is made to fail in turn: each call that changes the disk, before it
acts and after it (a network disk may report an error for what it has done), and every instruction
at which Ctrl-C may arrive.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from wsi_anomaly.core import files
from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import atomic_folder, remove_left_behind

STEPS = {
    "rename": os,
    "replace": os,
    "utime": os,
    "fsync": os,
    "unlink": os,
    "rmdir": os,
    "rmtree": shutil,
}
ERRORS = [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "Denied")]


def fill(folder: Path, content: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (folder / name).write_text(content)


def replace_it(target: Path, content: str = "new") -> None:
    with atomic_folder(target) as partial:
        fill(partial, content)


def content_of(folder: Path) -> str:
    """What a folder holds, all of it."""
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    one, other = ((folder / name).read_text() for name in ("a", "b"))
    assert one == other
    return one


class Steps:
    """Counts the calls of some functions, and fails at one of them, or from it on."""

    def __init__(self, at: int, error: BaseException, *, late: bool, onwards: bool) -> None:
        self.at, self.error, self.late, self.onwards = at, error, late, onwards
        self.calls = 0

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            broken = self.calls >= self.at if self.onwards else self.calls == self.at
            if broken and not self.late:
                raise self.error
            result = real(*arguments, **options)
            if broken:
                raise self.error
            return result

        return step


@contextmanager
def failing(names: list[str], steps: Steps) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(STEPS[name], name, steps.around(getattr(STEPS[name], name)))
        yield


def all_is_well_afterwards(target: Path, error: BaseException | None) -> None:
    """One whole content is in its place, or where the message says; the next run tidies up."""
    hidden = re.search(r"it is whole in (\S+):", str(error))
    where = Path(hidden[1]) if hidden else target
    left = content_of(where)
    assert left in ("old", "new")
    assert left == "new" or error is not None
    if hidden:
        assert not target.exists()
        assert left == "old"
    # Of the next one that breaks off, too, nothing is lost ...
    with pytest.raises(ZeroDivisionError), atomic_folder(target):
        raise ZeroDivisionError
    assert content_of(target) == left
    # ... and once it ends well, nothing is left that could come back.
    replace_it(target, "newest")
    forget_this_process(target.parent)
    remove_left_behind(target.parent)
    assert content_of(target) == "newest"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def forget_this_process(folder: Path) -> None:
    """Rename what this process left as if another one, which has ended, had left it."""
    for path in folder.glob(".*"):
        path.rename(path.with_name(path.name.replace(f".{os.getpid()}.", ".99999999.")))


def broken_at_every_call(
    folder: Path, names: list[str], error: BaseException, *, late: bool, onwards: bool = False
) -> int:
    """Replace a folder again and again, each time with another call that fails."""
    for at in range(1, 200):
        target = folder / str(at) / "out"
        target.parent.mkdir(parents=True)
        fill(target, "old")
        steps = Steps(at, error, late=late, onwards=onwards)
        caught: BaseException | None = None
        with failing(names, steps):
            try:
                replace_it(target)
            except (OSError, OutputError, KeyboardInterrupt) as broken:
                caught = broken
        all_is_well_afterwards(target, caught)
        if steps.calls < at:
            return at - 1
    raise AssertionError("it never ends")


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt()], ids=["EIO", "EACCES", "Ctrl-C"])
@pytest.mark.parametrize("name", STEPS)
def test_one_call_fails(tmp_path: Path, name: str, error: BaseException, late: bool) -> None:
    calls = broken_at_every_call(tmp_path, [name], error, late=late)
    assert calls >= {"rename": 2, "fsync": 4, "utime": 1, "replace": 0}.get(name, 1)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", ERRORS, ids=["EIO", "EACCES"])
def test_everything_fails_from_one_call_on(tmp_path: Path, error: OSError, late: bool) -> None:
    names = [name for name in STEPS if name != "rmtree"]  # which is told to ignore what fails in it
    assert broken_at_every_call(tmp_path, names, error, late=late, onwards=True) > 8


@pytest.mark.parametrize("first", [ERRORS[0], KeyboardInterrupt()], ids=["EIO", "Ctrl-C"])
def test_a_former_folder_that_cannot_be_moved_back_stays_and_the_message_says_where(
    tmp_path: Path, first: BaseException
) -> None:
    target = tmp_path / "model"
    fill(target, "old")
    renames = 0
    real = os.rename

    def no_way_back(source: Any, to: Any) -> None:
        nonlocal renames
        renames += 1
        if renames > 1:  # the first moves the old one aside
            raise first if renames == 2 else ERRORS[0]
        real(source, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", no_way_back)
        with pytest.raises(OutputError, match=r"it is whole in .*rename that folder to model"):
            replace_it(target)
    (hidden,) = tmp_path.iterdir()
    assert content_of(hidden) == "old"
    # Its process has ended: the next one, of whatever kind, brings it back.
    forget_this_process(tmp_path)
    remove_left_behind(tmp_path)
    assert content_of(target) == "old"


def test_ctrl_c_at_every_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # hundreds of times, it takes a while
    outcomes = []
    for at in range(100_000):
        target = tmp_path / "out"
        fill(target, "old")
        error = _interrupted(at, lambda: replace_it(target))  # noqa: B023 - called at once
        outcomes.append(content_of(target))
        assert (error is None) == (at >= _interrupted.seen)
        forget_this_process(tmp_path)
        remove_left_behind(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        if error is None:
            break
    assert outcomes[0] == "old"
    assert outcomes[-1] == "new"
    assert len(outcomes) > 500


def _interrupted(at: int, work: Callable[[], None]) -> BaseException | None:
    """Press Ctrl-C at one of the instructions of ``core/files.py``; None: it has fewer."""
    _interrupted.seen = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            _interrupted.seen += 1
            if _interrupted.seen > at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
    return None


def test_of_several_former_folders_the_one_that_was_moved_last_comes_back(tmp_path: Path) -> None:
    for age, process in ((300, 99999997), (100, 99999998), (200, 99999999)):
        folder = tmp_path / f".out.{files._machine()}.{process}.former"
        fill(folder, f"{age} seconds old")
        then = folder.stat().st_mtime - age
        os.utime(folder, (then, then))
    remove_left_behind(tmp_path)
    assert content_of(tmp_path / "out") == "100 seconds old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_half_deleted_never_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    fill(target, "old")
    steps = Steps(2, KeyboardInterrupt(), late=False, onwards=False)
    with failing(["unlink"], steps), pytest.raises(KeyboardInterrupt):
        replace_it(target)
    assert content_of(target) == "new"
    shutil.rmtree(target)  # somebody does not want it
    forget_this_process(tmp_path)
    remove_left_behind(tmp_path)
    assert list(tmp_path.iterdir()) == []
