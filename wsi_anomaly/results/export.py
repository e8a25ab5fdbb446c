"""Results as tables for other programs: Parquet, CSV, AnnData.

Parquet and CSV are written slide by slide, so that the memory is that of one slide, however many
there are; an AnnData file is built whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from wsi_anomaly.core.errors import OutputError, UsageError, WsiAnomalyError
from wsi_anomaly.core.files import atomic_file, make_folder, output_errors
from wsi_anomaly.results.export_spatialdata import write_store
from wsi_anomaly.results.export_tables import Columns, Words, frame_of, package, slide_tables
from wsi_anomaly.results.summary import read_summary, result_names

FORMATS = ("parquet", "csv", "anndata", "spatialdata")
TABLES = ("fields", "regions", "slides")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    files
        One for each of :data:`TABLES`, the one AnnData file, or a SpatialData store a slide.
    slides, fields, regions
        How many rows of each.
    problems
        A sentence for each slide that could not be read.
    """

    files: list[Path]
    slides: int
    fields: int
    regions: int
    problems: list[str]


def export_results(
    results: Path, output: Path, kind: str = "parquet", names: Sequence[str] | None = None
) -> Exported:
    """Write a row a field, a row a region and a row a slide.

    Parameters
    ----------
    results
        Written by ``wsi-anomaly score``.
    output
        Folder of the tables.
    kind
        One of :data:`FORMATS`. An AnnData file holds the fields: raw scores by method as its
        matrix, centres in um as ``obsm["spatial"]``, the rest as ``obs``. SpatialData is a store a
        slide, see :func:`~wsi_anomaly.results.export_spatialdata.write_store`.
    names
        Slides (folders of the results), in this order; all, by name, when left out.

    Raises
    ------
    UsageError
        Nothing to export, no such format, or a package that it needs is missing.
    OutputError
        No slide can be read, or a table cannot be written.
    """
    if kind not in FORMATS:
        raise UsageError(f"A format is {', '.join(FORMATS)}, not {kind!r}.")
    names = result_names(results) if names is None else list(names)
    if not names:
        raise UsageError(
            f"{results} holds no results; give the folder that 'wsi-anomaly score' has written."
        )
    methods = methods_of(results, names)
    make_folder(output)
    if kind == "spatialdata":
        return _export_stores(results, output, names, methods)
    suffix, titles = ("h5ad", TABLES[:1]) if kind == "anndata" else (kind, TABLES)
    paths = [output / f"{title}.{suffix}" for title in titles]
    counts = dict.fromkeys(TABLES, 0)
    problems: list[str] = []
    with ExitStack() as opened:
        partials = [opened.enter_context(atomic_file(path)) for path in paths]
        writers = [opened.enter_context(_WRITERS[kind](partial, methods)) for partial in partials]
        for name in names:
            try:
                tables = slide_tables(results, name, methods)
            except WsiAnomalyError as error:
                problems.append(str(error))
                continue
            with output_errors(output):
                for title, writer in zip(titles, writers, strict=True):
                    writer.write(getattr(tables, title))
            for title in TABLES:
                counts[title] += _length(getattr(tables, title))
        if not counts["slides"]:
            raise OutputError(f"No slide of {results} can be exported. {problems[0]}")
    return Exported(paths, counts["slides"], counts["fields"], counts["regions"], problems)


def _export_stores(
    results: Path, output: Path, names: Sequence[str], methods: Sequence[str]
) -> Exported:
    """Write a SpatialData store for each slide."""
    files: list[Path] = []
    problems: list[str] = []
    fields = regions = 0
    for name in names:
        try:
            tables = slide_tables(results, name, methods)
            path = output / f"{name}.zarr"
            write_store(path, tables, methods, read_summary(results / name) or {})
        except UsageError:
            raise
        except WsiAnomalyError as error:
            problems.append(str(error))
            continue
        files.append(path)
        fields += _length(tables.fields)
        regions += _length(tables.regions)
    if not files:
        raise OutputError(f"No slide of {results} can be exported. {problems[0]}")
    return Exported(files, len(files), fields, regions, problems)


def methods_of(results: Path, names: Sequence[str]) -> list[str]:
    """List the methods of all models: a table has the same columns for each slide."""
    found: dict[str, None] = {}
    for name in names:
        summary = read_summary(results / name) or {}
        found |= dict.fromkeys(map(str, summary.get("model", {}).get("methods", ())))
    return list(found)


def _length(columns: Columns) -> int:
    first = next(iter(columns.values()))
    return len(first.index if isinstance(first, Words) else first)


class _ArrowWriter:
    """Tables of one file, one after the other; its columns are those of the first."""

    def __init__(self, path: Path, _methods: Sequence[str]) -> None:
        self._arrow = package("pyarrow")
        self._path = path
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def write(self, columns: Columns) -> None:
        """Write the rows of one slide."""
        table = self._arrow.table({name: self._column(values) for name, values in columns.items()})
        if self._writer is None:
            self._writer = self._open(table.schema)
        self._writer.write_table(table)

    def _open(self, schema: Any) -> Any:
        return package("pyarrow.parquet").ParquetWriter(self._path, schema, compression="zstd")

    def _column(self, values: Any) -> Any:
        if isinstance(values, list):  # of texts, and of no region not even that
            return self._arrow.array(values, self._arrow.string())
        if not isinstance(values, Words):
            return self._arrow.array(values)
        return self._arrow.DictionaryArray.from_arrays(
            self._arrow.array(values.index.astype(np.int32)), self._arrow.array(values.texts)
        )

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


class _CsvWriter(_ArrowWriter):
    def _open(self, schema: Any) -> Any:
        return package("pyarrow.csv").CSVWriter(self._path, schema)

    def _column(self, values: Any) -> Any:
        found = super()._column(values)
        return found.cast("string") if isinstance(values, Words) else found


class _AnnDataWriter:
    """Collects the fields of all slides; the file is written at the end."""

    def __init__(self, path: Path, methods: Sequence[str]) -> None:
        self._anndata, self._pandas = package("anndata"), package("pandas")
        self._path, self._methods = path, methods
        self._parts: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def write(self, columns: Columns) -> None:
        """Take the rows of one slide."""
        self._parts.append(frame_of(columns))

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is not None or not self._parts:
            return
        table = self._pandas.concat(self._parts, ignore_index=True)
        for name in ("slide", "status", "class", "review"):
            table[name] = table[name].astype("category")
        table.index = [
            f"{slide}_{row}_{col}"
            for slide, row, col in zip(table["slide"], table["row"], table["col"], strict=True)
        ]
        scores = [f"score_{method}" for method in self._methods]
        spatial = table[["x_um", "y_um"]].to_numpy()
        found = self._anndata.AnnData(
            table[scores].to_numpy(np.float32),
            obs=table.drop(columns=scores),
            var=self._pandas.DataFrame(index=list(self._methods)),
            obsm={"spatial": spatial},
        )
        found.write_h5ad(self._path)


_Writer = Callable[[Path, Sequence[str]], Any]
_WRITERS: dict[str, _Writer] = {
    "parquet": _ArrowWriter,
    "csv": _CsvWriter,
    "anndata": _AnnDataWriter,
}
