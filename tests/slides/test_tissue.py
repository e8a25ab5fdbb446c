"""What is tissue, ink, a fold or glass: drawn slides whose truth is known, and real ones."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from slide_files import stained, tissue_slide, write

from wsi_anomaly.annotations import fractions_inside
from wsi_anomaly.slides import BACKGROUND, FOLD, PEN, TISSUE, find_tissue, open_slide
from wsi_anomaly.slides.morphology import closed, grow, opened, shrink
from wsi_anomaly.slides.overview import glass_colour, read_overview
from wsi_anomaly.slides.tissue import label_pixels
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles.fields import plan_fields

GLASS = (241, 240, 243)
MPP = 8.0


def picture(height=300, width=400, seed=0):
    """Glass with a scanner's noise."""
    rng = np.random.default_rng(seed)
    return np.clip(GLASS + rng.normal(0, 2, (height, width, 3)), 0, 255)


def hematoxylin_eosin(shape, seed=0, strength=1.0):
    """Optical densities of tissue, with its texture."""
    rng = np.random.default_rng(seed)
    eosin, nuclei = np.array((0.07, 0.45, 0.25)), np.array((0.45, 0.55, 0.25))
    texture = ndimage.gaussian_filter(rng.random(shape), 1.5)[..., None]
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    return strength * (eosin * (0.7 + 0.6 * texture) + nuclei * texture)


def stain(image, where, density):
    """Lay densities over a part of the picture."""
    image[where] = image[where] * np.exp(-np.asarray(density))


def labelled(image):
    rgb = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return label_pixels(rgb, np.ones(rgb.shape[:2], bool), MPP)[0]


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


BLOCK = np.s_[60:240, 80:320]


@pytest.mark.parametrize("strength", [0.25, 0.6, 1.0, 2.0])
def test_tissue_is_found_whatever_the_strength_of_its_stain(strength):
    image = picture()
    stain(image, BLOCK, hematoxylin_eosin((180, 240), strength=strength))
    truth = np.zeros(image.shape[:2], bool)
    truth[BLOCK] = True
    labels = labelled(image)
    assert iou(labels == TISSUE, truth) > 0.96
    assert set(np.unique(labels)) == {BACKGROUND, TISSUE}


def test_glass_alone_has_no_tissue():
    for seed in range(3):
        assert not labelled(picture(seed=seed)).any()


def test_a_dense_patch_is_tissue_and_a_dense_strip_is_a_fold():
    """Tumour and lymphocytes must never be set aside as folds."""
    image = picture()
    tissue = hematoxylin_eosin((180, 240))
    patch, strip = np.s_[30:80, 40:100], np.s_[110:120, 60:200]
    tissue[patch] *= 2.6
    tissue[strip] *= 3.5
    stain(image, BLOCK, tissue)
    labels = labelled(image)[BLOCK]
    assert (labels[patch] == TISSUE).all()
    assert (labels[strip] == FOLD).mean() > 0.6
    elsewhere = labels.copy()
    elsewhere[strip] = TISSUE
    assert (elsewhere == FOLD).mean() < 0.01


INKS = {
    "black": (2.0, 2.1, 2.0),
    "blue": (1.8, 0.9, 0.25),
    "green": (1.9, 0.6, 1.1),
    "red": (0.12, 1.9, 1.5),
    "orange": (0.05, 0.8, 1.9),
    "yellow": (0.03, 0.2, 2.0),
    "magenta": (0.06, 3.0, 0.7),
}


@pytest.mark.parametrize("ink", INKS)
def test_pen_is_pen_on_glass_and_on_tissue(ink):
    image = picture()
    stain(image, BLOCK, hematoxylin_eosin((180, 240)))
    stroke = np.s_[20:280, 200:212]
    stain(image, stroke, INKS[ink])
    labels = labelled(image)
    assert (labels[stroke] == PEN).mean() > 0.9
    away = labels.copy()
    away[:, 190:222] = BACKGROUND
    assert not (away == PEN).any()
    assert (labels[60:240, 80:185] == TISSUE).mean() > 0.97


@pytest.mark.parametrize("density", [(0.0, 0.85, 0.35), (0.0, 2.5, 0.55)], ids=["pink", "hot pink"])
def test_pink_ink_is_pen_on_glass(density):
    """On tissue it has the colour of dense eosin: it cannot be told."""
    image = picture()
    stain(image, BLOCK, hematoxylin_eosin((180, 240)))
    stroke = np.s_[20:50, 20:280]
    stain(image, stroke, density)
    labels = labelled(image)
    assert (labels[stroke] == PEN).mean() > 0.9
    labels[10:60, 10:290] = BACKGROUND
    assert not (labels == PEN).any()


def test_a_stroke_from_glass_onto_tissue_is_pen_and_no_fold():
    """Dark blue over tissue has the colour of a fold; the same stroke on glass has not."""
    image = picture()
    stain(image, BLOCK, hematoxylin_eosin((180, 240)))
    stroke = np.s_[20:130, 200:212]
    stain(image, stroke, (2.2, 1.7, 0.8))
    labels = labelled(image)
    assert (labels[stroke] == PEN).mean() > 0.9
    assert not (labels == FOLD).any()


def test_things_that_are_grey_are_not_tissue():
    """A black border, a coverslip's edge, dust, and shading from field to field."""
    image = picture()
    image[:, :200] *= 0.96
    image[:, 200:] *= (1.0, 0.97, 1.0)
    image[:12] = 5
    image[:, -9:] = 5
    image[150:154] *= 0.6
    for y, x in np.random.default_rng(0).integers(20, 280, (30, 2)):
        image[y : y + 3, x : x + 3] *= 0.3
    labels = labelled(image)
    assert not (labels == TISSUE).any()
    assert not (labels == PEN)[14:, :-11].any()


def test_a_stitching_gap_does_not_part_the_tissue_nor_become_it():
    image = picture()
    stain(image, BLOCK, hematoxylin_eosin((180, 240)))
    image[:, 196:200] = 255  # 32 um never scanned
    image[:30] = 255
    labels = labelled(image)
    assert (labels[62:238, 82:318] == TISSUE).mean() > 0.97
    assert not labels[:40].any()


def test_lumina_wider_than_a_field_are_glass_and_fat_is_tissue():
    image = picture()
    tissue = hematoxylin_eosin((180, 240))
    y, x = np.ogrid[:180, :240]
    lumen = (y - 60) ** 2 + (x - 70) ** 2 < 13**2  # 200 um
    tissue[lumen] = 0
    fat = np.zeros((180, 240), bool)
    fat[90:170, 120:230] = True
    membrane = ((y + 0 * x) % 9 < 1) | ((x + 0 * y) % 9 < 1)  # cells of 72 um
    tissue[fat & ~membrane] = 0
    stain(image, BLOCK, tissue)
    labels = labelled(image)[BLOCK]
    assert (labels[(y - 60) ** 2 + (x - 70) ** 2 < 9**2] == BACKGROUND).all()
    assert (labels[fat] == TISSUE).mean() > 0.9


def test_debris_is_left_out_and_small_pieces_are_kept():
    image = picture()
    for top, side in ((40, 6), (120, 20)):  # 48 um and 160 um
        stain(image, np.s_[top : top + side, 100 : 100 + side], hematoxylin_eosin((side, side)))
    labels = labelled(image)
    assert not labels[30:60].any()
    assert (labels[122:138, 102:118] == TISSUE).mean() > 0.95


def test_glass_colour_is_the_scanners_not_the_padding():
    image = picture().astype(np.uint8)
    image[:100] = 255
    usable = np.ones(image.shape[:2], bool)
    assert glass_colour(image, usable) == pytest.approx(GLASS, abs=1)
    assert glass_colour(np.full_like(image, 255), usable) == (255, 255, 255)
    assert glass_colour(np.zeros_like(image), usable) == (255, 255, 255)


def test_nothing_usable_gives_an_empty_map():
    rgb = picture().astype(np.uint8)
    labels, white = label_pixels(rgb, np.zeros(rgb.shape[:2], bool), MPP)
    assert not labels.any()
    assert white == (255, 255, 255)


def test_the_map_lies_where_the_tissue_is_and_knows_areas(tmp_path):
    for mpp in (0.5, 1.3):
        path = tissue_slide(tmp_path / f"{mpp}.tif", size=(1500, 1800), mpp=mpp)
        with open_slide(path) as slide:
            tissue = find_tissue(slide)
        (left, top, right, bottom) = tissue.polygons().bounds
        assert (left, top) == pytest.approx((300, 200), abs=16 / mpp)
        assert (right, bottom) == pytest.approx((900, 700), abs=16 / mpp)
        area = 600 * 500 * mpp**2 / 1e6
        assert tissue.area_mm2() == pytest.approx(area, rel=0.08)
        inside = np.array([[400, 400], [310, 210], [300 - 100, 400], [1000, 400]])
        share = tissue.fractions(inside, (100, 100))[:, TISSUE]
        assert share == pytest.approx([1, 1, 0, 0], abs=0.2)


def test_outlines_have_holes_and_are_valid(tmp_path):
    image = np.full((2000, 2000, 3), 243, np.uint8)
    image[300:1700, 300:1700] = stained(1400, 1400)
    image[800:1200, 800:1200] = 243
    path = write(tmp_path / "ring.tif", [image], mpp=0.8)
    with open_slide(path) as slide:
        outline = find_tissue(slide).polygons()
    assert outline.is_valid
    (ring,) = outline.geoms
    assert len(ring.interiors) == 1
    truth = shapely.box(300, 300, 1700, 1700).difference(shapely.box(800, 800, 1200, 1200))
    assert outline.intersection(truth).area / outline.union(truth).area > 0.94


@given(corner=st.tuples(st.floats(-300, 2000), st.floats(-300, 2000)), side=st.floats(1, 700))
def test_fractions_are_the_area_under_each_label(corner, side):
    from wsi_anomaly.slides import TissueMap

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, (30, 40)).astype(np.uint8)
    tissue = TissueMap(labels, 8.0, (100.0, 50.0), (32.0, 40.0))
    corner = np.floor(np.array([corner])).astype(np.int64)
    share = tissue.fractions(corner, (side, side))[0]
    field = shapely.box(*corner[0], *(corner[0] + side))
    y, x = np.mgrid[:30, :40]
    pixels = shapely.box(100 + x * 32, 50 + y * 40, 132 + x * 32, 90 + y * 40)
    areas = shapely.area(shapely.intersection(pixels, field))
    for label in range(1, 5):
        expected = areas[labels == label].sum() / field.area
        assert share[label] == pytest.approx(expected, abs=2e-5)
    assert share.sum() == pytest.approx(1, abs=1e-5)


@given(seed=st.integers(0, 1000), rows=st.integers(1, 60))
@settings(max_examples=15)
def test_bands_give_what_the_whole_picture_gives(seed, rows):
    rng = np.random.default_rng(seed)
    image = picture(int(rng.integers(40, 200)), 160, seed)
    stain(image, np.s_[20:, 30:130], hematoxylin_eosin((len(image) - 20, 100), seed))
    stain(image, np.s_[25:38, 10:150], (1.6, 0.7, 0.3))  # blue ink
    rgb = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    usable = rng.random(rgb.shape[:2]) > 0.01
    with pytest.MonkeyPatch.context() as patch:
        whole, glass = label_pixels(rgb, usable, MPP)
        patch.setattr("wsi_anomaly.slides.bands._ROWS", rows)
        banded, same_glass = label_pixels(rgb, usable, MPP)
    assert {TISSUE, PEN} <= set(np.unique(whole))
    np.testing.assert_array_equal(banded, whole)
    assert same_glass == glass


@given(seed=st.integers(0, 1000), radius=st.floats(0.5, 12))
def test_growing_agrees_with_the_distance_transform(seed, radius):
    rng = np.random.default_rng(seed)
    mask = rng.random((int(rng.integers(1, 40)), int(rng.integers(1, 40)))) < 0.1
    distance = ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
    clear = np.abs(distance - radius) > 1e-6
    assert ((grow(mask, radius) == (distance <= radius)) | ~clear).all()
    np.testing.assert_array_equal(shrink(mask, radius), ~grow(~mask, radius))
    assert not (opened(mask, radius) & ~mask).any()
    assert not (mask & ~closed(mask, radius)).any()


def test_a_real_fold_is_found_and_the_real_slides_are_mostly_right(real_data):
    with open_slide(real_data / "slides" / "larynx_40x.tif") as slide:
        larynx = find_tissue(slide)
    assert larynx.white == pytest.approx((231, 230, 233), abs=3)
    assert 0.75 < (larynx.labels == TISSUE).mean() < 0.88
    assert not (larynx.labels == PEN).any()
    assert 2_000 < (larynx.labels == FOLD).sum() * 64 < 20_000
    # The cavity in the middle, and the cartilage's pale edge on the right.
    assert not larynx.labels[170:280, 80:150].any()
    assert (larynx.labels[20:140, 250:330] == TISSUE).all()

    with open_slide(real_data / "slides" / "cmu1_small_region.svs") as slide:
        skin = find_tissue(slide)
    assert 0.35 < (skin.labels == TISSUE).mean() < 0.45
    assert not skin.labels[80:170, :20].any()
    assert (skin.labels[110:170, 50:65] == TISSUE).all()


@pytest.mark.parametrize(
    ("name", "recall", "overlap"), [("black", 0.98, 0.85), ("green", 0.98, 0.7), ("red", 0.55, 0.5)]
)
def test_real_pen_marks(real_data, name, recall, overlap):
    folder = real_data / "tiles" / "pen_marks" / "1k_version"
    with Image.open(folder / f"pen_{name}.png") as file:
        rgb = np.asarray(file.convert("RGB"))
    with Image.open(folder / f"pen_{name}_mask.png") as file:
        truth = np.asarray(file.convert("L")) > 127
    labels, _ = label_pixels(rgb, np.ones(truth.shape, bool), MPP)
    found = labels == PEN
    if name == "green":  # the mask leaves out the yellow dye on the margin below
        found, truth = found[:560], truth[:560]
    assert (found & truth).sum() / truth.sum() > recall
    assert iou(found, truth) > overlap


def test_fluorescence_has_no_tissue(real_data):
    with open_slide(real_data / "odd_files" / "fluorescence.ndpi") as slide:
        assert not find_tissue(slide).labels.any()


def test_a_frame_is_no_ink_whatever_the_size_of_the_slide(field_case):
    folder = field_case("black_frame")
    fields = []
    for name in ("multiple", "not_multiple"):
        with open_slide(folder / f"{name}.tif") as slide:
            tissue = find_tissue(slide)
            fields.append(plan_fields(slide, tissue, field_um=64.0, min_tissue=0.5))
        assert not (tissue.labels == PEN).any()
    assert fields[0].coords.tolist() == fields[1].coords.tolist()
    assert len(fields[0]) > 40


@pytest.mark.parametrize("side", [1600, 1604, 1615, 1613])
def test_a_frame_is_found_on_slides_that_no_whole_number_of_pixels_covers(tmp_path, side):
    image = np.zeros((side, side, 3), np.uint8)
    image[200:1400, 200:1400] = 243
    image[400:1200, 400:1200] = stained(800, 800)
    with open_slide(write(tmp_path / "a.tif", [image], mpp=0.5)) as slide:
        labels = find_tissue(slide).labels
    assert not (labels == PEN).any()
    assert (labels == TISSUE).sum() == pytest.approx(50 * 50, rel=0.1)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_black_where_nothing_was_scanned_is_no_ink(seed):
    """Missing tiles of a file without transparency, and the corners of one that was turned."""
    rng = np.random.default_rng(seed)
    image = picture()
    stain(image, BLOCK, hematoxylin_eosin((180, 240)))
    missing = np.zeros(image.shape[:2], bool)
    for side in (40, 20, 13, 12, 10, 8):
        y, x = rng.integers((0, 0), (260, 360))
        missing[y : y + side, x : x + side] = True
    row, column = np.indices(missing.shape)
    missing |= row < rng.uniform(-0.3, 0.3) * (column - 200)
    before = labelled(image)
    image[missing] = np.clip(rng.normal(0, 1, (missing.sum(), 3)), 0, 3)  # as JPEG has it
    labels = labelled(image)
    assert not (labels == PEN).any()
    assert not labels[missing].any()
    near = grow(missing, 4)
    assert (labels[(before == TISSUE) & ~near] == TISSUE).mean() > 0.97


def test_real_tissue_is_kept_beside_black_that_was_not_scanned(real_data):
    with open_slide(real_data / "slides" / "colon_normal.tif") as slide:
        rgb = read_overview(slide).rgb
    whole = np.ones(rgb.shape[:2], bool)
    before, _ = label_pixels(rgb, whole, MPP)
    missing = np.zeros_like(whole)
    for y, x in np.random.default_rng(0).integers((0, 0), (440, 880), (12, 2)):
        missing[y : y + 60, x : x + 70] = True
    labels, _ = label_pixels(np.where(missing[..., None], 0, rgb).astype(np.uint8), whole, MPP)
    assert not (labels == PEN).any()
    assert (labels[(before == TISSUE) & ~grow(missing, 4)] == TISSUE).mean() > 0.98


def test_black_padding_does_not_make_a_slide_fluorescent():
    image = picture()
    image[:, 200:] = 0
    stain(image, np.s_[60:240, 20:140], hematoxylin_eosin((180, 120)))
    labels = labelled(image)
    assert (labels[64:236, 24:136] == TISSUE).mean() > 0.97


@pytest.mark.parametrize("seed", [12, 504, 606])
def test_ink_over_tissue_is_pen_though_nuclei_show_through(tmp_path, seed):
    """Once such strokes were taken for folds and tissue, and spoilt the slide's stain matrix."""
    drawn = make_slide(tmp_path / "pen.tif", seed=seed, size_px=(1600, 1600), mpp=0.5, pens=1)
    with open_slide(drawn.path) as slide:
        tissue = find_tissue(slide)
    row, column = np.indices(tissue.labels.shape)
    corners = np.stack([column.ravel(), row.ravel()], 1) * 16  # 8 um of 0.5 um pixels
    inside = fractions_inside(drawn.pens, corners, (16.0, 16.0)).reshape(row.shape)
    found = tissue.labels == PEN
    assert found[inside > 0.9].mean() > 0.8
    assert (inside[found] > 0).mean() > 0.8
