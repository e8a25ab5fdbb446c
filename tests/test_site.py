"""The documents as a site: it builds without a warning, and shows nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    for page in (REPOSITORY / "docs").rglob("*.md"):
        name = page.relative_to(REPOSITORY / "docs").with_suffix(".html")
        built = name.with_name("index.html") if name.stem == "README" else name
        assert (site / built).is_file(), built


def test_links_to_files_of_the_repository_lead_to_copies(site: Path) -> None:
    text = (site / "cluster.html").read_text(encoding="utf-8")
    assert 'href="examples/slurm_array.sh"' in text
    copy = (site / "examples" / "slurm_array.sh").read_bytes()
    assert copy == (REPOSITORY / "examples" / "slurm_array.sh").read_bytes()


def test_formulas_are_drawn(site: Path) -> None:
    page = (site / "method.html").read_text(encoding="utf-8")
    text = page[page.index("<article") : page.index("</article>")]
    assert text.count('<svg viewBox="0 0') > 20
    assert 'class="tex"' not in text
    assert "$" not in re.sub(r'aria-label="[^"]*"|<code>.*?</code>', "", text)


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)\b[^>]*\bsrc="([^"]+)"', text)
        loaded += re.findall(r'<link rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]+)"', text)
        loaded += re.findall(r'<link href="([^"]+)" rel="(?:stylesheet|preconnect)"', text)
        assert loaded
        for address in loaded:
            assert not re.match(r"(?:[a-z]+:)?//", address), (page.name, address)


def test_every_document_is_in_the_navigation() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([\w/.-]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)
    pages = {
        page.relative_to(REPOSITORY / "docs").as_posix()
        for page in (REPOSITORY / "docs").rglob("*.md")
    }
    assert len(named) == len(set(named))
    assert pages <= set(named)


def test_bars_in_the_code_of_a_table_are_shown_without_their_escape(site: Path) -> None:
    text = (site / "reference.html").read_text(encoding="utf-8")
    assert "--stain [vahadane|macenko|none]</code>" in text
    assert "\\|" not in text


def test_the_search_works_from_the_disk(site: Path) -> None:
    assert (site / "search" / "search_index.js").is_file()
    assert (site / "site" / "iframe-worker.js").is_file()
    text = (site / "how-to" / "tune.html").read_text(encoding="utf-8")
    assert '<script src="../site/iframe-worker.js"></script>' in text
