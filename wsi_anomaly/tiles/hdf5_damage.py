"""Look for damage that HDF5's own library does not survive, and for claims of more than there is.

Texts of a file (names, configurations) lie in its global heaps. Where such a heap says that the
free space in it has no size, the library reads the same place for ever, and neither a signal of
Python's nor a thread can end that.
"""

from __future__ import annotations

import struct
from pathlib import Path

import h5py

_HEAP = b"GCOL\x01\0\0\0"  # signature, version, reserved
_HEADER = struct.Struct("<HHIQ")  # number of an object, references, reserved, size
_LOOKED_AT = 1 << 20  # what belongs to the root lies at the beginning


def check_hdf5(path: Path) -> None:
    """Refuse a file that HDF5's library would never come back from.

    Raises
    ------
    ValueError
        The free space in a heap has no size.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_LOOKED_AT)
    start = data.find(_HEAP)
    while start >= 0:
        _check(data, start)
        start = data.find(_HEAP, start + 1)


def own_dataset(file: h5py.File, name: str, size: int) -> h5py.Dataset:
    """Take a dataset that lies in this very file and has at most `size` bytes.

    HDF5 can claim more than there is, and it can point to other files.

    Raises
    ------
    ValueError
        It does not.
    """
    for part in [name.rpartition("/")[0], name]:
        if part and not isinstance(file.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{part} is missing, or lies in another file")
    dataset = file[name]
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} lies in another file")
    if dataset.nbytes > size:
        raise ValueError(f"{name} claims more than the file holds")
    return dataset


def _check(data: bytes, start: int) -> None:
    place = start + 16
    (size,) = struct.unpack("<Q", data[start + 8 : place].ljust(8, b"\0"))
    end = min(start + size, len(data))
    while place + _HEADER.size <= end:
        number, _, _, length = _HEADER.unpack_from(data, place)
        if number:
            place += _HEADER.size + -(-length // 8) * 8
        elif length < _HEADER.size:
            raise ValueError("a heap of its texts is broken")
        else:
            place += length
