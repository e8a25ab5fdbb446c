"""Cells of tables that people open in spreadsheets."""

from __future__ import annotations

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: Any) -> Any:
    """Guard a text cell against being run as a formula by a spreadsheet."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def plain_cell(text: str) -> str:
    """Take the guard of :func:`safe_cell` away."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
