"""Tiny data sets in the layouts of the real ones."""

from __future__ import annotations

import pickle
import zipfile
from hashlib import md5
from pathlib import Path

import numpy as np
import shapely
from outline_files import write_asap
from PIL import Image

from wsi_anomaly.annotations import Outline
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.published import CIFAR10
from wsi_anomaly.synthetic import make_slide

ROWS = (
    "fusion", "dpa", "density", "deep-if", "mean-colour", "density-random", "dpa-untrained",
    "dpa-denominator", "supervised",
)  # fmt: skip
PLAN = Plan(features="compact", steps=6, batch_size=8)


def striped(rng: np.random.Generator, side: int, kind: int) -> np.ndarray:
    """Noise about one colour; each kind has stripes of its own width, and the same mean."""
    pixels = rng.normal((150, 120, 160), 10, (side, side, 3))
    if kind:
        period = 2 + kind
        wave = np.where(np.arange(side) // period % 2 == 0, 30, -30)
        pixels += (wave - wave.mean())[None, :, None]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def make_cifar_zip(path: Path, train: int = 12, test: int = 6, suffix: str = "jpg") -> Path:
    """CIFAR-10 as a zip file of folders; classes differ in their stripes."""
    rng = np.random.default_rng(0)
    folder = path.parent / "cifar files"
    for half, count in (("train", train), ("test", test)):
        for kind, name in enumerate(CIFAR10):
            place = folder / half / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = Image.fromarray(striped(rng, 32, kind))
                image.save(place / f"{i:04d}.{suffix}")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
    return path


def make_torchvision_cifar(folder: Path, count: int = 20) -> dict[str, str]:
    """CIFAR-10 in torchvision's own files; their MD5 sums by name."""
    rng = np.random.default_rng(0)
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    sums = {}
    for name in ["data_batch_1", "test_batch", "batches.meta"]:
        content = {"label_names": list(CIFAR10)}
        if name != "batches.meta":
            labels = [i % 10 for i in range(count)]
            pixels = np.stack([striped(rng, 32, label) for label in labels])
            content = {"data": pixels.transpose(0, 3, 1, 2).reshape(count, -1), "labels": labels}
        raw = pickle.dumps(content)
        (place / name).write_bytes(raw)
        sums[name] = md5(raw, usedforsecurity=False).hexdigest()
    return sums


def make_folder_set(
    folder: Path, normal: int = 40, abnormal: int = 24, groups: bool = True
) -> Path:
    """``normal/`` and ``abnormal/`` with two types; two images a group."""
    rng = np.random.default_rng(0)
    lines = ["image,group"]
    for name, count, kind in (
        ("normal", normal, 0),
        ("abnormal/wide", abnormal // 2, 5),
        ("abnormal/fine", abnormal // 2, 1),
    ):
        place = folder / name
        place.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(striped(rng, 40, kind)).save(place / f"{i:03d}.png")
            lines.append(f"{name}/{i:03d}.png,{name}-{i // 2}")
    if groups:
        (folder / "groups.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_nih(folder: Path, patients: int = 24) -> Path:
    """ChestX-ray14: images of both views, the table, the official lists."""
    rng = np.random.default_rng(0)
    place = folder / "images_001" / "images"
    place.mkdir(parents=True)
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,View Position"]
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for patient in range(patients):
        for visit in range(2):
            name = f"{patient:08d}_{visit:03d}.png"
            sick = (patient // 2 + visit) % 2
            label = ("No Finding", "Infiltration" if patient % 3 else "Mass|Nodule")[sick]
            view = "PA" if patient % 2 else "AP"
            rows.append(f"{name},{label},{visit},{patient},{view}")
            Image.fromarray(striped(rng, 64, 4 * sick)).convert("L").save(place / name)
            test = patient >= patients // 2
            lists["test_list.txt" if test else "train_val_list.txt"].append(name)
    (folder / "Data_Entry_2017.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name, names in lists.items():
        (folder / name).write_text("\n".join(names), encoding="utf-8")
    return folder


def make_camelyon(folder: Path, size: int = 1280) -> Path:
    """Camelyon16's folders with drawn slides; the test annotations are in a zip file.

    "Tumour" is what the annotations say: the middle of a slide.
    """
    names = (
        "training/normal/normal_001", "training/normal/normal_002", "training/tumor/tumor_001",
        "testing/images/test_001", "testing/images/test_002",
    )  # fmt: skip
    for seed, name in enumerate(names):
        path = folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_slide(path, seed=seed + 1, size_px=(size, size), mpp=0.5)
    (folder / "training" / "normal" / "normal_027.tif").write_bytes(b"excluded, never opened")
    outline = Outline("_0", shapely.box(20, 20, size - 20, size - 20))
    place = folder / "training" / "lesion_annotations"
    place.mkdir()
    write_asap(place / "tumor_001.xml", [outline])
    loose = folder / "test_001.xml"
    write_asap(loose, [outline])
    with zipfile.ZipFile(folder / "testing" / "lesion_annotations.zip", "w") as archive:
        archive.write(loose, "lesion_annotations/test_001.xml")
    loose.unlink()
    (folder / "testing" / "reference.csv").write_text(
        "test_001,Tumor,IDC,Macro\ntest_002,Normal,None,None\n", encoding="utf-8"
    )
    return folder
