"""A lab's own normal slides become the reference of a model that is trained already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_anomaly.core.devices import choose_device, memory_explained
from wsi_anomaly.core.errors import EmbeddingsError, ModelError, UsageError
from wsi_anomaly.core.resources import find_model, own_folder
from wsi_anomaly.detectors import Model
from wsi_anomaly.detectors.frozen import refuse_frozen
from wsi_anomaly.embeddings import find_embeddings
from wsi_anomaly.options import CalibrateOptions, CheckOptions
from wsi_anomaly.scoring.embedded import check_kind
from wsi_anomaly.tiles.named import Cases, cases_of, named_slides
from wsi_anomaly.training.card import keep_card
from wsi_anomaly.training.normals import NormalSlide
from wsi_anomaly.training.run import Watch, calibrate
from wsi_anomaly.training.self_check import PICTURE, check_files


@dataclass(frozen=True)
class Recalibrated:
    """What came of it: the model, its folder, and how many of the slides could be used."""

    model: Model
    folder: Path
    used: int
    slides: int


def recalibrate_on(
    normals: Sequence[str | Path],
    model: str | Path | None,
    output: str | Path | None,
    options: CalibrateOptions,
    *,
    watch: Watch | None = None,
) -> Recalibrated:
    """Find the slides and the model, and calibrate it.

    Parameters
    ----------
    normals
        Normal slides, folders of them, or a manifest.
    model
        Its folder; None: ``model/``, else the shipped one.
    output
        Where the calibrated model goes; None: the model's own folder, ``model/`` for a shipped one.
    options, watch
        What is known of the slides and where to compute, and who is told what.

    Raises
    ------
    WsiAnomalyError
        The model cannot be read, or none of the slides can be used.
    """
    watch = watch or Watch()
    folder = find_model(model)
    target = own_folder(folder) if output is None else Path(output)
    refuse_frozen(target)
    slides = normal_slides(normals, options, watch)
    device = choose_device(options.device)
    with memory_explained(device, "end other programs that use it, or give --device cpu"):
        calibrated, used = recalibrate(folder, slides, target, device=device, watch=watch)
    return Recalibrated(calibrated, target, used, len(slides))


def normal_slides(
    paths: Sequence[str | Path], options: CheckOptions, watch: Watch
) -> list[NormalSlide]:
    """Find slides, whose they are, the sizes of their pixels, and their embeddings if any.

    Where embeddings are given, those of the slides that are named, else all in the folder.

    Raises
    ------
    UsageError
        A path, a manifest or a table cannot be used.
    """
    own = options if isinstance(options, CalibrateOptions) else None
    cases = None if own is None else own.cases
    if options.embeddings is not None and not paths:
        return _without_slides(options.embeddings, options.mpp, cases, watch)
    if not paths:
        raise UsageError("Give slides, folders of them or a manifest, or --embeddings FOLDER.")
    named = named_slides(
        paths,
        watch.note,
        mpp_csv=options.mpp_csv,
        cases=cases,
        normal_only=own is not None,
    )
    stems = Counter(path.stem for path in named.slides)
    slides = [
        NormalSlide(
            path,
            # Slides of one name in several folders are cases of their own too.
            named.cases.get(path, path.stem if stems[path.stem] == 1 else str(path)),
            named.sizes.get(path, options.mpp),
            scene=options.scene,
            tissue_mask=named.masks.get(path),
        )
        for path in named.slides
    ]
    return slides if options.embeddings is None else _embedded(slides, options.embeddings)


def _without_slides(
    folder: str | Path, mpp: float | None, cases: Cases, watch: Watch
) -> list[NormalSlide]:
    listed = find_embeddings(folder)
    several = {files[0].path: listed.of_two(name) for name, files in listed.doubled.items()}
    files = [*listed.files.values(), *(files[0] for files in listed.doubled.values())]
    case_of = cases_of([file.path for file in files], cases, watch.note)
    return [
        NormalSlide(
            file.path, case_of.get(file.path, file.name), mpp, embeddings=file, pixels=False,
            problem=several.get(file.path, ""),
        )
        for file in files
    ]  # fmt: skip


def _embedded(slides: Sequence[NormalSlide], folder: str | Path) -> list[NormalSlide]:
    """Give slides their embeddings, by name."""
    found = find_embeddings(folder).of_each([slide.path for slide in slides])
    return [
        replace(slide, problem=str(file))
        if isinstance(file, EmbeddingsError)
        else replace(slide, embeddings=file)
        for slide, file in zip(slides, found, strict=True)
    ]


def recalibrate(
    folder: str | Path,
    slides: Sequence[NormalSlide],
    output: str | Path,
    *,
    device: str = "cpu",
    watch: Watch | None = None,
) -> tuple[Model, int]:
    """Give a model another normal reference, without training it.

    Parameters
    ----------
    folder
        The model.
    slides
        Normal slides; they take the place of the former reference.
    output
        Where the calibrated model goes; may be `folder`.
    device, watch
        As in :func:`train`.

    Returns
    -------
    The calibrated model, and how many slides could be used.

    Raises
    ------
    ModelError
        The model cannot be read, or no slide can be used (the model is then as it was).
    """
    model = Model.load(folder, device=device)
    check_kind(model, given=any(slide.embeddings or slide.problem for slide in slides))
    calibration, seen = calibrate(model, slides, watch=watch)
    if not calibration:
        raise ModelError("None of the slides could be used; the model is as it was.")
    learned = {mark: part for mark, part in model.seen.items() if part != "calibration"}
    calibrated = model.with_calibration(calibration, {**learned, **seen})
    card, files = keep_card(Path(folder), calibrated)
    files.pop(PICTURE, None)  # of the former reference
    files |= check_files(calibrated, slides)
    used = max(reference.n_slides for reference in calibration.values())
    return calibrated.save(output, card=card, files=files), used
