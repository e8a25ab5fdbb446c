"""Slides that are not on this machine: addresses such as s3://bucket/slide.svs, through fsspec."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Any, cast

from wsi_anomaly.core.errors import NotASlideError

# A scheme has two letters or more, so that C:/slides stays a drive. One slash is enough: a
# ``Path`` folds the two of s3:// into one.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")

_CONNECT = "WSI_ANOMALY_CONNECT"


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address that fsspec opens rather than a file of this machine."""
    text = _text(path)
    scheme = _SCHEME.match(text)
    return scheme is not None and scheme[1] != "file" and not Path(text).exists()


def url_of(path: str | os.PathLike[str]) -> str:
    """Give the address back that a ``Path`` was made of."""
    return _SCHEME.sub(r"\1://", _text(path), count=1)


def from_anywhere(path: Path) -> Path:
    """Return the path that leads there from any working folder; an address does already."""
    return path if is_remote(path) else path.absolute()


def check_may_connect(path: Path, named_by: Path) -> None:
    """Refuse to open an address that only a file names: it may be a stranger's.

    The environment variable WSI_ANOMALY_CONNECT holds the beginnings of addresses, set apart by
    spaces, to which connections are made all the same.

    Raises
    ------
    NotASlideError
        It is such an address.
    """
    if not is_remote(path):
        return
    url = url_of(path)
    allowed = os.environ.get(_CONNECT, "").split()
    # fsspec takes what follows "::" for a further address.
    if "::" not in url and any(url.startswith(f"{start.rstrip('/')}/") for start in allowed):
        return
    raise NotASlideError(
        f"{named_by} says that its slide is at {url}, to which no connection is made unasked; if "
        f"you know that place, set {_CONNECT} to the beginning of the address."
    )


def open_remote(path: str | os.PathLike[str], block_bytes: int = 1 << 16) -> IO[bytes]:
    """Open an address as a seekable file, of which `block_bytes` are fetched at once.

    Raises
    ------
    NotASlideError
        It cannot be reached.
    """
    system, inside = remote_place(path)
    try:
        return cast(IO[bytes], system.open(inside, "rb", block_size=block_bytes))
    except Exception as error:
        raise NotASlideError(
            f"{url_of(path)} cannot be reached ({reason_of(error)}); check the address and your "
            "access."
        ) from error


def reason_of(error: BaseException) -> str:
    """One line about an error of somebody else's."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def remote_place(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """File system (fsspec's) and the path inside it.

    Raises
    ------
    NotASlideError
        Nothing installed knows the scheme, or the place cannot be reached.
    """
    import fsspec

    url = url_of(path)
    try:
        system, inside = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise NotASlideError(
            f"{url} cannot be opened ({reason_of(error)}); pip install "
            '"wsi-anomaly[remote]", or copy the slide to this machine.'
        ) from error
    except ValueError as error:
        raise NotASlideError(
            f"{url} is no address that can be opened; give a file, or s3://, https:// and the like."
        ) from error
    return system, inside


def _text(path: str | os.PathLike[str]) -> str:
    return path.as_posix() if isinstance(path, Path) else os.fspath(path)
