"""``learn``: what readers decided becomes known findings beside a model's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_anomaly.core.devices import choose_device
from wsi_anomaly.core.errors import EmbeddingsError, UsageError, WsiAnomalyError
from wsi_anomaly.detectors import Model
from wsi_anomaly.detectors.frozen import refuse_frozen
from wsi_anomaly.detectors.known import MOST_FIELDS, Finding, Known
from wsi_anomaly.embeddings import EmbeddingsFile, Found, find_embeddings
from wsi_anomaly.options import LearnOptions
from wsi_anomaly.results.overlaps import Area
from wsi_anomaly.results.reading import read_score_map
from wsi_anomaly.results.reviewed_outlines import agreed
from wsi_anomaly.results.reviews import HARMLESS, Review, read_reviews
from wsi_anomaly.results.slide_files import SlideFiles
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.scoring.embedded import judge, opened_for
from wsi_anomaly.scoring.in_file import InFile
from wsi_anomaly.scoring.known import field_likeness
from wsi_anomaly.scoring.model import grid_of
from wsi_anomaly.slides import Slide, TissueMap, find_tissue, open_slide
from wsi_anomaly.tiles import Fields, Preprocessing, plan_fields
from wsi_anomaly.tiles.named import cases_of
from wsi_anomaly.tiles.plane import SlidePlane
from wsi_anomaly.training.card import keep_card, known_card
from wsi_anomaly.training.normals import MIN_TISSUE
from wsi_anomaly.training.run import Watch

REVIEWED = "review"
"""How a model has seen the slides that it has learned findings from."""


@dataclass(frozen=True)
class HeldOut:
    """What becomes of reviewed regions when their case is left out.

    Attributes
    ----------
    harmless, abnormal
        How many would be taken away, of how many.
    """

    harmless: tuple[int, int]
    abnormal: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Learned:
    """What came of it: the model, its folder, and what it does on cases left out."""

    model: Model
    folder: Path
    known: Known
    held_out: HeldOut


@dataclass(frozen=True, eq=False)
class _Region:
    """A reviewed region: who decided what, of which case, and its fields (n, d)."""

    review: Review
    case: str
    vectors: NDArray[np.float32]

    @property
    def harmless(self) -> bool:
        return self.review.verdict in HARMLESS


@dataclass(frozen=True, eq=False)
class _Slide:
    """A slide with reviews that can be learned from."""

    path: Path
    case: str
    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    reviews: Sequence[Review]
    result: Path
    embeddings: EmbeddingsFile | None


def learn_reviews(
    results: str | Path,
    model: str | Path,
    output: str | Path,
    options: LearnOptions,
    *,
    watch: Watch | None = None,
) -> Learned:
    """Learn findings from reviews; the model's reference, and its flags elsewhere, stay.

    Parameters
    ----------
    results
        Folder of results with reviews.
    model
        Folder of the model; it stays as it is.
    output
        Where the model that knows the findings goes.
    options, watch
        Whose slides they are and where they lie, and who is told what.

    Raises
    ------
    WsiAnomalyError
        The model cannot be used for it, or there is nothing to learn from.
    """
    watch = watch or Watch()
    results, output = Path(results), Path(output)
    if not results.is_dir():
        raise UsageError(f"{results} is no folder of results; give what 'score' has written.")
    if output.resolve() == Path(model).resolve():
        raise UsageError("The model stays as it is; give another folder with -o.")
    refuse_frozen(output)
    loaded = Model.load(model, device=choose_device(options.device))
    watch.stage(f"findings by {', '.join(f'{um} um' for um in loaded.judge_of_fields.fields_um)}")
    regions: list[_Region] = []
    seen: dict[str, str] = {}
    for slide in _reviewed_slides(results, loaded, options, watch):
        found = _regions_of(slide, loaded, watch)
        regions += found
        if found:
            seen[str(slide.facts["fingerprint"])] = REVIEWED
    if not regions:
        raise UsageError(
            f"{results} has no reviews to learn from; call regions of slides that the model has "
            "not seen abnormal, normal variant or artefact (wsi-anomaly view --reader NAME)."
        )
    known = Known.of(_findings(regions), [_told(region) for region in regions])
    before = {mark: part for mark, part in loaded.seen.items() if part != REVIEWED}
    made = replace(loaded, known=known, seen=before | seen, hash="")
    card, files = keep_card(Path(model), made)
    saved = made.save(output, card=known_card(card, known), files=files)
    return Learned(saved, output, known, held_out(regions))


def _reviewed_slides(
    results: Path, model: Model, options: LearnOptions, watch: Watch
) -> list[_Slide]:
    files = SlideFiles(None if options.slides is None else Path(options.slides))
    embedded = _Embedded(
        None if options.embeddings is None else find_embeddings(options.embeddings)
    )
    of_file: dict[Path, EmbeddingsFile | None] = {}
    found: dict[Path, tuple[Mapping[str, Any], Sequence[Review], Path]] = {}
    for folder in sorted(p for p in results.iterdir() if p.is_dir() and p.name[0] != "."):
        summary = read_summary(folder)
        if summary is None:
            continue
        facts = summary["slide"]
        reviews = read_reviews(results, str(facts["fingerprint"]))
        for problem in reviews.problems:
            watch.note(problem)
        decided = agreed(reviews, watch.note)
        before = model.seen.get(str(facts["fingerprint"]))
        if not decided:
            continue
        if before not in (None, REVIEWED):
            watch.note(f"{facts['name']} is left out: the model has seen it ({before}).")
            continue
        try:
            file = embedded.find(summary)
            path = files.find(facts) if file is None else file.path
            found[path], of_file[path] = (summary, decided, folder), file
        except (EmbeddingsError, UsageError) as error:
            watch.note(str(error))
    cases = cases_of(list(found), options.cases, watch.note)
    reference = model.calibration.get(model.primary)
    apart = set() if reference is None else {slide.case for slide in reference.slides}
    out = []
    for path, (about, made, folder) in found.items():
        case = cases.get(path, path.stem)
        if case in apart:
            watch.note(f"{path} is left out: its case, {case}, calibrates the model.")
        else:
            about_it = about["slide"], about["settings"], made, folder, of_file[path]
            out.append(_Slide(path, case, *about_it))
    return out


@dataclass(frozen=True)
class _Embedded:
    """Embeddings of slides that were scored from them."""

    listed: Found | None

    def find(self, summary: Mapping[str, Any]) -> EmbeddingsFile | None:
        """Those that a result is of; None: it is of pixels."""
        mark, name = summary["settings"].get("embeddings"), summary["slide"]["name"]
        if mark is None:
            return None
        if self.listed is None:
            raise UsageError(
                f"{name} is left out: it was scored from embeddings; give them with --embeddings "
                "FOLDER."
            )
        for files in ([f] for f in self.listed.files.values()), self.listed.doubled.values():
            for file in (file for some in files for file in some):
                if file.fingerprint == mark:
                    return file
        raise UsageError(
            f"{name} is left out: none of the embeddings is what it was scored from; give their "
            "folder with --embeddings."
        )


def _regions_of(slide: _Slide, model: Model, watch: Watch) -> list[_Region]:
    """Embed the fields of a slide's reviewed regions, in one pass over them."""
    try:
        inside, vectors = (_by_pixels if slide.embeddings is None else _by_file)(slide, model)
    except (WsiAnomalyError, OSError) as error:
        watch.note(f"{slide.path} is left out: {error}")
        return []
    out = []
    for review, members in zip(slide.reviews, inside, strict=True):
        mine = vectors[members]
        mine = mine[np.isfinite(mine).all(1)]
        if len(mine):
            out.append(_Region(review, slide.case, mine))
    return out


_Vectors = tuple[list[NDArray[np.intp]], NDArray[np.float32]]


def _by_file(slide: _Slide, model: Model) -> _Vectors:
    """Fields of each review, and directions (N, d) of all, from the embeddings of a slide."""
    assert slide.embeddings is not None
    mpp = float(slide.facts["mpp"][0])
    with opened_for(slide.embeddings, None, model, mpp) as (found, size):
        judged = judge(found, model, size)
        kept = judged.gridded.highest(judged.scores[model.primary])
        fields = judged.gridded.fields.take(kept)
        inside, wanted = _reviewed(fields, slide)
        return inside, InFile(found, kept, model, None, fields).directions(wanted)


def _by_pixels(slide: _Slide, model: Model) -> _Vectors:
    """Fields of each review, and directions (N, d) of all, from the pixels of a slide."""
    mpp, scene = slide.settings.get("mpp"), slide.settings.get("scene")
    with open_slide(slide.path, mpp=mpp, scene=scene) as opened:
        tissue = _tissue(opened, slide)
        fields = plan_fields(
            opened, tissue, **grid_of(model, None), min_tissue=MIN_TISSUE, max_tiles=None
        )
        preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(opened, tissue)
        plane = SlidePlane(opened, tissue, model.magnification, preprocess)
        inside, wanted = _reviewed(fields, slide)
        return inside, field_likeness(plane, fields, model, wanted)


def _reviewed(fields: Fields, slide: _Slide) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
    """Fields of each review, and which of the N are in any."""
    inside = [_fields_in(fields, review.outline) for review in slide.reviews]
    wanted = np.zeros(len(fields), bool)
    wanted[np.concatenate(inside)] = True
    return inside, wanted


def _tissue(opened: Slide, slide: _Slide) -> TissueMap:
    """Find the tissue, or take it as the mask gave it that the reader saw the result of."""
    if not slide.settings.get("tissue_mask"):
        return find_tissue(opened)
    given = read_score_map(slide.result, None).tissue
    return TissueMap.from_polygons(opened, list(given.geoms))


def _fields_in(fields: Fields, outline: Area) -> NDArray[np.intp]:
    """Fields whose middle lies in an outline, evenly drawn where they are many."""
    middle = fields.coords + np.asarray(fields.field_level0) / 2
    shapely.prepare(outline)
    inside = np.flatnonzero(shapely.contains_xy(outline, middle[:, 0], middle[:, 1]))
    if len(inside) > MOST_FIELDS:
        inside = inside[np.linspace(0, len(inside) - 1, MOST_FIELDS).round().astype(int)]
    return inside


def name_of(review: Review) -> str:
    """Name the class of a review: its finding, whatever its capitals, or its verdict."""
    return " ".join(review.finding.casefold().split()) or review.verdict


def _findings(regions: Sequence[_Region]) -> list[Finding]:
    classes: dict[tuple[str, bool], list[_Region]] = {}
    for region in regions:
        classes.setdefault((name_of(region.review), region.harmless), []).append(region)
    return [
        Finding(
            name,
            harmless,
            np.concatenate([member.vectors for member in members]),
            np.repeat(np.arange(len(members)), [len(member.vectors) for member in members]),
            tuple(member.case for member in members),
        )
        for (name, harmless), members in sorted(classes.items(), key=lambda item: item[0])
    ]


def _told(region: _Region) -> dict[str, str]:
    review = region.review
    return {
        "slide": review.slide, "case": region.case, "reader": review.reader, "time": review.time,
        "verdict": review.verdict, "finding": review.finding, "id": review.id,
    }  # fmt: skip


def held_out(regions: Sequence[_Region]) -> HeldOut:
    """Count what findings learned from the other cases take away of each case's regions."""
    counts = {True: [0, 0], False: [0, 0]}
    for case in sorted({region.case for region in regions}):
        learned = Known.of(_findings([r for r in regions if r.case != case]))
        for region in (r for r in regions if r.case == case):
            like = learned.like(region.vectors)
            counts[region.harmless][0] += like is not None and like.taken_away
            counts[region.harmless][1] += 1
    return HeldOut((counts[True][0], counts[True][1]), (counts[False][0], counts[False][1]))
