"""Each data set is checked first, then divided so that nothing leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import (
    make_cifar_zip,
    make_folder_set,
    make_nih,
    make_torchvision_cifar,
    striped,
)

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reproduce.problems import Problem, judged
from wsi_anomaly.reproduce.published import CHOSEN_BY, CIFAR10
from wsi_anomaly.reproduce.sources.folders import Folder
from wsi_anomaly.reproduce.sources.natural import NaturalImages
from wsi_anomaly.reproduce.sources.xrays import ChestXRays, read_xray


def ask(source, name=None, *, size=32, equalise=False, seed=0) -> Problem:
    return source.problem(name or source.classes[0], size=size, equalise=equalise, seed=seed)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cifar_zip(tmp_path_factory.mktemp("cifar") / "cifar.zip")


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_nih(tmp_path_factory.mktemp("nih"))


# -- natural images


def test_a_lossy_copy_of_cifar10_is_named_as_one(cifar: Path, tmp_path: Path) -> None:
    assert NaturalImages("cifar10", cifar).title == "CIFAR-10 (JPEG)"
    whole = make_cifar_zip(tmp_path / "whole.zip", train=1, test=1, suffix="png")
    assert NaturalImages("cifar10", whole).title == "CIFAR-10"


def test_one_class_is_normal_and_training_images_are_learned_from(cifar: Path) -> None:
    source = NaturalImages("cifar10", cifar)
    problem = ask(source, "bird", size=64)
    assert problem.learn.shape == (12, 64, 64, 3)
    assert problem.judge.shape == (60, 64, 64, 3)
    assert problem.abnormal.sum() == 54
    assert set(problem.kind[~problem.abnormal]) == {"bird"}
    assert problem.known_kind == CHOSEN_BY["cifar10"]["bird"] == "deer"
    assert len(problem.known) == 12


def test_images_to_judge_are_the_same_whatever_else_is_asked(cifar: Path) -> None:
    few = NaturalImages("cifar10", cifar, learn=10, judge=4)
    one, other = ask(few, "cat", seed=0), ask(few, "cat", seed=5)
    np.testing.assert_array_equal(one.judge, other.judge)
    assert len(one.learn) == 10
    assert (~one.abnormal).sum() == one.abnormal.sum() == 4


def test_torchvisions_own_files_are_read_after_their_sums_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    sums = make_torchvision_cifar(tmp_path)
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums["batches.meta"]})
    source = NaturalImages("cifar10", tmp_path)
    assert source.title == "CIFAR-10"
    problem = ask(source, "airplane")
    assert len(problem.learn) == 2
    assert len(problem.judge) == 20
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"cposix\nsystem\n")
    with pytest.raises(UsageError, match="missing or damaged; download CIFAR-10"):
        NaturalImages("cifar10", tmp_path)


def test_missing_classes_are_all_named(tmp_path: Path) -> None:
    for half in ("train", "test"):
        for name in CIFAR10[:8]:
            place = tmp_path / half / name
            place.mkdir(parents=True)
            Image.fromarray(striped(np.random.default_rng(0), 32, 0)).save(place / "0.png")
    with pytest.raises(UsageError) as error:
        NaturalImages("cifar10", tmp_path)
    for piece in ("train/ship/", "train/truck/", "test/ship/", "test/truck/", "download"):
        assert piece in str(error.value)


def test_damaged_and_wrong_images_are_named(tmp_path: Path) -> None:
    for half in ("train", "test"):
        for name in CIFAR10:
            place = tmp_path / half / name
            place.mkdir(parents=True)
            Image.fromarray(striped(np.random.default_rng(0), 32, 0)).save(place / "0.png")
    bad = tmp_path / "test" / "cat" / "0.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:40])
    with pytest.raises(UsageError, match=r"cat/0\.png is no readable image"):
        NaturalImages("cifar10", tmp_path)
    Image.new("RGB", (40, 32)).save(bad)
    with pytest.raises(UsageError, match="32 x 32"):
        NaturalImages("cifar10", tmp_path)
    with pytest.raises(UsageError, match="no folder and no zip file"):
        NaturalImages("cifar10", tmp_path / "nothing.zip")


def test_digits_lose_their_colour_where_it_is_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for half in ("train", "test"):
        for digit in range(10):
            place = tmp_path / half / str(digit)
            place.mkdir(parents=True)
            Image.fromarray(striped(rng, 32, digit)).save(place / "0.png")
    problem = ask(NaturalImages("svhn", tmp_path), "3")
    assert (problem.judge[..., 0] != problem.judge[..., 2]).any()
    grey = problem.greyed()
    for images in (grey.learn, grey.judge, grey.known):
        assert (images[..., 0] == images[..., 2]).all()
    assert grey.judge.shape == problem.judge.shape


def test_torchvisions_files_of_svhn_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hashlib import md5

    from scipy.io import savemat
    from torchvision import datasets

    rng = np.random.default_rng(0)
    entries = {}
    for half in ("train", "test"):
        images = np.stack([striped(rng, 32, i % 10) for i in range(20)], -1)
        labels = np.array([[i % 10 or 10] for i in range(20)])  # 10 stands for 0 in the file
        path = tmp_path / f"{half}_32x32.mat"
        savemat(path, {"X": images, "y": labels})
        entries[half] = ["", path.name, md5(path.read_bytes(), usedforsecurity=False).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", entries)
    source = NaturalImages("svhn", tmp_path)
    problem = ask(source, "0")
    assert len(problem.learn) == 2
    assert problem.learn.shape[1:] == (32, 32, 3)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(UsageError, match="svhn that are missing or damaged; download train_32x32"):
        NaturalImages("svhn", tmp_path)


# -- a folder of one's own


def test_patients_stay_together_and_known_anomalies_are_not_judged(tmp_path: Path) -> None:
    source = Folder(make_folder_set(tmp_path))
    for seed in range(3):
        problem = ask(source, seed=seed)
        assert not set(problem.judge_group) & set(problem.learn_group)
        assert len(problem.known) > 0
        judged_images = {image.tobytes() for image in problem.judge}
        assert not judged_images & {image.tobytes() for image in problem.known}
        assert set(problem.kind[problem.abnormal]) == {"wide", "fine"}
        rest, aside, _ = problem.hold_out(seed, 0.1)
        assert len(rest.learn) + len(aside) == len(problem.learn)
        assert len(aside) == 2  # a tenth, whole groups
    divisions = {ask(source, seed=seed).learn.tobytes() for seed in range(3)}
    assert len(divisions) == 3


def test_without_groups_the_reader_is_warned(tmp_path: Path) -> None:
    source = Folder(make_folder_set(tmp_path, groups=False))
    assert any("taken to be independent" in note for note in source.notes)


def test_a_folder_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    make_folder_set(tmp_path)
    table = tmp_path / "groups.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(UsageError, match=r"has no line for .*fine/011\.png"):
        Folder(tmp_path)
    table.write_text("image,group,more\n")
    with pytest.raises(UsageError, match="lines of image,group"):
        Folder(tmp_path)
    table.write_text("\n".join(lines))
    (tmp_path / "normal" / "000.png").write_bytes(b"no image")
    source = Folder(tmp_path)
    with pytest.raises(UsageError, match=r"normal/000\.png is no readable image"):
        for seed in range(6):
            ask(source, seed=seed)
    with pytest.raises(UsageError, match=r"normal/ and abnormal/.*too few are in abnormal/"):
        one_class = tmp_path / "one class"
        (one_class / "normal").mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (8, 8)).save(one_class / "normal" / f"{i}.png")
        Folder(one_class)


# -- radiographs


def test_radiographs_are_divided_by_the_official_lists_and_by_view(nih: Path) -> None:
    source = ChestXRays(nih)
    assert source.classes == ("PA", "AP")
    problem = ask(source, "PA")
    assert problem.learn.shape == (6, 32, 32, 3)
    assert (~problem.abnormal).sum() == problem.abnormal.sum() == 6
    assert problem.known_kind == "Infiltration"
    assert 0 < len(problem.known) <= 6
    assert "official lists" in source.notes[0]


def test_without_lists_patients_are_divided(nih: Path, tmp_path: Path) -> None:
    other = make_nih(tmp_path)
    (other / "test_list.txt").unlink()
    source = ChestXRays(other)
    assert "by patient" in source.notes[0]
    for name in source.classes:
        ask(source, name)  # a patient on both sides would be an error


def test_the_authors_lists_are_followed_but_no_patient_is_on_both_sides(
    nih: Path, tmp_path: Path
) -> None:
    place = tmp_path / "folds" / "train_test_split" / "nih" / "subset"
    for kind, side, names in (
        ("normal", "train", ["00000000_000.png", "00000004_000.png", "00000001_000.png"]),
        ("normal", "test", ["00000001_000.png"]),
        ("anomaly", "test", ["00000002_000.png", "not_there.png"]),
    ):
        (place / kind).mkdir(parents=True, exist_ok=True)
        (place / kind / side).write_text("\n".join(names))
    source = ChestXRays(nih, splits=tmp_path / "folds")
    assert source.classes == ("subset",)
    problem = ask(source)
    assert len(problem.learn) == 2  # patient 1 is judged
    assert problem.abnormal.tolist() == [False, True]
    with pytest.raises(UsageError, match="holds no lists of nih"):
        ChestXRays(nih, splits=tmp_path / "folds" / "train_test_split" / "nih" / "subset")


def test_the_preprocessing_is_the_published_one(tmp_path: Path) -> None:
    pixels = np.zeros((1024, 1024), np.uint8)
    pixels[128:896, 128:896] = 100  # the central 768 px
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = read_xray(tmp_path / "x.png", 64)
    assert found.shape == (64, 64, 3)
    assert (found[2:-2, 2:-2] == 100).all()
    ramp = np.tile(np.linspace(100, 140, 1024).astype(np.uint8), (1024, 1))
    Image.fromarray(ramp).save(tmp_path / "y.png")
    equalised = read_xray(tmp_path / "y.png", 64, equalise=True)
    assert np.ptp(equalised) > 200 > np.ptp(read_xray(tmp_path / "y.png", 64))


def test_what_a_chest_download_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks images .* and Data_Entry_2017.csv; download"):
        ChestXRays(tmp_path)
    (tmp_path / "Data_Entry_2017.csv").write_text("a,b\n1,2\n")
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(UsageError, match="should begin with the line image index,patient id"):
        ChestXRays(tmp_path)


# -- problems


def test_a_leak_and_a_single_class_are_refused() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)

    def problem(group: list[int], abnormal: list[bool]) -> Problem:
        return Problem(
            "x", images, np.arange(4), images, np.array(abnormal), np.array(group),
            np.array(["a"] * 4), images, "a", images,
        )  # fmt: skip

    with pytest.raises(ValueError, match="both sides"):
        problem([3, 4, 5, 6], [True, False, True, False])
    with pytest.raises(UsageError, match="no abnormal images"):
        problem([4, 5, 6, 7], [False] * 4)
    with pytest.raises(UsageError, match="no normal images"):
        problem([4, 5, 6, 7], [True] * 4)


def test_limits_keep_both_classes() -> None:
    abnormal = np.arange(100) >= 20
    chosen = judged(abnormal, np.arange(100), 10)
    assert abnormal[chosen].sum() == (~abnormal[chosen]).sum() == 10
    assert len(judged(abnormal, np.arange(100), 50)) == 70
