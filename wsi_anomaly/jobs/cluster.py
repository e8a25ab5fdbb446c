"""Work shared out to the machines of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.extras import import_extra
from wsi_anomaly.jobs.processes import Finished
from wsi_anomaly.jobs.progress import Progress, unwatched

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_SECONDS = 20


def run_on_cluster(
    work: Callable[[T, Progress], R], items: Sequence[T], address: str
) -> Generator[Finished[R]]:
    """Work on items wherever the cluster has room.

    Its workers need this package, and the same paths to the files.

    Parameters
    ----------
    work, items
        As for :func:`~wsi_anomaly.jobs.processes.run_in_processes`.
    address
        Of the scheduler, e.g. tcp://10.0.0.5:8786.

    Raises
    ------
    UsageError
        Dask is not installed, or the scheduler does not answer.
    """
    dask = import_extra("distributed", "dask", "--dask")
    try:
        client = dask.Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"No Dask scheduler answers at {address} ({reason}); start one with 'dask scheduler', "
            "and give its address with --dask."
        ) from error
    with client:
        futures = client.map(_Quiet(work), items, pure=False, retries=0, key="wsi-anomaly")
        index = {future.key: i for i, future in enumerate(futures)}
        try:
            for future in dask.as_completed(futures):
                yield Finished(index[future.key], _result(future))
        finally:
            client.cancel(futures)


def _result(future: Any) -> Any | None:
    """Wait for what an item gave; None where its workers were lost.

    A worker that dies takes finished results with it until they were fetched. Dask makes them
    anew, so the future is waited for, whatever its state is at this moment.
    """
    try:
        return future.result()
    except Exception:  # noqa: BLE001 - of Dask: results carry what went wrong in the work itself
        return None


class _Quiet(Generic[T, R]):
    """Work that reports to nobody; a class, so that it can be sent."""

    def __init__(self, work: Callable[[T, Progress], R]) -> None:
        self._work = work

    def __call__(self, item: T) -> R:
        return self._work(item, unwatched)
