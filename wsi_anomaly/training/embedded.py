"""From embeddings that another program has made to a model folder."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_anomaly import __version__
from wsi_anomaly.core.devices import choose_device
from wsi_anomaly.core.errors import EmbeddingsError, UsageError, WsiAnomalyError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.detectors import Density, Model
from wsi_anomaly.detectors.coreset import coreset_loss
from wsi_anomaly.detectors.examples import Examples
from wsi_anomaly.detectors.frozen import refuse_frozen
from wsi_anomaly.embeddings import Embeddings, EmbeddingsFile, find_embeddings
from wsi_anomaly.features.external import EXTERNAL, UNKNOWN, external_network
from wsi_anomaly.options import TrainOptions
from wsi_anomaly.scoring.embedded import field_um
from wsi_anomaly.scoring.in_file import picture_round
from wsi_anomaly.slides import Mpp, Slide, find_slides, open_slide
from wsi_anomaly.tiles import Preprocessing
from wsi_anomaly.tiles.named import cases_of
from wsi_anomaly.training.card import model_card
from wsi_anomaly.training.config import TrainConfig, chosen_config
from wsi_anomaly.training.examples import Origin, chosen_examples
from wsi_anomaly.training.normals import NormalSlide
from wsi_anomaly.training.run import Watch, calibrate
from wsi_anomaly.training.splits import Split, split_cases

_SIZE_TOLERANCE = 1.1
_WINDOW = 64  # fields side by side in a file are read in one go


@dataclass(frozen=True)
class NormalEmbeddings:
    """Embeddings of a normal slide that can be learned from."""

    file: EmbeddingsFile
    slide: Path | None
    case: str
    count: int
    width: int
    encoder: str
    field_um: float
    step_um: float
    mpp: Mpp

    @property
    def normal(self) -> NormalSlide:
        """The slide, or its embeddings alone, to calibrate on."""
        path = self.slide or self.file.path
        return NormalSlide(path, self.case, embeddings=self.file, pixels=self.slide is not None)

    def open_on(self, stack: ExitStack, encoder: str | None) -> tuple[Embeddings, Slide | None]:
        """Open both, until the stack ends; see that they belong together."""
        found = stack.enter_context(self.file.open(encoder))
        slide = None if self.slide is None else stack.enter_context(open_slide(self.slide))
        if slide is not None:
            found.check_slide(slide)
        return found, slide


def train_on_embeddings(
    slides: str | Path | Sequence[str | Path],
    output: str | Path,
    config: str | TrainConfig,
    options: TrainOptions,
    *,
    watch: Watch | None = None,
) -> Model:
    """Train a model on embeddings of normal slides.

    Parameters
    ----------
    slides
        The slides, or folders of them, to check the embeddings against; may be empty, or "tiles",
        which ``train`` takes where nothing is named.
    output
        The model folder.
    config
        What of it ``density`` needs, or its name; its network is the one that made the embeddings.
    options
        ``embeddings``, ``cases``, and ``features`` where there are those of several encoders.
    watch
        Who is told what.

    Raises
    ------
    WsiAnomalyError
        There are no embeddings, they are of several encoders, or the output cannot be used.
    """
    watch = watch or Watch()
    output = Path(output)
    refuse_frozen(output)
    if options.detector not in (None, "density") or options.anomalies:
        raise UsageError("Embeddings are judged by density; leave --detector and --anomalies out.")
    named = [] if slides == "tiles" else [slides] if isinstance(slides, str | Path) else slides
    settings = chosen_config(config, replace(options, features=None))
    normals = _normals(named, options, watch)
    first = normals[0]
    counts: dict[str, int] = {}
    for one in normals:
        counts[one.case] = counts.get(one.case, 0) + one.count
    split = split_cases(counts, seed=settings.seed)
    if split.note:
        watch.note(split.note)
    um = round(first.field_um)
    settings = replace(
        settings, features=EXTERNAL + (first.encoder or UNKNOWN), detector="density", beside=(),
        density_layers=(), density_fields_um=(um,),
    )  # fmt: skip
    network = external_network(first.encoder)
    density = Density(network, settings.density(network.default_layer))
    # Nothing is stopped early here: cases that would only validate are learned from.
    learned = [one for one in normals if split.part(one.case) != "calibration"]
    watch.stage("reading embeddings")
    drawn = _drawn(learned, density.config.most_tiles, settings.seed, options.features, watch)
    watch.stage("fitting density")
    density.fit_fields({um: drawn.embeddings})
    magnification, side = _as_tile(first.step_um)
    model = Model(
        name=f"density-{first.encoder or UNKNOWN}-{um}um",
        magnification=magnification,
        tile_size=side,
        preprocessing=Preprocessing(stain="none").to_dict(),
        detectors={"density": density.to(choose_device(options.device))},
        primary="density",
        seen={mark: split.part(one.case) for one in normals for mark in one.normal.marks},
        provenance=_facts(settings, split, learned, drawn.embeddings, density),
        examples=_examples(density, drawn, learned, settings.seed),
    )
    apart = [one.normal for one in normals if split.part(one.case) == "calibration"]
    model = replace(model, calibration=calibrate(model, apart, watch=watch)[0])
    watch.stage("writing")
    return model.save(output, card=model_card(model, settings, split))


def _normals(
    slides: Sequence[str | Path], options: TrainOptions, watch: Watch
) -> list[NormalEmbeddings]:
    """Open every file once: what it is of, and whether all belong together."""
    assert options.embeddings is not None
    listed = find_embeddings(options.embeddings)
    for name in listed.doubled:
        watch.note(f"Left out: {listed.of_two(name)}")
    given = {path.stem: path for path in find_slides(slides)} if slides else {}
    files = list(listed.files.values())
    cases = cases_of([file.path for file in files], options.cases, watch.note)
    normals: list[NormalEmbeddings] = []
    marks: dict[str, Path] = {}
    for file in files:
        try:
            with ExitStack() as stack:
                one = NormalEmbeddings(
                    file, given.get(file.name), cases.get(file.path, file.name), 0, 0, "", 0, 0,
                    Mpp(1, 1, ""),
                )  # fmt: skip
                found, slide = one.open_on(stack, options.features)
                mpp = found.pixel_size(slide)
                one = replace(
                    one, count=len(found), width=found.width, encoder=found.encoder,
                    field_um=field_um(found, mpp), step_um=found.step_level0 * mpp.x, mpp=mpp,
                )  # fmt: skip
            copy = next((marks[mark] for mark in one.normal.marks if mark in marks), None)
        except (WsiAnomalyError, OSError) as error:
            watch.note(f"Left out: {error}")
            continue
        if copy is not None:
            watch.note(f"Left out: {file.path} is of the same slide as {copy}.")
            continue
        marks |= dict.fromkeys(one.normal.marks, file.path)
        normals.append(one)
    if not normals:
        raise EmbeddingsError(f"None of the embeddings in {options.embeddings} can be used.")
    _check_alike(normals)
    return normals


def _check_alike(normals: Sequence[NormalEmbeddings]) -> None:
    first = normals[0]
    for one in normals:
        said = [
            f"{n.file.path} holds {n.width} numbers of {n.encoder or 'an encoder without a name'} "
            f"for fields of {n.field_um:.4g} um"
            for n in (first, one)
        ]
        alike = (one.width, one.encoder) == (first.width, first.encoder)
        near = all(
            1 / _SIZE_TOLERANCE <= a / b <= _SIZE_TOLERANCE
            for a, b in ((one.field_um, first.field_um), (one.step_um, first.step_um))
        )
        if not (alike and near):
            raise EmbeddingsError(
                f"{said[0]}, {said[1]}: a model learns from one kind; give the folder of one "
                "encoder and one size of fields, or say which encoder with --features NAME."
            )


def _as_tile(step_um: float) -> tuple[int, int]:
    """Magnification and side in pixels that give a cell of this width."""
    for magnification in (20, 40, 10):
        side = step_um / mpp_of(magnification)
        if 8 <= side <= 1024 and abs(side - round(side)) < 1e-6:
            return magnification, round(side)
    return 10, min(max(round(step_um), 8), 1024)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Embeddings (N, D) to learn from; the slide's number (N,) and middle (N, 2) of each field."""

    embeddings: torch.Tensor
    numbers: NDArray[np.int64]
    middles: NDArray[np.float64]


def _drawn(
    learned: Sequence[NormalEmbeddings], most: int, seed: int, encoder: str | None, watch: Watch
) -> _Drawn:
    """At most about so many embeddings, the same number of every slide, in short windows."""
    parts: list[NDArray[np.float32]] = []
    numbers: list[NDArray[np.int64]] = []
    middles: list[NDArray[np.float64]] = []
    each = max(1, most // len(learned))
    for number, one in enumerate(learned):
        try:
            with one.file.open(encoder) as found:
                starts = np.arange(0, len(found), _WINDOW)
                if len(found) > each:
                    chosen = np.random.default_rng((seed, number)).permutation(starts)
                    starts = np.sort(chosen[: -(-each // _WINDOW)])
                windows = [slice(s, min(s + _WINDOW, len(found))) for s in starts.tolist()]
                parts.append(np.concatenate([found.read(window) for window in windows]))
                corners = np.concatenate([found.coords[window] for window in windows])
                middles.append(corners + found.field_level0 / 2)
                numbers.append(np.full(len(corners), number))
        except EmbeddingsError as error:
            watch.note(f"Not learned from: {error}")
        watch.slide(one.file.path, number + 1, len(learned))
    if not parts:
        raise EmbeddingsError("None of the embeddings to learn from can be read.")
    return _Drawn(
        torch.from_numpy(np.concatenate(parts)), np.concatenate(numbers), np.concatenate(middles)
    )


def _examples(
    density: Density, drawn: _Drawn, learned: Sequence[NormalEmbeddings], seed: int
) -> Examples | None:
    """Choose fields to show beside what is flagged, with pictures where the slide is at hand."""

    def pictures(number: int, chosen: NDArray[np.intp], side_um: int) -> list[bytes]:
        path = learned[number].slide
        if path is None:
            return [b""] * len(chosen)
        try:
            with open_slide(path) as slide:
                return [picture_round(slide, drawn.middles[i], side_um) for i in chosen.tolist()]
        except (WsiAnomalyError, OSError):  # it went meanwhile; nothing but pictures needs it now
            return [b""] * len(chosen)

    [um] = density.fields_um
    origins = [Origin(one.file.name, one.case, one.mpp) for one in learned]
    return chosen_examples(
        density, {um: drawn.embeddings}, drawn.numbers, drawn.middles, origins, pictures, seed
    )


def _facts(
    config: TrainConfig,
    split: Split,
    learned: Sequence[NormalEmbeddings],
    found: torch.Tensor,
    density: Density,
) -> dict[str, Any]:
    first, loss = learned[0], coreset_loss(density, found)
    return {
        "trained": dt.datetime.now(dt.UTC).date().isoformat(),
        "program": f"wsi-anomaly {__version__}",
        "features": config.features,
        "embeddings": f"{first.width} numbers for fields of {first.field_um:.4g} um",
        "training_cases": len(split.train) + len(split.validation),
        "training_tiles": len(found),
        "validation_cases": 0,
        "validation_tiles": 0,
        "calibration_cases": len(split.calibration),
        **({} if loss is None else {"neighbours": loss}),
        "configuration": config.to_dict(),
    }
