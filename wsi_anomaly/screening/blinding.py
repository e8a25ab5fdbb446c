"""Blinded reading: slides under codes, and the key apart from the pages.

The codes come from the content of the slides and a secret of the results folder, so that running
the same command again gives the same ones, and another folder gives others. A folder that holds
such a secret shows no slide by its name.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from wsi_anomaly.core.errors import OutputError, UsageError
from wsi_anomaly.core.files import atomic_file, output_errors
from wsi_anomaly.reports.worklist import COHORT_PAGE
from wsi_anomaly.results.slide_files import PRIVATE, is_blinded
from wsi_anomaly.slides import slide_fingerprint

KEY = "unblinding.csv"

# Without vowels, which make words, and without signs that look alike.
_ALPHABET = "BCDFGHJKMNPQRSTVWXYZ23456789"
_LETTERS = 5


def private_folder(results: Path) -> Path:
    """Make the folder for what nobody opens."""
    folder = results / PRIVATE
    with output_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def check_names_may_be_shown(results: Path) -> None:
    """Keep plain results out of a blinded reading: they would show its slides by name.

    Raises
    ------
    UsageError
        The folder holds a blinded reading that has not been unblinded.
    """
    if is_blinded(results) and not (results / COHORT_PAGE).exists():
        raise UsageError(
            f"{results} holds a blinded study, which a result under a slide's name would break; "
            "choose another folder with -o."
        )


def start_blinding(results: Path) -> None:
    """Make a results folder one that shows slides by codes.

    Raises
    ------
    UsageError
        It shows slides by name already, or has been unblinded.
    """
    if (results / COHORT_PAGE).exists():
        raise UsageError(
            f"{results} shows the groups in {COHORT_PAGE}; choose another folder with -o for a "
            "blinded reading."
        )
    if is_blinded(results):
        return
    if results.is_dir() and any(p.name != PRIVATE for p in results.iterdir()):
        raise UsageError(
            f"{results} is not empty and may show slides by name; choose another folder with -o "
            "for a blinded reading."
        )
    path = private_folder(results) / "secret"
    with atomic_file(path) as partial:
        write_private(partial, secrets.token_hex(16))


def read_secret(results: Path) -> bytes:
    """Secret of a blinded results folder.

    Raises
    ------
    OutputError
        It cannot be read.
    """
    path = results / PRIVATE / "secret"
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read ({error.strerror}); run the command as the user who began the "
            "blinded reading, or choose another folder with -o."
        ) from error


def secret_order(secret: bytes, text: str) -> str:
    """Sort by this to put names in an order that says nothing of them."""
    return hmac.new(secret, text.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def codes(secret: bytes, slides: Sequence[Path]) -> dict[Path, str]:
    """Give each slide a code, such as S-7KQ4F."""
    out: dict[Path, str] = {}
    used: set[str] = set()
    for path in sorted(slides):
        try:
            identity = slide_fingerprint(path)
        except OSError:  # scoring it will say what is wrong
            identity = str(path)
        attempt = 0
        while (code := _code(secret, f"{identity}/{attempt}")) in used:
            attempt += 1
        used.add(code)
        out[path] = code
    return out


def _code(secret: bytes, text: str) -> str:
    number = int(secret_order(secret, text), 16)
    letters = []
    for _ in range(_LETTERS):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "S-" + "".join(letters)


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
