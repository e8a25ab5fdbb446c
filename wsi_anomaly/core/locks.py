"""Locks between runs, on disks and systems that have them and on those that have none."""

from __future__ import annotations

import contextlib
import errno
import warnings
from collections.abc import Iterator
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def alone_with(path: Path) -> Iterator[bool]:
    """Keep other runs from what lies at `path` meanwhile; False where nothing can.

    The lock goes with the process that holds it, so it cannot be left behind. A file that stands
    for a lock can: where there is nothing better, disks and systems do without.

    Raises
    ------
    OSError
        The disk fails in another way than by having no locks.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no better lock on this system
        from filelock import FileLock, SoftFileLock

    lock = FileLock(path.with_name(f".{path.name}.lock"), fallback_to_soft=False)
    with contextlib.ExitStack() as held:
        alone = not isinstance(lock, SoftFileLock)
        if alone:
            try:
                held.enter_context(lock)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                alone = False
        yield alone
