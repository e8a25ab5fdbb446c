"""Brings the faults of ``one_run.py`` into worker processes, which do not import the script."""

import sys
from pathlib import Path

if "--multiprocessing-fork" in sys.orig_argv:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import one_run  # noqa: F401
