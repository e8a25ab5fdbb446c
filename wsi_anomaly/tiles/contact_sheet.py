"""A contact sheet of a tile file: what normalisation did, and a field at each magnification."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.core.remote import check_may_connect
from wsi_anomaly.core.wording import counted
from wsi_anomaly.slides import Slide, open_slide, read_squares
from wsi_anomaly.tiles.fields import Status
from wsi_anomaly.tiles.picture import INK, STATUS_COLOURS, font
from wsi_anomaly.tiles.store import TileStore

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_CELL, _GAP, _MARGIN = 256, 8, 28
_BLOCKS, _ROWS = 2, 6
_UNUSABLE = 8
_HEADER, _CAPTION = 100, 34

Pixels = NDArray[np.uint8]


def contact_sheet(store: TileStore) -> tuple[Image.Image, str]:
    """Draw the sheet.

    Parameters
    ----------
    store
        An open tile file.

    Returns
    -------
    sheet
        A dozen fields, drawn at random but always the same ones: before normalisation (read from
        the slide), after it, and at the coarser magnifications; then some that are not usable,
        with the reason.
    note
        Why the column "before" is missing; "" when it is there.
    """
    from PIL import Image, ImageDraw

    good = np.flatnonzero(store.status == Status.OK)
    bad = np.flatnonzero(store.status != Status.OK)
    rng = np.random.default_rng(0)
    shown = np.sort(rng.choice(good, min(len(good), _BLOCKS * _ROWS), replace=False))
    unusable = np.sort(rng.choice(bad, min(len(bad), _UNUSABLE), replace=False))
    before, note = _before(store, shown)

    powers = store.magnifications[::-1]
    titles = ([f"before, {powers[0]}x"] if before is not None else []) + [
        f"{'after, ' if i == 0 and store.stain else ''}{power}x" for i, power in enumerate(powers)
    ]
    block = len(titles) * (_CELL + _GAP)
    blocks = min(_BLOCKS, max(1, -(-len(shown) // _ROWS)))
    rows = -(-len(shown) // blocks) if len(shown) else 0
    widest = max(blocks * (block + _MARGIN) - _MARGIN, len(unusable) * (_CELL + _GAP)) - _GAP
    width = max(widest + 2 * _MARGIN, 1200)
    height = _HEADER + (_CAPTION + rows * (_CELL + _GAP) if rows else 0) + _MARGIN
    below = height
    if len(unusable):
        height += _CAPTION + _CELL + _CAPTION + _MARGIN
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    _header(draw, store)
    for k, index in enumerate(shown.tolist()):
        column, row = divmod(k, rows)
        left = _MARGIN + column * (block + _MARGIN)
        top = _HEADER + _CAPTION + row * (_CELL + _GAP)
        cells = [store.images(power, [index])[0] for power in powers]
        if before is not None:
            cells.insert(0, before[k])
        for j, cell in enumerate(cells):
            if row == 0:
                draw.text((left + j * (_CELL + _GAP), _HEADER), titles[j], INK, font(20))
            sheet.paste(_cell(cell), (left + j * (_CELL + _GAP), top))
    if len(unusable):
        draw.text((_MARGIN, below), "not usable", INK, font(20))
        for k, index in enumerate(unusable.tolist()):
            left = _MARGIN + k * (_CELL + _GAP)
            kind = Status(int(store.status[index]))
            top = below + _CAPTION
            sheet.paste(_cell(store.images(powers[0], [index])[0]), (left, top))
            draw.rectangle(
                (left, top + _CELL, left + _CELL - 1, top + _CELL + 5), STATUS_COLOURS[kind]
            )
            draw.text((left, top + _CELL + 8), kind.name.lower(), INK, font(18))
    return sheet, note


def _before(store: TileStore, shown: NDArray[np.intp]) -> tuple[Pixels | None, str]:
    """Pixels of the fields as the slide has them, at the finest magnification."""
    if store.stain is None or not len(shown):
        return None, ""
    power = max(store.magnifications)
    try:
        check_may_connect(store.slide_path, store.path)
    except WsiAnomalyError as error:
        return None, str(error).rstrip(".")
    try:
        with open_slide(
            store.slide_path, mpp=_override(store), backend=store.backend, scene=store.scene
        ) as slide:
            if (slide.width, slide.height) != store.slide_size:
                return None, f"{store.slide_path} is another slide now"
            return _squares(slide, store, shown, power), ""
    except WsiAnomalyError:
        return None, f"{store.slide_path} cannot be read any more"


def _squares(slide: Slide, store: TileStore, shown: NDArray[np.intp], magnification: int) -> Pixels:
    side = store.tile_side(magnification)
    return read_squares(slide, store.coords[shown], side, mpp_of(magnification)).rgb


def _override(store: TileStore) -> float | None:
    return store.mpp.x if store.mpp.source == "--mpp" else None


def _cell(pixels: Pixels) -> Image.Image:
    """One tile at the size of a cell; enlarged by a whole number its pixels stay visible."""
    from PIL import Image

    whole = _CELL % pixels.shape[0] == 0
    method = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize((_CELL, _CELL), method)


def _header(draw: ImageDraw.ImageDraw, store: TileStore) -> None:
    draw.text((_MARGIN, 18), as_text(store.slide_path.name), INK, font(30))
    counts = ", ".join(
        f"{np.count_nonzero(store.status == kind):,} {kind.name.lower()}"
        for kind in Status
        if kind == Status.OK or (store.status == kind).any()
    )
    stain = "not normalised"
    if store.stain is not None:
        vectors = "  ".join(
            f"{name} {' '.join(f'{value:.2f}' for value in row)} (99th percentile {most:.2f})"
            for name, row, most in zip(
                ("H", "E"), store.stain.matrix, store.stain.maxima, strict=True
            )
        )
        stain = f"{store.preprocessing.stain}: {vectors}"
    text = f"{counted(len(store), 'field')} ({counts})   {store.mpp.x:.4g} um/px   {stain}"
    draw.text((_MARGIN, 60), text, INK, font(20))
