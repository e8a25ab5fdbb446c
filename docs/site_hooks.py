# ruff: noqa: INP001
"""What the site needs beside MkDocs, so that the same pages serve on a code host.

Links that leave docs/ (``../examples/main.nf``) lead to copies inside the site. Formulas become
pictures inside the page: the usual scripts for them would be fetched from elsewhere.
"""

from __future__ import annotations

import io
import os
import re
from html import escape
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from mkdocs.structure.files import File

_REPOSITORY = Path(__file__).resolve().parents[1]
_DOCS = _REPOSITORY / "docs"
_CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+(?:\n[^$\n]+)?)\$", re.DOTALL)
_PLACE = re.compile(r'<span class="tex">(\d+)</span>')
# TeX that matplotlib spells otherwise.
_SPELLING = (
    (r"\\tfrac(\d)(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac(\d)([a-zA-Z])", r"\\frac{\1}{\2}"),
    (r"\\frac(\d)\{", r"\\frac{\1}{"),
    (r"\\[lr]Vert(?![a-zA-Z])", r"\\Vert "),
    (r"\\[lr]vert(?![a-zA-Z])", "|"),
    (r"\\big[lr]", ""),
    (r"\\mathsf ?T\b", r"\\mathsf{T}"),
    (r"\\le(?![a-zA-Z])", r"\\leq"),
    (r"\\ge(?![a-zA-Z])", r"\\geq"),
)
_POINTS = 12
_FOLDER = re.compile(r"\[([^\]]+)\]\([^):]+/\)")
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _outside(source: Path, target: str) -> Path | None:
    """Return the file of the repository that a link names, when it lies outside docs/."""
    if re.match(r"[a-z]+:", target):
        return None
    found = (source.parent / target).resolve()
    inside = found.is_relative_to(_REPOSITORY) and found.is_file()
    return found if inside and (not found.is_relative_to(_DOCS) or not _in_docs(source)) else None


def _in_docs(path: Path) -> bool:
    return path.is_relative_to(_DOCS)


def _place(path: Path) -> str:
    """Where a file of the repository stands in the site, as a source path."""
    if _in_docs(path):
        return path.relative_to(_DOCS).as_posix()
    if path == _REPOSITORY / "README.md":
        return "README.md"  # the first page takes its place
    return path.relative_to(_REPOSITORY).as_posix()


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside docs/ that pages lead to, and those that these lead to."""
    left = [Path(file.abs_src_path) for file in files.documentation_pages()]
    while left:
        page = left.pop()
        for target, _ in _LINK.findall(page.read_text(encoding="utf-8")):
            found = _outside(page, target)
            if found is None or files.get_file_from_path(_place(found)) is not None:
                continue
            files.append(File.generated(config, _place(found), abs_src_path=str(found)))
            if found.suffix == ".md":
                left.append(found)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links out of docs/ into links within the site."""
    source = Path(page.file.abs_src_path)
    here = Path(page.file.src_uri).parent

    def inside(match: re.Match[str]) -> str:
        found = _outside(source, match[1])
        if found is None:
            return match[0]
        return f"]({os.path.relpath(_place(found), here)}{match[2] or ''})"

    page.formulas = []

    def kept(match: re.Match[str]) -> str:
        page.formulas.append((match[1] or match[2], match[1] is not None))
        return f'<span class="tex">{len(page.formulas) - 1}</span>'

    markdown = _FOLDER.sub(r"\1", markdown)  # a folder of files has no page
    parts = _CODE.split(_LINK.sub(inside, markdown))
    parts[::2] = [_FORMULA.sub(kept, part) for part in parts[::2]]
    # A code host wants | escaped in the code of a table; here the backslash would be shown.
    parts[1::2] = [p if "```" in p else p.replace("\\|", "|") for p in parts[1::2]]
    return "".join(parts)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Put the formulas where they belong."""
    return _PLACE.sub(lambda match: _picture(*page.formulas[int(match[1])]), html)


def _picture(tex: str, display: bool) -> str:
    """Draw a formula in the colour and size of the text around it."""
    tex = " ".join(tex.split())
    spelled = tex
    for pattern, replacement in _SPELLING:
        spelled = re.sub(pattern, replacement, spelled)
    drawn = io.StringIO()
    settings = {
        "svg.fonttype": "path", "svg.hashsalt": "site", "mathtext.fontset": "cm",
        "savefig.transparent": True,
    }  # fmt: skip
    with rc_context(settings):
        depth = math_to_image(f"${spelled}$", drawn, FontProperties(size=_POINTS), 72, "svg")
    svg = drawn.getvalue()
    width, height = (float(v) for v in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    body = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL
    )
    body = body[body.index(">", body.index("<svg")) + 1 :].strip()
    style = (
        f"width:{width / _POINTS:.3f}em;height:{height / _POINTS:.3f}em;"
        f"vertical-align:{-depth / _POINTS:.3f}em;fill:currentColor"
    )
    picture = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(tex)}" '
        f'style="{style}">{body}'
    )
    return f'<span style="display:block;overflow-x:auto">{picture}</span>' if display else picture
