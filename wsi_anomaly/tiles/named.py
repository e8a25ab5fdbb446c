"""What tables say of slides: their pixel sizes, cases and tissue masks, for every verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.slide_names import OWN_CASE, Entry, match, read_cases, read_pixel_sizes
from wsi_anomaly.slides import Listing, list_slides
from wsi_anomaly.slides.manifest import Manifest, is_manifest, read_manifest

Note = Callable[[str], None]
Cases = str | Path | Mapping[str, str] | None


_NO_SLIDES = Listing((), ())


@dataclass(frozen=True)
class NamedSlides:
    """Slides as a user gives them, with what the tables beside them say.

    Attributes
    ----------
    listing
        The slides, and what else lies where they were looked for.
    sizes, cases, masks
        Micrometres per pixel, patient or animal, and file of the tissue, of those that have one.
    """

    listing: Listing = _NO_SLIDES
    sizes: Mapping[Path, float] = field(default_factory=dict)
    cases: Mapping[Path, str] = field(default_factory=dict)
    masks: Mapping[Path, Path] = field(default_factory=dict)

    @property
    def slides(self) -> tuple[Path, ...]:
        """The slides alone."""
        return self.listing.slides


def named_slides(
    paths: Sequence[str | Path],
    note: Note,
    *,
    mpp_csv: str | Path | None = None,
    cases: Cases = None,
    tissue_mask: str | Path | None = None,
    normal_only: bool = False,
) -> NamedSlides:
    """Find slides and what is known of each, from manifests among the paths or single tables.

    Parameters
    ----------
    paths
        Slides, folders of them, or manifests (:mod:`~wsi_anomaly.slides.manifest`).
    note
        Told what the user should read.
    mpp_csv, cases, tissue_mask
        Tables and files that the options name.
    normal_only
        Leave out what a manifest calls abnormal.

    Raises
    ------
    UsageError
        A path or table cannot be used, or a manifest and an option say the same thing twice.
    """
    listing = list_slides(paths)
    manifests = [read_manifest(Path(path)) for path in paths if is_manifest(Path(path))]
    sizes: dict[Path, float] = {}
    case_of: dict[Path, str] = {}
    masks: dict[Path, Path] = {}
    for manifest in manifests:
        _see_that_nothing_is_said_twice(
            manifest, {"mpp": mpp_csv, "case": cases, "mask": tissue_mask}
        )
        for column in manifest.unused_columns():
            note(f"{manifest.path} has a column {column}, of which nothing is made.")
        sizes |= manifest.sizes()
        case_of |= manifest.texts("case")
        masks |= manifest.masks()
        if normal_only:
            listing = _without_abnormal(listing, manifest, note)
    return NamedSlides(
        listing,
        sizes | sizes_of(listing.slides, mpp_csv, note),
        case_of | cases_of(listing.slides, cases, note),
        masks,
    )


_OPTION_OF = {"mpp": "--mpp-csv", "case": "--cases", "mask": "--tissue-mask"}


def _see_that_nothing_is_said_twice(manifest: Manifest, given: Mapping[str, object]) -> None:
    for column, value in given.items():
        if value is not None and manifest.has(column):
            raise UsageError(
                f"{manifest.path} has a column {column}, so leave {_OPTION_OF[column]} away, or "
                "take the column out."
            )


def _without_abnormal(listing: Listing, manifest: Manifest, note: Note) -> Listing:
    abnormal = manifest.abnormal()
    if not abnormal:
        return listing
    kept = tuple(slide for slide in listing.slides if slide not in abnormal)
    if not kept:
        raise UsageError(f"{manifest.path} calls all of its slides abnormal; give normal ones.")
    count = len(abnormal)
    note(
        f"{count} slide{'s are' if count > 1 else ' is'} left out, which {manifest.path} calls "
        "abnormal: normal tissue is learned here."
    )
    return replace(listing, slides=kept)


def sizes_of(slides: Sequence[Path], mpp_csv: str | Path | None, note: Note) -> dict[Path, float]:
    """Micrometres per pixel of those slides that a table names; `note` is told what misses.

    Raises
    ------
    UsageError
        The table cannot be read, or does not fit the slides.
    """
    if mpp_csv is None:
        return {}
    matched = read_pixel_sizes(Path(mpp_csv), slides)
    for sentence in matched.mismatches("--mpp-csv", [slide.name for slide in slides]):
        note(sentence)
    return matched.by(slides)


def cases_of(slides: Sequence[Path], cases: Cases, note: Note) -> dict[Path, str]:
    """Patient or animal of those slides that a table names; `note` is told what misses.

    Raises
    ------
    UsageError
        The table cannot be read, or does not fit the slides.
    """
    if cases is None:
        return {}
    matched = (
        match("cases", [Entry(name, case) for name, case in cases.items()], slides)
        if isinstance(cases, Mapping)
        else read_cases(Path(cases), slides)
    )
    for sentence in matched.mismatches("--cases", [slide.name for slide in slides], OWN_CASE):
        note(sentence)
    return matched.by(slides)
