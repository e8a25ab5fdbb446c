"""An environment for each peer, made once from the package registry and kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_TORCH = ("torch==2.11.0", "torchvision==0.26.0")


@dataclass(frozen=True)
class Peer:
    """What to install for a peer.

    Attributes
    ----------
    packages
        Pinned; the first gives the version that is reported.
    overrides
        Pins of the peer's own that cannot be kept on a current machine.
    python
        The version of Python that it needs; "": this one.
    """

    packages: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    python: str = ""

    @property
    def version(self) -> str:
        """Name and version, for the table."""
        return self.packages[0].split("[")[0].split("==")[0] + " " + self.packages[0].split("==")[1]


PEERS = {
    "hs2p": Peer(("hs2p[openslide,tifffile]==6.1.0", "h5py")),
    "lazyslide": Peer(
        ("lazyslide==0.13.0", "wsidata==0.12.0", "fastslide==0.8.1", "h5py", *_TORCH)
    ),
    "tiatoolbox": Peer(("tiatoolbox==2.1.3", "h5py", *_TORCH)),
    # histolab asks for an openslide-python that does not find the library in a package.
    "histolab": Peer(
        ("histolab==0.7.0", "openslide-bin", "h5py"), ("openslide-python>=1.4",), "3.10"
    ),
    "fastslide": Peer(("fastslide==0.8.1", "h5py", "pillow")),
    "eozin": Peer(("eozin==0.1.0a2", "h5py")),
    "microtome": Peer(("microtome-wsi==0.1.0", "h5py", "pillow")),
    "wsi-patching": Peer(("wsi-patching==0.5.5", "h5py", _TORCH[0])),
    "anomalib": Peer(("anomalib==2.7.0", *_TORCH)),
    "torchstain": Peer(("torchstain==1.4.1", *_TORCH)),
    "torch-staintools": Peer(("torch-staintools==1.0.7", *_TORCH)),
    "stainx": Peer(("stainx==0.1.6", *_TORCH)),
    "decoders": Peer(("simplejpeg==1.9.0", "opencv-python-headless==5.0.0.93")),
    "staintools": Peer(
        ("staintools==2.1.2", "spams-bin==2.6.14", "opencv-python-headless"),
        ("opencv-python; python_version < '3'",),
    ),
}


def python_of(name: str, cache: Path) -> Path:
    """Python of a peer's environment, which is made when it is not there.

    Raises
    ------
    RuntimeError
        It cannot be installed; the message is the installer's last line.
    """
    peer = PEERS[name]
    asked = json.dumps([peer.packages, peer.overrides, peer.python or sys.version_info[:2]])
    folder = cache / f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    python = folder / "bin" / "python"
    if (folder / "installed").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {name} ...", file=sys.stderr, flush=True)
    interpreter = _interpreter(peer.python) if peer.python else sys.executable
    _uv(cache, "venv", "--quiet", "--python", interpreter, str(folder))
    overrides = folder / "overrides.txt"
    overrides.write_text("\n".join(peer.overrides) + "\n", encoding="utf-8")
    _uv(
        cache, "pip", "install", "--quiet", "--python", str(python), "--override", str(overrides),
        *peer.packages,
    )  # fmt: skip
    (folder / "installed").touch()
    return python


def _interpreter(version: str) -> str:
    """Find a Python of this version: on the path, or among pyenv's.

    Raises
    ------
    RuntimeError
        There is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))):
        # pyenv's stand-in on the path fails where the version is not switched on.
        if found and not subprocess.run([found, "-V"], check=False, capture_output=True).returncode:
            return str(found)
    raise RuntimeError(f"it needs Python {version}, which is not here")


def _uv(where: Path, *words: str) -> None:
    """Run uv outside the repository, whose own settings are not for peers."""
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else "uv"
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    try:
        done = subprocess.run(
            [uv, *words], check=False, cwd=where, env=environment, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise RuntimeError("uv is not installed") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(" ".join(lines[-2:]) or "uv failed")
