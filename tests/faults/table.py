"""Write the table of ``docs/reliability.md`` from the records of ``make faults``.

Run ``python tests/faults/table.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = REPOSITORY / "docs" / "results" / "faults"
PAGE = REPOSITORY / "docs" / "reliability.md"
START = "<!-- faults: written by python tests/faults/table.py -->"
END = "<!-- end of the faults -->"


def table(records: list[dict[str, Any]]) -> str:
    """One row a fault, Markdown; what they ran on below."""
    lines = [
        "| what was done | what had to hold | tried | survived | lost | how it went |",
        "|---|---|---:|---:|---:|---|",
    ]
    for r in records:
        went = "; ".join(f"{text}: {number}" for text, number in r["outcomes"].items())
        lines.append(
            f"| {r['fault']} | {r['promise']} | {r['tried']} | {r['survived']} | {len(r['lost'])} "
            f"| {went} |"
        )
    total = (sum(r[k] for r in records) for k in ("tried", "survived"))
    lost = sum(len(r["lost"]) for r in records)
    tried, survived = total
    lines.append(f"| **all** | | **{tried}** | **{survived}** | **{lost}** | |")
    for text in sorted({_where(r) for r in records}):
        lines += ["", text]
    return "\n".join(lines)


def _where(r: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in r["libraries"].items())
    return f"{r['date']}, {r['program']}, Python {r['python']}, {r['system']}; {libraries}."


def with_table(page: str, records: list[dict[str, Any]]) -> str:
    """Put the table between the two marks of a page."""
    before, rest = page.split(START)
    return f"{before}{START}\n\n{table(records)}\n\n{END}{rest.split(END)[1]}"


def read_records() -> list[dict[str, Any]]:
    """All records, by name."""
    return [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(), read_records()))
