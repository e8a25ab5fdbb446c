"""A DICOM slide as scanners write it: a series of files, one a level, and label and macro."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid


def write_series(folder: Path, image: np.ndarray, *, mpp: float = 0.5, seed: str = "") -> Path:
    """Write a slide of five files; the volume's finest is ``finest.dcm``, neither first nor last.

    The UIDs are made of the seed: another seed is another slide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uids = {name: generate_uid(entropy_srcs=[name, seed]) for name in ("study", "series", "frame")}
    for name, kind, scale in (
        ("a_level", "RESAMPLED", 4), ("finest", "NONE", 1), ("level", "RESAMPLED", 2),
    ):  # fmt: skip
        level = np.asarray(Image.fromarray(image).reduce(scale))
        _instance(folder / f"{name}.dcm", level, kind, mpp * scale, uids)
    for kind in ("LABEL", "OVERVIEW"):
        picture = np.full((256, 256, 3), 210, np.uint8)
        _instance(folder / f"{kind.lower()}.dcm", picture, kind, 10.0, uids)
    return folder / "finest.dcm"


def _frames(image: np.ndarray, side: int = 256) -> list[bytes]:
    frames = []
    for top in range(0, image.shape[0], side):
        for left in range(0, image.shape[1], side):
            part = image[top : top + side, left : left + side]
            tile = np.full((side, side, 3), 255, np.uint8)
            tile[: part.shape[0], : part.shape[1]] = part
            file = io.BytesIO()
            Image.fromarray(tile).save(file, "JPEG", quality=90, subsampling=0)
            frames.append(file.getvalue())
    return frames


def _instance(path: Path, image: np.ndarray, kind: str, mpp: float, uids: dict[str, str]) -> None:
    height, width = image.shape[:2]
    is_volume = kind in ("NONE", "RESAMPLED")
    frames = _frames(image)
    data, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    meta.MediaStorageSOPClassUID = data.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    data.SOPInstanceUID = generate_uid(entropy_srcs=[path.name, uids["series"]])
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = uids["study"], uids["series"]
    data.FrameOfReferenceUID = uids["frame"]
    data.PatientID = data.PatientName = "x"
    data.Modality = "SM"
    data.ImageType = [
        "DERIVED" if kind == "RESAMPLED" else "ORIGINAL", "PRIMARY",
        "VOLUME" if is_volume else kind, kind if is_volume else "NONE",
    ]  # fmt: skip
    data.Rows = data.Columns = 256
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
    data.TotalPixelMatrixFocalPlanes = data.NumberOfOpticalPaths = 1
    data.NumberOfFrames = len(frames)
    data.SamplesPerPixel, data.PhotometricInterpretation = 3, "YBR_FULL_422"
    data.PlanarConfiguration = data.PixelRepresentation = 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.DimensionOrganizationType = "TILED_FULL"
    data.ImagedVolumeWidth, data.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    data.ImagedVolumeDepth = 0.001
    path_of_light, group, measures, origin = Dataset(), Dataset(), Dataset(), Dataset()
    path_of_light.OpticalPathIdentifier, path_of_light.ObjectiveLensPower = "1", "20"
    data.OpticalPathSequence = Sequence([path_of_light])
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000] * 2, 0.001
    group.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([group])
    origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 0
    data.TotalPixelMatrixOriginSequence = Sequence([origin])
    data.ImageOrientationSlide = [0, 1, 0, 1, 0, 0]
    data.LossyImageCompression = "01"
    data.BurnedInAnnotation = data.SpecimenLabelInImage = "NO"
    data.PixelData = encapsulate(frames)
    data["PixelData"].is_undefined_length = True
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True, little_endian=True, implicit_vr=False)
