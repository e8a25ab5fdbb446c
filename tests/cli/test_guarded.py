"""What ends the process of a command: the signals of a fault are taken for one, all others pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are guarded there")

SCRIPT = """\
import os, signal, sys, time
from pathlib import Path
from wsi_anomaly.cli.guarded import guarded

# As in a terminal: whoever runs these tests may ignore signals, as under nohup.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)

def work():
    with open("runs", "a") as file:
        print(os.getpid(), file=file)
    return WORK

def wait():
    Path("waits").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        with open("interrupted", "a") as file:
            print("once", file=file)
        time.sleep(0.5)
        return 130
    except SystemExit:
        time.sleep(0.5)
        Path("in order").touch()
        raise

sys.exit(guarded(work, ["tile"]))
"""


def started(folder: Path, work: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("WORK", work)],
        cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def runs(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "runs").read_text().split()]


def waiting(folder: Path) -> subprocess.Popen[str]:
    process = started(folder, "wait()")
    while not (folder / "waits").exists() and process.poll() is None:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("code", [0, 1, 2])
def test_an_exit_code_passes(tmp_path: Path, code: int) -> None:
    assert started(tmp_path, str(code)).wait() == code
    assert len(runs(tmp_path)) == 1


@pytest.mark.parametrize("fault", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_fault_outside_of_slides_comes_twice_and_is_said(tmp_path: Path, fault: str) -> None:
    process = started(tmp_path, f"os.kill(os.getpid(), signal.{fault})")
    _, said = process.communicate()
    assert process.returncode == 1
    assert len(runs(tmp_path)) == 2
    error = said.splitlines()[-1]
    assert error.startswith(f"Error: The command's process was ended twice ({fault})")
    assert error.endswith(".")


@pytest.mark.parametrize("to", ["parent", "group"])
def test_ctrl_c_reaches_the_command_once(tmp_path: Path, to: str) -> None:
    process = waiting(tmp_path)
    (os.kill if to == "parent" else os.killpg)(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert (tmp_path / "interrupted").read_text().split() == ["once"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_group_of_processes_ends_the_command_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = waiting(tmp_path)
    os.killpg(process.pid, number)
    assert process.wait() == 128 + number
    assert (tmp_path / "in order").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_who_is_ended_takes_the_command_along_and_does_not_repeat_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = waiting(tmp_path)
    process.send_signal(number)
    process.communicate()  # until the command has closed its end, too
    orderly = number != signal.SIGKILL
    assert process.returncode == (128 + number if orderly else -number)
    (command,) = runs(tmp_path)
    assert command != process.pid
