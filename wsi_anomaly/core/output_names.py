"""Which output is whose: names of tile files and of results folders in a folder of them."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from wsi_anomaly.core.file_names import output_name, same_on_disk

_MARKED = re.compile(r"(.+?)-[0-9a-f]{8,}(-\d+)?")


@dataclass(frozen=True)
class MadeOf:
    """Of which slide an output is: of this content, at this path."""

    fingerprint: str
    path: str


def name_outputs(
    slides: Sequence[Path],
    there: Iterable[str],
    made_of: Callable[[str], MadeOf | None],
    fingerprint_of: Callable[[Path], str],
    *,
    digits: int,
    reserved: Collection[str] = (),
) -> dict[Path, str]:
    """Name the output of each slide.

    A slide keeps the output that was made of its path, for a file that has changed is no other
    slide, or else one that was made of its content. A new output bears the slide's name, with the
    fingerprint where two slides have that name, or another slide's output has it.

    Parameters
    ----------
    slides
        All of a run.
    there
        Names of the outputs that are there.
    made_of
        Of which slide such an output is; None: of none, it may be replaced.
    fingerprint_of
        Content of a slide; asked only where it matters.
    digits
        Of the fingerprint in a name.
    reserved
        Names that no output may have, as :func:`same_on_disk` writes them.

    Returns
    -------
    By slide; those of one name and one content share an output.
    """
    names = {slide: output_name(slide) for slide in slides}
    alike = Counter(map(same_on_disk, names.values()))
    outputs = _outputs(there, set(alike), made_of)
    given: dict[Path, str] = {}
    for slide, name in names.items():
        place, known = os.path.realpath(slide), outputs[same_on_disk(name)]
        own = {one: made for one, made in known.items() if made.path == place}
        if len(own) > 1:  # of before, when a file that had changed left the former one's behind
            mark = fingerprint_of(slide)
            own = {one: made for one, made in own.items() if made.fingerprint == mark} or own
        if own:
            given[slide] = next(iter(own))
    kept = {name: slide for slide, name in given.items()}
    for slide, name in names.items():
        if slide in given:
            continue
        key = same_on_disk(name)
        taken = outputs[key]
        if not taken and alike[key] == 1 and key not in reserved:
            given[slide] = name
            continue
        mark = fingerprint_of(slide)
        same = [
            one
            for one, made in taken.items()
            if made.fingerprint == mark and (one not in kept or fingerprint_of(kept[one]) == mark)
        ]
        given[slide] = same[0] if same else _free(f"{name}-{mark[:digits]}", taken)
    return given


def _outputs(
    there: Iterable[str], keys: set[str], made_of: Callable[[str], MadeOf | None]
) -> Mapping[str, dict[str, MadeOf]]:
    """Give outputs by their whole name, as some disks take it, and by that of their slide.

    Paths are where they lead to, once for each: to ask the disk again for each pair takes minutes
    where a thousand slides have one name.
    """
    found: dict[str, dict[str, MadeOf]] = defaultdict(dict)
    for name in sorted(there):
        marked = _MARKED.fullmatch(name)
        called = {same_on_disk(name), same_on_disk(marked[1] if marked else name)} & keys
        if called and (made := made_of(name)) is not None:
            whole, own = same_on_disk(name), same_on_disk(output_name(made.path))
            for key in called & {whole, own}:  # what looks like a mark may be a part of a name
                found[key][name] = replace(made, path=os.path.realpath(made.path))
    return found


def _free(name: str, taken: Iterable[str]) -> str:
    """Give a name of its own where a slide that has changed since has this one."""
    there = set(map(same_on_disk, taken))
    names = (name if n == 1 else f"{name}-{n}" for n in count(1))
    return next(one for one in names if same_on_disk(one) not in there)
