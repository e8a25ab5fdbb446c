"""Lesions are not given away by what needs no detector: colour, and the number of nuclei."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk, opening

from wsi_anomaly.annotations import fractions_inside
from wsi_anomaly.evaluation import ColourControl, label_fields, roc_auc
from wsi_anomaly.synthetic import make_slide

SEEDS = range(100, 106)
FIELD_UM = 64


class Tiles:
    """Tiles of 64 um at 10x of one slide, folds and background left out."""

    def __init__(self, slide):
        image = tifffile.imread(slide.path, key=1)  # 1 um per pixel
        rows, columns = (side // FIELD_UM for side in image.shape[:2])
        image = image[: rows * FIELD_UM, : columns * FIELD_UM]
        density = -np.log(np.maximum(image, 1) / 243.0)
        y, x = np.indices((rows, columns)).reshape(2, -1)
        field = FIELD_UM / slide.mpp
        corners = np.column_stack([x, y]) * field
        counts = np.zeros((rows + 2, columns + 2))
        column, row = (slide.nuclei // field).astype(int).T
        np.add.at(counts, (row, column), 1)
        hematoxylin = density @ np.linalg.pinv(slide.stain_matrix)[:, 0]
        keep = blocks(density.mean(axis=2) > 0.12) > 0.5
        inside = fractions_inside(slide.lesions, corners, (field, field))
        self.labels = label_fields(inside)[keep]
        self.colours = np.stack([blocks(image[..., k]) for k in range(3)], axis=1)[keep]
        self.counts = counts[:rows, :columns].ravel()[keep]
        self.hematoxylin = blocks(hematoxylin)[keep]
        self.large = share_of_large_nuclei(hematoxylin)[keep]


def share_of_large_nuclei(hematoxylin):
    """Share of each tile's dark area that is left when all thinner than 11 um is taken away."""
    rows, columns = (side // FIELD_UM for side in hematoxylin.shape)
    smooth = ndimage.gaussian_filter(hematoxylin, 1)
    tiles = smooth.reshape(rows, FIELD_UM, columns, FIELD_UM).swapaxes(1, 2)
    dark = [tile > threshold_otsu(tile) for tile in tiles.reshape(-1, FIELD_UM, FIELD_UM)]
    return np.array([opening(mask, disk(5)).mean() / mask.mean() for mask in dark])


def blocks(plane):
    rows, columns = (side // FIELD_UM for side in plane.shape)
    return plane.reshape(rows, FIELD_UM, columns, FIELD_UM).mean(axis=(1, 3)).ravel()


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    path = tmp_path_factory.mktemp("controls") / "slide.tif"
    return {
        difficulty: [
            Tiles(make_slide(path, seed=seed, size_px=(1920, 1920), lesions=difficulty))
            for seed in seeds
        ]
        for difficulty, seeds in (("medium", SEEDS), ("easy", SEEDS[:3]), ("hard", SEEDS[:3]))
    }


def auc(tiles, values):
    return roc_auc(np.concatenate([t.labels for t in tiles]), np.concatenate(values))


def either_way(value):
    """A control may know which direction is abnormal."""
    return max(value, 1 - value)


def test_there_is_enough_of_both_kinds(tiles):
    labels = np.concatenate([t.labels for t in tiles["medium"]])
    assert (labels == 1).sum() > 60
    assert (labels == 0).sum() > 400


def test_mean_colour_does_not_give_lesions_away(tiles):
    medium = tiles["medium"]
    for channel in range(3):
        assert either_way(auc(medium, [t.colours[:, channel] for t in medium])) <= 0.75
    assert either_way(auc(medium, [t.hematoxylin for t in medium])) <= 0.75
    # The best that colour can do: a model of this very slide's normal tissue.
    own = [ColourControl().fit(t.colours[t.labels == 0]).score_samples(t.colours) for t in medium]
    assert either_way(auc(medium, own)) <= 0.75
    pooled = np.concatenate([t.colours[t.labels == 0] for t in medium])
    control = ColourControl().fit(pooled)
    assert either_way(auc(medium, [control.score_samples(t.colours) for t in medium])) <= 0.75


def test_the_number_of_nuclei_does_not_give_lesions_away(tiles):
    medium = tiles["medium"]
    assert either_way(auc(medium, [t.counts for t in medium])) <= 0.75


def test_the_easier_the_lesion_the_more_its_nuclei_stand_out(tiles):
    large = {
        difficulty: auc(some[:3], [t.large for t in some[:3]]) for difficulty, some in tiles.items()
    }
    # This knows where to look, which no detector is told; and that the outlines lie where it is.
    assert large["easy"] > large["medium"] > large["hard"] > 0.7
