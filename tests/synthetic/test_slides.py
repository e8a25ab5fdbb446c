"""Synthetic slides: what a test or the demo relies on."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
import shapely
import tifffile

from wsi_anomaly.annotations import fractions_inside, read_geojson
from wsi_anomaly.synthetic import GENERATOR_VERSION, make_slide

SIZE = (1100, 900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def normal(folder):
    return make_slide(folder / "normal.tif", seed=11, size_px=SIZE)


@pytest.fixture(scope="module")
def abnormal(folder):
    return make_slide(
        folder / "lesion.tif", seed=12, size_px=(1500, 1500), lesions="medium", folds=1, pens=1,
        outlines_path=folder / "lesion.geojson",
    )  # fmt: skip


def test_the_same_arguments_give_the_same_bytes(folder, normal):
    again = make_slide(folder / "again.tif", seed=11, size_px=SIZE)
    assert again.path.read_bytes() == normal.path.read_bytes()
    np.testing.assert_array_equal(again.nuclei, normal.nuclei)


def test_another_seed_gives_another_slide(folder, normal):
    other = make_slide(folder / "other.tif", seed=13, size_px=SIZE)
    assert not np.array_equal(tifffile.imread(other.path), tifffile.imread(normal.path))


def test_the_generator_is_frozen(normal):
    """Figures that were measured on these slides hold only as long as this does.

    Whoever changes what a seed gives changes GENERATOR_VERSION, these numbers and the figures.
    """
    pixels = tifffile.imread(normal.path, key=0)
    assert GENERATOR_VERSION == 2
    assert len(normal.nuclei) == 792
    np.testing.assert_allclose(pixels.mean(axis=(0, 1)), [206.70, 169.02, 204.01], atol=0.05)


@pytest.mark.parametrize("mpp", [0.5, 0.2527, 0.499])
def test_openslide_reads_the_exact_mpp_and_a_pyramid(folder, mpp):
    size = (round(420 / mpp), round(300 / mpp))
    made = make_slide(folder / f"{mpp}.tif", seed=1, size_px=size, mpp=mpp)
    with openslide.OpenSlide(made.path) as slide:
        assert slide.dimensions == size
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(mpp, rel=1e-6)
        assert slide.level_count >= 2
        assert slide.level_downsamples == pytest.approx(
            [2.0**i for i in range(slide.level_count)], rel=0.02
        )
        level0 = np.asarray(slide.read_region((100, 100), 0, (64, 64)).convert("RGB"), float)
        level1 = np.asarray(slide.read_region((100, 100), 1, (32, 32)).convert("RGB"), float)
        means = level0.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
        assert np.abs(means - level1).mean() < 6  # JPEG apart, the same picture


def test_a_normal_slide_has_no_lesion_and_an_abnormal_one_has(normal, abnormal, folder):
    assert normal.lesions == []
    assert normal.difficulty is None
    assert abnormal.lesions
    read = read_geojson(folder / "lesion.geojson")
    assert [o.label for o in read] == ["Lesion"] * len(abnormal.lesions)
    for there, made in zip(read, abnormal.lesions, strict=True):
        apart = there.polygon.symmetric_difference(made.polygon).area
        assert apart < 1e-3 * made.polygon.area
        assert shapely.box(0, 0, 1500, 1500).covers(made.polygon)


def test_a_fold_is_darker_and_a_pen_has_ink(abnormal):
    pixels = tifffile.imread(abnormal.path, key=0).astype(float)
    grid = np.stack(np.meshgrid(np.arange(0, 1500, 20), np.arange(0, 1500, 20)), -1).reshape(-1, 2)
    darkness = np.array([255 - pixels[y : y + 20, x : x + 20].mean() for x, y in grid])
    fold = fractions_inside(abnormal.folds, grid, (20, 20)) == 1
    pen = fractions_inside(abnormal.pens, grid, (20, 20)) == 1
    tissue = (darkness > 40) & (
        fractions_inside([*abnormal.folds, *abnormal.pens], grid, (20, 20)) == 0
    )
    assert len(abnormal.folds) == len(abnormal.pens) == 1
    assert np.median(darkness[fold & ~pen & (darkness > 40)]) > 1.2 * np.median(darkness[tissue])
    assert np.median(darkness[pen]) > 1.2 * np.median(darkness[tissue])


def test_the_truth_about_the_nuclei_is_where_they_are(normal):
    pixels = tifffile.imread(normal.path, key=0).astype(float)
    x, y = normal.nuclei.astype(int).T
    inside = (x < SIZE[0]) & (y < SIZE[1])
    red = pixels[y[inside], x[inside], 0]
    assert np.median(red) < np.percentile(pixels[..., 0], 15)


def test_stains_vary_between_slides_and_stay_plausible(folder):
    made = [
        make_slide(folder / "stain.tif", seed=seed, size_px=(420, 420)) for seed in range(20, 28)
    ]
    matrices = np.stack([s.stain_matrix for s in made])
    np.testing.assert_allclose(np.linalg.norm(matrices, axis=2), 1, atol=1e-9)
    mean = matrices.mean(axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip((matrices * mean).sum(axis=2), -1, 1)))
    assert angles.max() > 1.5
    assert angles.max() < 12
    # Hematoxylin takes more red than blue, eosin most green.
    assert (matrices[:, 0, 0] > matrices[:, 0, 2]).all()
    assert (matrices[:, 1].argmax(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("size", "mpp"), [((100, 100), 0.5), ((1000, 1000), 0.01), ((1000, 1000), 9.0)]
)
def test_what_cannot_hold_tissue_is_refused(folder, size, mpp):
    with pytest.raises(ValueError, match="too small to hold tissue"):
        make_slide(folder / "never.tif", seed=1, size_px=size, mpp=mpp)
    assert not (folder / "never.tif").exists()


def test_harmless_variants_lie_in_tissue_apart_from_lesions(folder):
    made = make_slide(
        folder / "variants.tif", seed=77, size_px=(3600, 3600), lesions="medium", lesion_mm2=0.1,
        variants=1,
    )  # fmt: skip
    kinds = [[o.polygon for o in of] for of in (made.lesions, made.follicles, made.reactive)]
    assert [bool(of) for of in kinds] == [True] * 3
    assert {o.label for o in (*made.follicles, *made.reactive)} == {"Follicle", "Reactive"}
    areas = [shapely.union_all(of) for of in kinds]
    for k in range(3):
        assert areas[k].distance(areas[k - 1]) > 100  # px
    inside = [shapely.contains_xy(area, *made.nuclei.T) for area in areas]
    per_mm2 = [4e6 * found.sum() / area.area for found, area in zip(inside, areas, strict=True)]
    usual = 4e6 * (~np.any(inside, axis=0)).sum() / 3600**2
    assert per_mm2[1] > 2 * max(per_mm2[0], per_mm2[2], usual)  # a follicle is full of lymphocytes
