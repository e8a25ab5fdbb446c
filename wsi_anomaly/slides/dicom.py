"""DICOM slides: one slide is a series of files, one for each level and for label and macro."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_anomaly.core.remote import is_remote

_MAGIC, _MAGIC_AT = b"DICM", 128
_TAGS = (
    "ImageType", "SOPInstanceUID", "SeriesInstanceUID", "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
)  # fmt: skip
_LAST_TAG = 0x00480007  # TotalPixelMatrixRows; pixels and the places of tiles come after it
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_DEFLATED = "1.2.840.10008.1.2.1.99"  # no slide is, and it could inflate to anything


@dataclass(frozen=True)
class DicomFile:
    """What a file says of its slide.

    Attributes
    ----------
    series
        Identity of the slide: equal for all of its files.
    volume_px
        Pixels of the whole picture; 0 for label, macro and thumbnail.
    instance
        Identity of the file: equal for its copies alone.
    """

    series: str
    volume_px: int
    instance: str

    @property
    def fingerprint(self) -> str:
        """Identity of the slide, 16 hexadecimal digits."""
        return hashlib.sha256(f"dicom {self.series}".encode()).hexdigest()[:16]


def read_dicom(path: Path) -> DicomFile | None:
    """Read the head of a DICOM file; None for any other file, and for one that is damaged.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    if is_remote(path):
        return None
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that DICOM does not allow
        file.seek(_MAGIC_AT)
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
        from pydicom.filereader import read_file_meta_info, read_partial
        from pydicom.tag import Tag

        try:
            if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
                return None
            file.seek(0)
            head: Any = read_partial(
                file,
                lambda tag, _vr, _length: tag > _LAST_TAG,
                specific_tags=[Tag(name) for name in _TAGS],
            )
            series = str(head.SeriesInstanceUID)
            volume = "VOLUME" in head.get("ImageType", ())
            sides = (head.get("TotalPixelMatrixColumns", 0), head.get("TotalPixelMatrixRows", 0))
            size = int(sides[0] or 0) * int(sides[1] or 0) if volume else 0
            return DicomFile(series, size, str(head.get("SOPInstanceUID", path)))
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - a damaged head fails in many ways
            return None


def is_dicom_slide(path: Path) -> bool:
    """Whether a file is one of a whole slide in DICOM, whatever its name."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.seek(_MAGIC_AT)
            if file.read(len(_MAGIC)) != _MAGIC:
                return False
            from pydicom.filereader import read_file_meta_info

            return bool(read_file_meta_info(path).get("MediaStorageSOPClassUID") == _WHOLE_SLIDE)
    except Exception:  # noqa: BLE001 - a damaged head fails in many ways
        return False


def parts_of_slides(files: Iterable[Path]) -> dict[Path, Path]:
    """Find files that are parts of another file's slide.

    Of a series the file of its finest level stands for the slide. A copy of a series in another
    folder is a slide of its own; files of a series that were put into several folders are not.

    Returns
    -------
    Each such file, and the file that stands for its slide.
    """
    series: defaultdict[str, defaultdict[Path, list[tuple[int, Path, str]]]]
    series = defaultdict(lambda: defaultdict(list))
    for path in files:
        try:
            found = read_dicom(path)
        except OSError:
            continue  # opening it will say what is wrong
        if found is not None:
            folder = path.parent.resolve()
            series[found.series][folder].append((-found.volume_px, path, found.instance))
    parts: dict[Path, Path] = {}
    for folders in series.values():
        known: list[tuple[Path, set[str]]] = []  # slides of the series, and what they hold
        for members in sorted(map(sorted, folders.values())):
            instances = {instance for _, _, instance in members}
            whole = next((path for path, held in known if not instances & held), members[0][1])
            if whole == members[0][1]:
                known.append((whole, instances))
            parts |= {path: whole for _, path, _ in members if path != whole}
    return parts
