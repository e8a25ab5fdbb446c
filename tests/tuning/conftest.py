from __future__ import annotations

from pathlib import Path

import pytest
from search_cases import make_tiles


@pytest.fixture(scope="session")
def drawn_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiles/`` of seven normal slides, ``few/`` of two with lesions."""
    return make_tiles(tmp_path_factory.mktemp("drawn"))
