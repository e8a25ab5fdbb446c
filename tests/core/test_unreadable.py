"""What cannot be read is not called damaged: its owner would delete it."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.reading import why_unreadable
from wsi_anomaly.core.tensors import load_tensors, save_tensors


def failing(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """A disk that gives an error for files of this name."""
    real = builtins.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith(name):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", refuse)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_file_or_a_folder_says_why_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "chunk").write_bytes(b"x")
    assert why_unreadable(tmp_path / "a") is None
    assert why_unreadable(tmp_path / "a" / "b" / "chunk") is None
    failing(monkeypatch, "chunk", code)
    assert why_unreadable(tmp_path / "a") == os.strerror(code)
    assert why_unreadable(tmp_path / "a" / "b" / "chunk") == os.strerror(code)


def test_a_model_on_a_failing_disk_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"w": torch.zeros(3)}, {})
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ModelError, match="missing or damaged"):
        load_tensors(path)
    failing(monkeypatch, "model.safetensors", errno.EIO)
    with pytest.raises(ModelError, match=r"cannot be read \(Input/output error\)") as refused:
        load_tensors(path)
    assert "damaged" not in str(refused.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "chunk")
    assert why_unreadable(tmp_path) is None


def test_files_of_any_size_and_number_are_looked_at_in_no_time(tmp_path: Path) -> None:
    folder = tmp_path / "scores.zarr"
    folder.mkdir()
    read: list[int] = []

    class Counting:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None:
            return

        def read(self, count: int = -1) -> bytes:
            read.append(count)
            return b"x"

    for k in range(1500):
        (folder / str(k)).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", lambda *_arguments, **_options: Counting())
        assert why_unreadable(folder) is None
    assert len(read) == 1000
    assert 0 < min(read) <= max(read) <= 1 << 20
