"""Fuzz the parsers with atheris, guided by coverage.

``python tests/fuzz``                  every parser
``python tests/fuzz asap_xml``         one of them

``--seconds N`` for each parser; ``--record FILE`` for the figures. Findings lie in ``fuzz/``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mutations import mutated
from parsers import PARSERS

FOUND = Path("fuzz")
_MEMORY_MB = 6000
_LONGEST_S = 30


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one parser in this process, which ends with it."""
    import atheris

    parser = PARSERS[name]
    folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(parser.seeds()):
        (corpus / str(i)).write_bytes(seed)
        path = folder / parser.name
        path.write_bytes(seed)
        parser.accepts(path)  # imports what it needs, before the libraries are instrumented
    (FOUND / name).mkdir(parents=True, exist_ok=True)
    for module in [m for n, m in sys.modules.items() if n.startswith("wsi_anomaly.")]:
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) == module.__name__ and hasattr(value, "__code__"):
                atheris.instrument_func(value)

    def one(data: bytes) -> None:
        path = folder / parser.name
        path.write_bytes(data)
        parser.accepts(path)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return atheris.Mutate(data, size)
        return mutated(data, chance, text=parser.text)[:size]

    options = [
        sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-timeout={_LONGEST_S}",
        f"-rss_limit_mb={_MEMORY_MB}", f"-artifact_prefix={FOUND / name}/", "-max_len=65536",
        "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup(options, one, custom_mutator=mutate)
    atheris.Fuzz()


def fuzz_all(names: list[str], seconds: int) -> list[dict[str, object]]:
    """Fuzz parsers, each in a process of its own; how often each ran and what was found."""
    records = []
    for name in names:
        here = str(Path(__file__).parent)
        command = [sys.executable, here, "--alone", name, "--seconds", str(seconds)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        printed = ran.stdout + ran.stderr
        units = re.search(r"number_of_executed_units:\s*(\d+)", printed)
        record: dict[str, object] = {
            "parser": name,
            "executions": int(units[1]) if units else 0,
            "seconds": seconds,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "found": "" if ran.returncode == 0 else _finding(printed),
        }
        print(json.dumps(record), flush=True)
        records.append(record)
    return records


def _finding(printed: str) -> str:
    lines = [line for line in printed.splitlines() if re.match(r"\w*(Error|Exception)\b", line)]
    other = [line for line in printed.splitlines() if "ERROR: libFuzzer" in line]
    return " | ".join([*lines[-2:], *other])[:400] or printed[-400:]


def main() -> int:
    """Run what the arguments say; 1 when anything was found."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", choices=[[], *PARSERS], metavar="PARSER")
    arguments.add_argument("--seconds", type=int, default=60)
    arguments.add_argument("--record", type=Path)
    arguments.add_argument("--alone", choices=list(PARSERS), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.alone:
        fuzz(given.alone, given.seconds)
    records = fuzz_all(given.names or list(PARSERS), given.seconds)
    if given.record:
        given.record.write_text(json.dumps(records, indent=1) + "\n")
    return int(any(record["found"] for record in records))


if __name__ == "__main__":
    sys.exit(main())
