"""A Dask cluster of real processes, each in a network namespace of its own where that is allowed.

A namespace has its own network devices, addresses and ports: its processes reach the others over
the wire only, as separate machines do.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

_numbers = itertools.count()
_LOOPBACK = "127.0.0.1"
_SECONDS = 90


def wait_for(condition: Callable[[], object], seconds: float = _SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


class Network:
    """Namespaces, one for each machine, joined by a bridge in the first."""

    def __init__(self, machines: int) -> None:
        tag = f"wa{os.getpid() % 100_000}n{next(_numbers)}"  # a device's name has 15 letters
        self.names = [f"{tag}m{k}" for k in range(machines)]
        self.addresses = [f"10.77.0.{k + 1}" for k in range(machines)]
        self.separate = self._lay(tag)
        if not self.separate:
            self.addresses = [_LOOPBACK] * machines

    def _lay(self, tag: str) -> bool:
        if shutil.which("ip") is None or os.geteuid() != 0:
            return False
        try:
            for name in self.names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            hub = self.names[0]
            _ip("-n", hub, "link", "add", "br0", "type", "bridge")
            _ip("-n", hub, "addr", "add", f"{self.addresses[0]}/24", "dev", "br0")
            _ip("-n", hub, "link", "set", "br0", "up")
            for k in range(1, len(self.names)):
                port, there = f"{tag}p{k}", self.names[k]
                _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "eth0", "netns", there)
                _ip("-n", hub, "link", "set", port, "master", "br0", "up")
                _ip("-n", there, "addr", "add", f"{self.addresses[k]}/24", "dev", "eth0")
                _ip("-n", there, "link", "set", "eth0", "up")
        except subprocess.CalledProcessError:  # a container may forbid it
            self.remove()
            return False
        return True

    def command(self, machine: int, words: Sequence[str]) -> list[str]:
        """Words that run a command on a machine."""
        inside = ["ip", "netns", "exec", self.names[machine]] if self.separate else []
        return [*inside, *words]

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Cluster:
    """A scheduler on machine 0 and one worker of one thread on each further machine."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.network = Network(workers + 1)
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen[str]] = []
        self.workers: list[subprocess.Popen[str]] = []
        try:
            host = self.network.addresses[0]
            port = _free_port(self.network)
            self.address = f"tcp://{host}:{port}"
            self._start(
                0, "scheduler", "--host", host, "--port", str(port), "--no-dashboard",
                "--scheduler-file", str(self._file),
            )  # fmt: skip
            wait_for(self._file.exists)
            for k in range(1, workers + 1):
                # Without a nanny, which would start it again, a worker is one process.
                place = folder / f"worker{k}"
                self.workers.append(
                    self._start(
                        k, "worker", self.address, "--host", self.network.addresses[k],
                        "--nthreads", "1", "--no-nanny", "--no-dashboard",
                        "--local-directory", str(place),
                    )
                )  # fmt: skip
            wait_for(lambda: all("Registered to" in self._said(w) for w in self.workers))
        except BaseException:
            self.close()
            raise

    def _start(self, machine: int, *words: str) -> subprocess.Popen[str]:
        log = self._folder / f"{len(self._processes)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                self.network.command(machine, [sys.executable, "-m", "dask", *words]),
                stdout=file, stderr=subprocess.STDOUT, text=True, cwd=self._folder,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _said(self, process: subprocess.Popen[str]) -> str:
        assert process.poll() is None, "a process of the cluster ended"
        return (self._folder / f"{self._processes.index(process)}.log").read_text()

    def run(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of wsi-anomaly on the scheduler's machine."""
        command = [sys.executable, "-m", "wsi_anomaly", *words]
        process = subprocess.Popen(
            self.network.command(0, command), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, cwd=self._folder,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self.network.separate:
            self.network.remove()


def _free_port(network: Network) -> int:
    if network.separate:
        return 8786  # nobody else is there
    import socket

    with socket.socket() as server:
        server.bind((_LOOPBACK, 0))
        port: int = server.getsockname()[1]
        return port
