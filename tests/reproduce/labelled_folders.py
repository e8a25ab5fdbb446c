"""Small labelled sets, laid out as the real ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def picture(rng: np.random.Generator, size: tuple[int, int], kind: int) -> Image.Image:
    """Noise about one colour; the abnormal kind has stripes of the same mean."""
    width, height = size
    pixels = rng.normal((180, 120, 160), 12, (height, width, 3))
    if kind:
        pixels[:, ::4] += 40
        pixels[:, 2::4] -= 40
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def make_labelled_folders(folder: Path) -> Path:
    """Write chest, oral and glas below `folder`."""
    rng = np.random.default_rng(0)
    for kind, name in enumerate(("no_finding", "pneumonia")):
        place = folder / "chest" / name
        place.mkdir(parents=True)
        for patient in range(15):
            for visit in range(2):
                # Some patients are in both classes.
                file = place / f"{patient + 10 * kind:08d}_{visit:03d}.png"
                picture(rng, (40, 40), kind).convert("L").save(file)
    for kind, (name, word) in enumerate((("normal", "Normal"), ("carcinoma", "OSCC"))):
        place = folder / "oral" / name
        place.mkdir(parents=True)
        for i in range(30):
            image = picture(rng, (48, 48), kind)
            tint = np.asarray(image) * np.linspace(0.5, 1.2, 6)[i % 6]
            Image.fromarray(np.clip(tint, 0, 255).astype(np.uint8)).save(
                place / f"{word}_400x_{i:02d}.png"
            )
        picture(rng, (48, 48), kind).save(place / f"{word}_100x_0.png")
    place = folder / "glas"
    (place / "images").mkdir(parents=True)
    rows = ["name,png,patient,grade_glas,grade_sirinukunwattana"]
    for i in range(20):
        patient, malignant = i % 10 + 1, i % 10 >= 4
        grade = "malignant,moderately differentiated" if malignant else "benign,healthy"
        rows.append(f"train_{i},{i}.png,{patient},{grade}")
        picture(rng, (70, 50), int(malignant)).save(place / "images" / f"{i}.png")
    rows.append("train_99,99.png,7,benign,adenomatous")
    (place / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
