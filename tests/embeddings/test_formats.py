"""Embeddings of other programs are read as they were written, and refused in one sentence."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from embedding_files import SIDE, SIZE_PX, STEP, WRITERS, clam, fields_of, lazyslide, put
from embedding_files import slide2vec as slide2vec_file
from embedding_files import trident as trident_file

from wsi_anomaly.core.errors import EmbeddingsError, UsageError
from wsi_anomaly.embeddings import EmbeddingsFile, find_embeddings, on_grid

FEATURES, COORDS = fields_of(1)


def only(folder: Path) -> EmbeddingsFile:
    [file] = find_embeddings(folder).files.values()
    return file


@pytest.mark.parametrize("program", WRITERS)
def test_what_was_written_is_read(tmp_path: Path, program: str) -> None:
    WRITERS[program](tmp_path, "s1", FEATURES, COORDS)
    file = only(tmp_path)
    assert file.name == "s1"
    with file.open() as found:
        assert np.array_equal(np.concatenate([part for _, part in found.blocks(100)]), FEATURES)
        assert np.array_equal(found.coords, COORDS)
        assert (found.field_level0, found.step_level0) == (STEP, STEP)
        assert found.encoder == {"trident": "uni_v1", "clam": ""}.get(program, "uni")
        if program != "clam":  # whose files do not say how large a pixel is
            assert found.field_um == 128
            assert found.pixel_size(None).x == 0.25


def test_a_pt_of_slide2vec_is_read_too(tmp_path: Path) -> None:
    slide2vec_file(tmp_path, "s1", FEATURES, COORDS, "pt")
    with only(tmp_path).open() as found:
        assert np.array_equal(found.read(slice(0, len(found))), FEATURES)


def test_a_store_that_lazyslide_wrote_is_read(tmp_path: Path) -> None:
    shutil.unpack_archive(Path(__file__).parent / "lazyslide_0.13.zip", tmp_path)
    with only(tmp_path).open() as found:
        assert found.encoder == "uni"
        assert found.slide_size == (2048, 1536)
        assert (found.width, found.field_um, found.mpp) == (16, 128, 0.5)
        assert found.coords[:2].tolist() == [[256, 332], [256, 588]]
        # As LazySlide's example has drawn them.
        expected = np.random.default_rng(0).normal(size=(len(found), 16)).astype(np.float32)
        assert np.array_equal(found.read(slice(0, len(found))), expected)


def test_overlapping_fields_are_cells_in_their_middle(tmp_path: Path) -> None:
    coords = COORDS // 2 + 1000
    trident_file(tmp_path, "s1", FEATURES, coords, overlap=128)
    with only(tmp_path).open() as found:
        cells = on_grid(found, found.pixel_size(None)).fields
    assert cells.grid_shape == (SIDE, SIDE)
    assert (cells.field_um, cells.stride_level0) == (64, (256, 256))
    assert np.array_equal(cells.coords, coords + 128)


def test_pieces_of_tissue_with_grids_of_their_own_share_one(tmp_path: Path) -> None:
    coords = COORDS.copy()
    coords[: 2 * SIDE] += (200, 0)  # two rows of another contour, as CLAM cuts them
    coords[5] = coords[4] + (40, 0)
    trident_file(tmp_path, "s1", FEATURES, coords)
    with only(tmp_path).open() as found:
        grid = on_grid(found, found.pixel_size(None))
    assert grid.moved == 2 * SIDE
    assert grid.fields.coords[-1].tolist() == coords[-1].tolist()
    score = np.zeros(len(coords))
    score[5] = 1
    kept = grid.highest(score)
    assert len(kept) == len(coords) - 1
    assert 5 in kept
    assert 4 not in kept


def test_two_files_of_a_slide_are_not_chosen_among(tmp_path: Path) -> None:
    for folder in ("features_uni_v1", "features_conch_v15"):
        trident_file(tmp_path / folder, "s1", FEATURES, COORDS)
    trident_file(tmp_path, "s2", FEATURES, COORDS)
    found = find_embeddings(tmp_path)
    assert list(found.files) == ["s2"]
    with pytest.raises(EmbeddingsError, match="Two files hold embeddings of s1"):
        found.of(Path("slides/s1.svs"))
    with pytest.raises(EmbeddingsError, match="no embeddings called s3"):
        found.of(Path("slides/s3.svs"))


def test_of_two_encoders_in_a_store_one_is_named(tmp_path: Path) -> None:
    lazyslide(tmp_path, "s1", FEATURES, COORDS, "uni")
    lazyslide(tmp_path, "s1", FEATURES[:, :8], COORDS, "conch")
    with pytest.raises(EmbeddingsError, match="conch and uni; say which"), only(tmp_path).open():
        pass
    with only(tmp_path).open("conch") as found:
        assert found.width == 8


# -- what cannot be used --------------------------------------------------------------------------

Change = Callable[[Path], object]


def with_values(**values: object) -> Change:
    """Change the numbers of a TRIDENT file."""

    def change(folder: Path) -> None:
        features, coords = FEATURES.copy(), COORDS.copy()
        features[7, 3] = values.get("number", 0.0)
        coords[3] = values.get("corner", coords[3])
        trident_file(folder, "s1", features, coords)

    return change


def truncated(program: str) -> Change:
    def change(folder: Path) -> None:
        path = WRITERS[program](folder, "s1", FEATURES, COORDS)
        if path.is_dir():
            path = next((path / "tables/uni_tiles/X/c").rglob("0"), path)
            path = path if path.is_file() else path / "0"
        path.write_bytes(path.read_bytes()[:-400])

    return change


def of_objects(folder: Path) -> None:
    path = trident_file(folder, "s1", FEATURES, COORDS)
    with h5py.File(path, "a") as file:
        del file["features"]
        pickled = np.frombuffer(pickle.dumps(FEATURES[0]), np.uint8)
        kind = h5py.vlen_dtype(np.uint8)
        file.create_dataset("features", (len(COORDS),), kind)[0] = pickled


def of_another_file(folder: Path) -> None:
    path = trident_file(folder, "s1", FEATURES, COORDS)
    put(folder / "elsewhere.bin", "features", FEATURES, 1)
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink("elsewhere.bin", "features")


def of_terabytes(folder: Path) -> None:
    path = trident_file(folder, "s1", FEATURES, COORDS)
    with h5py.File(path, "a") as file:
        del file["features"]
        file.create_dataset("features", (len(COORDS), 1 << 32), np.float32, chunks=(1, 1 << 16))


def npz_of_objects(folder: Path) -> None:
    path = slide2vec_file(folder, "s1", FEATURES, COORDS)
    np.savez(path, features=np.array([Evil()], object))


def pt_of_code(folder: Path) -> None:
    path = slide2vec_file(folder, "s1", FEATURES, COORDS, "pt")
    torch.save({"features": Evil()}, path)


def pt_of_a_plain_pickle(folder: Path) -> None:
    slide2vec_file(folder, "s1", FEATURES, COORDS, "pt").write_bytes(pickle.dumps(Evil()))


def npz_of_zeros(folder: Path) -> None:
    path = slide2vec_file(folder, "s1", FEATURES, COORDS)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", b"")
        archive.filelist[0].file_size = 1 << 40  # as its directory then claims


def a_link_out(folder: Path) -> None:
    path = lazyslide(folder, "s1", FEATURES, COORDS)
    (path / "tables" / "uni_tiles" / "linked").symlink_to("/etc/hostname")


def a_piece_that_unpacks_to_more(folder: Path) -> None:
    path = lazyslide(folder, "s1", FEATURES, COORDS)
    piece = next(p for p in (path / "tables/uni_tiles/X/c").rglob("*") if p.is_file())
    import numcodecs

    piece.write_bytes(numcodecs.Zstd().encode(bytes(FEATURES.nbytes * 50)))


def without_tiles(folder: Path) -> None:
    slide2vec_file(folder, "s1", FEATURES, COORDS)
    shutil.rmtree(folder / "tiles")


def without_patches(folder: Path) -> None:
    clam(folder, "s1", FEATURES, COORDS)
    shutil.rmtree(folder / "patches")


def of_a_whole_slide(folder: Path) -> None:
    path = trident_file(folder, "s1", FEATURES, COORDS)
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = FEATURES[0]


def nonsense_in_the_sidecar(folder: Path) -> None:
    path = slide2vec_file(folder, "s1", FEATURES, COORDS)
    path.with_name("s1.meta.json").write_text(json.dumps([1, 2]))


def an_endless_slide(folder: Path) -> None:
    slide2vec_file(folder, "s1", FEATURES, COORDS)
    sidecar = folder / "tiles" / "s1.coordinates.meta.json"
    sidecar.write_text(
        sidecar.read_text().replace(f'"dimensions": [{SIZE_PX}', '"dimensions": [1e999')
    )


def an_outline_that_does_not_close(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = lazyslide(folder, "s1", FEATURES, COORDS) / "shapes/tiles/shapes.parquet"
    table = parquet.read_table(path)
    outlines = table["geometry"].to_pylist()
    x, y = struct.unpack("<dd", outlines[0][-16:])
    outlines[0] = outlines[0][:-16] + struct.pack("<dd", x + 1, y)
    at = table.schema.get_field_index("geometry")
    parquet.write_table(table.set_column(at, "geometry", pa.array(outlines)), path)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil_was_run"),)


BAD: list[tuple[Change, str]] = [
    (with_values(number=np.nan), "not finite, first in field 7"),
    (with_values(number=np.inf), "not finite, first in field 7"),
    (with_values(corner=(1 << 40, 0)), "lie on no slide"),
    (with_values(corner=(SIDE * STEP * 2, 0)), "outside the slide"),
    *((truncated(program), "s1") for program in WRITERS),
    (of_objects, "objects, not numbers"),
    (of_another_file, "lies in another file"),
    (of_terabytes, "claims more than the file holds"),
    (npz_of_objects, "allow_pickle"),
    (pt_of_code, "more than tensors"),
    (pt_of_a_plain_pickle, "s1.pt cannot be read"),
    (npz_of_zeros, "cannot be read"),
    (a_link_out, "linked is neither a file nor a folder"),
    (a_piece_that_unpacks_to_more, "another size than it should"),
    (without_tiles, "has no coordinates"),
    (without_patches, "does not say how large its fields are"),
    (of_a_whole_slide, "one embedding of the whole slide"),
    (nonsense_in_the_sidecar, "no named entries"),
    (an_outline_that_does_not_close, "its tiles have no outlines"),
    (an_endless_slide, "cannot convert float infinity"),
]


@pytest.mark.parametrize(
    ("change", "said"), BAD, ids=[f"{i}-{said}" for i, (_, said) in enumerate(BAD)]
)
def test_bad_files_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    change(tmp_path / "given")
    with pytest.raises(EmbeddingsError) as caught, only(tmp_path / "given").open() as found:
        for _ in found.blocks():
            pass
    sentence = str(caught.value)
    assert said in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert not Path("evil_was_run").exists()


def test_a_folder_without_embeddings_says_what_could_be_there(tmp_path: Path) -> None:
    clam(tmp_path, "s1", FEATURES, COORDS)
    shutil.rmtree(tmp_path / "h5_files")  # patches/ and pt_files/ are left
    with pytest.raises(UsageError, match="neither HDF5 of TRIDENT or CLAM"):
        find_embeddings(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        find_embeddings(tmp_path / "nowhere")
