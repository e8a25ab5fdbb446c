"""The documents stay true: links, tables, commands, options, keys."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest
from test_structure import MAY_IMPORT, REPOSITORY

from wsi_anomaly.cli.main import COMMANDS, cli
from wsi_anomaly.cli.reference import with_commands

DOCS = REPOSITORY / "docs"
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(REPOSITORY / "models").glob("*.md"),
    ]
)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
CONTEXT = click.Context(cli, info_name="wsi-anomaly", **cli.context_settings)


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for _, language, text in found if language in languages]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Names under which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    cleaned = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in cleaned}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} in {name_of(page)}"
        assert found.is_relative_to(REPOSITORY), f"{target} leaves the repository"
        if anchor:
            assert anchor in anchors(found), f"{target} in {name_of(page)}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [REPOSITORY / "README.md"]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
        left += [
            (page.parent / target).resolve()
            for target in targets
            if not re.match(r"[a-z]+:", target)
        ]
    assert {name_of(page) for page in PAGES} <= {name_of(page) for page in reached}


def test_the_table_of_rooms_is_that_of_the_structure_test() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    shown = {
        room: set(re.findall(r"`(\w+)`", may))
        for room, may in re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    }
    assert shown == MAY_IMPORT


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_module_that_a_page_for_engineers_names_is_there(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert len(named) > 3
    places = (REPOSITORY, REPOSITORY / "wsi_anomaly")
    assert not [name for name in named if not any((place / name).is_file() for place in places)]


def test_the_reference_has_the_commands_of_this_version() -> None:
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert with_commands(page) == page, "run python -m wsi_anomaly.cli.reference docs/reference.md"
    for command in COMMANDS:
        assert f"### `wsi-anomaly {command}`" in page


def test_the_reference_is_the_same_whoever_has_asked_for_a_command_before() -> None:
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    script = (
        "import sys, click\n"
        "from pathlib import Path\n"
        "from wsi_anomaly.cli.main import cli\n"
        "from wsi_anomaly.cli.reference import with_commands\n"
        "cli.get_command(click.Context(cli), 'check').make_context('check', ['slides'])\n"
        "sys.exit(with_commands(sys.stdin.read()) != Path(sys.argv[1]).read_text('utf-8'))\n"
    )
    command = [sys.executable, "-c", script, str(DOCS / "reference.md")]
    assert subprocess.run(command, input=page, text=True, check=False).returncode == 0


def test_the_readme_lists_every_command_and_the_three_lines() -> None:
    readme = REPOSITORY / "README.md"
    assert set(re.findall(r"^\| `wsi-anomaly (\w+)` \|", prose(readme), re.MULTILINE)) == set(
        COMMANDS
    )
    assert (
        "wsi-anomaly tile slides/\nwsi-anomaly train\nwsi-anomaly score slide.tif --heatmap\n"
        in blocks(readme, "bash")
    )


def command_lines(page: Path) -> list[str]:
    text = "\n".join(blocks(page, "bash", "")).replace("\\\n", " ")
    lines = re.findall(
        r"(?:^ *|-m |\.venv/bin/)(?:wsi-anomaly|wsi_anomaly) (.*)$", text, re.MULTILINE
    )
    # Command lines inside a sentence count as well.
    lines += re.findall(r"`wsi-anomaly ([^`]+)`", prose(page))
    return [line for line in lines if not line.startswith("-")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    for line in command_lines(page):
        name, *words = shlex.split(line, comments=True)
        assert name in COMMANDS, f"wsi-anomaly {line}"
        command = cli.get_command(CONTEXT, name)
        assert command is not None
        context = click.Context(command, CONTEXT, name)
        known = {
            option
            for parameter in command.get_params(context)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in words if re.match(r"-[a-z-]", word)}
        assert used <= known | {"-h"}, f"wsi-anomaly {line}"


def test_there_are_command_lines_to_check() -> None:
    assert sum(len(command_lines(page)) for page in PAGES) > 40


def test_options_named_in_prose_exist() -> None:
    known = {"--nproc-per-node", "--version", "--steps", "--teacher", "--leave-out", "--help"}
    known.add("--first")  # CONTRIBUTING.md's example of an option
    for name in COMMANDS:
        command = cli.get_command(CONTEXT, name)
        assert command is not None
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    own = [page for page in PAGES if page.name not in {"results.md", "benchmarks.md"}]
    for page in own:
        if page.name == "CHANGELOG.md":
            continue
        named = set(re.findall(r"`[^`\n]*?(?<![\w-])(--[a-z][a-z-]+)", prose(page)))
        assert named <= known, f"{name_of(page)}: {sorted(named - known)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile_and_import_what_is_there(page: Path) -> None:
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wsi_anomaly"):
                module = __import__(node.module, fromlist=["_"])
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pictures_are_small(page: Path) -> None:
    for target in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", prose(page)):
        assert (page.parent / target).stat().st_size < 400_000, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(?:work|home|root)/|/tmp/(?!trial)", text)


def test_configurations_in_the_documents_are_read(tmp_path: Path) -> None:
    from wsi_anomaly.training.config import load_config

    found = [text for page in PAGES for text in blocks(page, "toml")]
    assert found
    for text in found:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        load_config(str(path))


def test_the_reference_names_every_key_and_column() -> None:
    from wsi_anomaly.reports.worklist_rows import Row
    from wsi_anomaly.results.colors import TILE_CLASSES
    from wsi_anomaly.studies.groups import AnimalResult, GroupResult
    from wsi_anomaly.tiles import Status
    from wsi_anomaly.tiles.slides_table import COLUMNS
    from wsi_anomaly.training.config import PRESETS, TrainConfig

    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`\n]+)`", page))
    assert set(COLUMNS) <= named
    assert {field.name for field in fields(Row)} - {"thumbnail", "folder"} <= named
    for table in (TrainConfig, AnimalResult, GroupResult):
        assert {field.name for field in fields(table)} <= named
    assert {kind.name for kind in TILE_CLASSES} <= named
    for status in Status:
        assert f"{int(status)} {status.name.lower()}" in page
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+ \| [^|]+) \|", page, re.MULTILINE))
    for key in ("features", "detector", "batch_size", "learning_rate", "validate_every"):
        values = " | ".join(str(getattr(PRESETS[name], key)) for name in ("fast", "paper"))
        assert rows[key] == values, key


def functions_of(place: str, function: str) -> list[ast.FunctionDef]:
    """Functions of a name in a room, or in one file of it."""
    found = REPOSITORY / "wsi_anomaly" / place
    paths = [found] if found.suffix else sorted(found.rglob("*.py"))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == function]


def keys_assigned_in(place: str, function: str) -> set[str]:
    """Texts that a function uses as keys of dictionaries, or as the header of a table."""
    found = functions_of(place, function)
    assert len(found) == 1, f"{function} in {place}"
    keys = set()
    for node in ast.walk(found[0]):
        if isinstance(node, ast.Dict):
            keys |= {k.value for k in node.keys if isinstance(k, ast.Constant)}
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "table_text":
            cells = node.args[0].elts if isinstance(node.args[0], ast.List | ast.Tuple) else []
            keys |= {c.value for c in cells if isinstance(c, ast.Constant)}
    return {key for key in keys if isinstance(key, str) and key}


def code_words(page: Path) -> set[str]:
    """Words that a page shows as code."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", prose(page)))))


@pytest.mark.parametrize(
    ("place", "function"),
    [
        ("tiles/writing.py", "_root_attributes"),
        ("tiles", "tile_slide"),
        ("tiles", "_trident"),
        ("detectors", "save"),
        ("training", "domain_of"),
        ("training", "_provenance"),
        ("results", "build_summary"),
        ("results/summary.py", "_slide"),
        ("results/summary.py", "_flagged"),
        ("results", "provenance"),
        ("results", "write_zarr"),
        ("reports", "write_results"),
        ("results/geojson.py", "_write"),
        ("studies/key.py", "write_key"),
        ("evaluation/report.py", "as_json"),
        ("evaluation/report.py", "_performance"),
        ("tuning/files.py", "trials_csv"),
        ("tuning/files.py", "summary"),
        ("tuning/files.py", "_trial"),
        ("reproduce/experiment.py", "run"),
        ("reproduce/tables.py", "_as_json"),
        ("reproduce/supervision.py", "_as_json"),
        ("demo/run.py", "figures_as_json"),
        ("cli/info_facts.py", "slide_facts"),
        ("cli/info_facts.py", "slide_folder_facts"),
        ("cli/info_facts.py", "tile_file_facts"),
        ("cli/info_facts.py", "tile_folder_facts"),
        ("cli/info_facts.py", "model_facts"),
        ("cli/info_facts.py", "results_facts"),
    ],
)
def test_the_reference_names_what_the_files_hold(place: str, function: str) -> None:
    words = code_words(DOCS / "reference.md")
    # The separator is an argument of zarr's; versions of programs stand under their own names.
    keys = keys_assigned_in(place, function) - {"separator", "wsi-anomaly", "python"}
    assert keys
    missing = {key for key in keys if not set(re.findall(r"\w+", key)) <= words}
    assert not missing


def test_the_reference_names_the_fields_of_what_is_written_whole() -> None:
    from wsi_anomaly.calibration.fdr import FalseDiscovery
    from wsi_anomaly.evaluation.figures import SlideRow
    from wsi_anomaly.evaluation.metrics import Estimate
    from wsi_anomaly.reproduce.scores import Scores
    from wsi_anomaly.tiles import Preprocessing
    from wsi_anomaly.tuning.confidence import Comparison

    words = code_words(DOCS / "reference.md") | set(
        re.findall(r"\w+", (DOCS / "reference.md").read_text(encoding="utf-8"))
    )
    for table in (FalseDiscovery, SlideRow, Estimate, Scores, Comparison, Preprocessing):
        assert {field.name for field in fields(table)} <= words, table.__name__


def test_every_command_that_writes_a_folder_has_its_files_in_the_reference() -> None:
    headings = re.findall(r"^## (\w+)/$", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE)
    written = set()
    for name in COMMANDS:
        command = cli.get_command(CONTEXT, name)
        assert command is not None
        written |= {
            str(option.default)
            for option in command.params
            if "--output" in option.opts
            and isinstance(option.default, Path)
            and not option.default.suffix  # a single file
        }
    assert written
    assert written <= set(headings)


@pytest.mark.parametrize("page", ["benchmarks.md", "cluster.md"])
def test_the_tables_of_speed_are_those_that_were_recorded(page: str) -> None:
    place = REPOSITORY / "benchmarks" / "table.py"
    tables = runpy.run_path(str(place))
    text = (DOCS / page).read_text(encoding="utf-8")
    assert "<!-- table " in text
    assert tables["with_tables"](text) == text
