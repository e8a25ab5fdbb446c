"""Shards share out the slides: each slide to exactly one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.jobs import parse_shard, take_shard


@given(st.integers(0, 40), st.integers(1, 12))
def test_every_slide_belongs_to_one_shard(slides, count):
    paths = [Path(f"{i}.svs") for i in range(slides)]
    parts = [take_shard(paths, parse_shard(f"{i + 1}/{count}")) for i in range(count)]
    assert sorted(path for part in parts for path in part) == sorted(paths)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_slurm_array_may_start_anywhere():
    found = {
        parse_shard(
            "slurm",
            {
                "SLURM_ARRAY_TASK_ID": str(task),
                "SLURM_ARRAY_TASK_MIN": "5",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
        )
        for task in (5, 6, 7)
    }
    assert found == {(1, 3), (2, 3), (3, 3)}
    assert parse_shard(None) == (1, 1)


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "a/b", "slurm", "-1/4"])
def test_nonsense_is_refused(text):
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text, {})
