"""Runs the cells of a table one by one; what is finished stays finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import make_folder, remove_left_behind
from wsi_anomaly.learning.loop import Report
from wsi_anomaly.reproduce.experiment import Bench
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.problems import Source, chosen_classes
from wsi_anomaly.reproduce.rows import check_rows
from wsi_anomaly.reproduce.scores import Place
from wsi_anomaly.reproduce.summary import RowSummary
from wsi_anomaly.reproduce.tables import write_tables


@dataclass
class Watch:
    """What is told of a run as it goes.

    Attributes
    ----------
    starts
        Called before a cell with how many are done, how many there are, and the cell.
    ended
        Called after it with its figures; None where it failed.
    report
        Called during a training.
    """

    starts: Callable[[int, int, Place], None] = lambda _done, _total, _place: None
    ended: Callable[[Place, dict[str, Any] | None], None] = lambda _place, _cell: None
    report: Callable[[Report], None] | None = None


@dataclass
class Outcome:
    """What came of a run: the rows, and a sentence for each cell that could not be computed."""

    rows: list[RowSummary]
    errors: list[str] = field(default_factory=list)


def reproduce(
    source: Source,
    plan: Plan,
    rows: Sequence[str],
    output: Path,
    *,
    classes: Sequence[str] = (),
    seeds: int = 3,
    command: str = "",
    watch: Watch | None = None,
) -> Outcome:
    """Compute all cells that are missing, and write the tables after each problem.

    Parameters
    ----------
    source, plan
        The data set, and how the experiments are run.
    rows
        Names of rows, see :data:`~wsi_anomaly.reproduce.rows.ROWS`.
    output
        Folder of the set.
    classes
        Problems; empty: all of them.
    seeds
        Seeds 0, 1, ...
    command
        What the user typed, for the head of the table.
    watch
        Told how far it is.

    Raises
    ------
    UsageError
        A row or a class does not exist, or the folder holds damaged cells.
    ModelError
        The perceptual network's weights cannot be had.
    """
    watch = watch or Watch()
    if seeds < 1:
        raise UsageError("--seeds is at least 1.")
    check_rows(tuple(rows), source.key, plan.aside)
    problems = chosen_classes(source, classes)
    make_folder(output)
    remove_left_behind(output)
    bench = Bench(source, plan, output, watch.report)
    places = list(bench.places(tuple(dict.fromkeys(rows)), problems, seeds))
    bench.check_network(places)
    errors = []
    former = places[0].problem
    for number, place in enumerate(places):
        if place.problem != former:
            write_tables(source, plan, places, output, command)
            former = place.problem
        was_there = place.done
        watch.starts(number, len(places), place)
        try:
            cell = bench.run(place)
        except UsageError:
            raise
        except WsiAnomalyError as error:
            errors.append(f"{place.row} on {place.problem}, seed {place.seed}: {error}")
            watch.ended(place, None)
            continue
        if not was_there:
            watch.ended(place, cell)
    return Outcome(write_tables(source, plan, places, output, command), errors)
