"""wsi-anomaly and its peers on the same slide, in one run, on one core.

    python benchmarks/peers.py tiling [SLIDE] [--json tiling.json]
    python benchmarks/peers.py stain  [SLIDE] [--json stain.json]

Each peer gets an environment of its own, made from the package registry on the first run (some
GB, in the cache folder) and a process of its own, loaded before anything is timed. All processes
share one core. Every round runs all of them, one after the other; figures are medians of rounds
and ratios are medians of the ratios within a round, by CPU time. A peer that cannot be installed
or run is named with its error.

tiling: the same fields of the same slide, read and written. Three cases: 64 px at 10x from the
slide, which has no such level (resampled); 64 px from a copy of the slide at exactly 10x; 256 px
of the finest level. Goals: the fastest peer takes at least 1.5 times as long, the others 4 times,
where nothing is resampled.

stain: the same tiles, 64 px and 256 px. Goals: 6 times as many pixels as the fastest peer that
keeps its matrix, 10,000 times StainTools as documented.

Without SLIDE: the larynx slide of the project's data, or a drawn slide where that is missing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import REPOSITORY, find_slide, finish, parser_of
from peer_programs.environments import PEERS, python_of
from reading import at_exactly_10x

from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.stain import fit_profile, reference_target
from wsi_anomaly.tiles import plan_fields, read_fields
from wsi_anomaly.tiles.preprocessing import sample_tissue

PEER_PROGRAMS = REPOSITORY / "benchmarks" / "peer_programs"
TILING = {  # way: environment
    "ours": None,
    "bare_decode": None,
    "hs2p_tifffile": "hs2p",
    "hs2p_openslide": "hs2p",
    "lazyslide": "lazyslide",
    "lazyslide_fastslide": "lazyslide",
    "tiatoolbox": "tiatoolbox",
    "histolab": "histolab",
    "fastslide": "fastslide",
    "wsi_patching": "wsi-patching",
    "eozin": "eozin",
    "microtome": "microtome",
}
STAIN = {
    "ours_first_pass": None,
    "ours_table_warm": None,
    "log_exp_numpy": None,
    "torchstain_macenko": "torchstain",
    "stainx_macenko": "stainx",
    "torch_staintools_vahadane": "torch-staintools",
    "torch_staintools_macenko": "torch-staintools",
    "tiatoolbox_vahadane": "tiatoolbox",
    "tiatoolbox_fixed_matrix": "tiatoolbox",
    "staintools_fixed_matrix": "staintools",
    "staintools_default": "staintools",
}
REFERENCES = ("ours", "bare_decode", "ours_first_pass", "ours_table_warm")


class Peer:
    """A way in a process of its own."""

    def __init__(self, module: str, way: str, python: Path, job: Path, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
            "OPENBLAS_NUM_THREADS": "1",
        }
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(python), str(PEER_PROGRAMS / "worker.py"), module, way, str(job)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=environment,
            )  # fmt: skip
        self._answer()

    def run(self) -> dict[str, Any]:
        """Run once and return what it measured of itself."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            lines = [text for text in self.log.read_text().splitlines() if text.strip()]
            raise RuntimeError(lines[-1] if lines else f"exit code {self.process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def compete(
    module: str, ways: dict[str, str | None], jobs: dict[str, Path], rounds: int, cache: Path
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Run all rivals in turn; what each measured in every round, and why some did not run."""
    peers: dict[str, Peer] = {}
    failed: dict[str, str] = {}
    measured: dict[str, list[dict[str, Any]]] = {}
    folder = next(iter(jobs.values())).parent
    try:
        for way, peer in ways.items():
            try:
                python = Path(sys.executable) if peer is None else python_of(peer, cache)
                peers[way] = Peer(module, way, python, jobs[way], folder / f"{way}.log")
                peers[way].run()  # compiled, and in the page cache
                measured[way] = []
            except RuntimeError as error:
                failed[way] = str(error)
            print(f"{way}: {failed.get(way, 'ready')}", file=sys.stderr, flush=True)
        for _ in range(rounds):
            for way, found in measured.items():
                found.append(peers[way].run())
    finally:
        for peer in peers.values():
            peer.__exit__()
    return measured, failed


def ratio(of: Sequence[dict[str, Any]], to: Sequence[dict[str, Any]], key: str = "cpu_s") -> float:
    """Median of the ratios within a round."""
    return statistics.median(a[key] / b[key] for a, b in zip(of, to, strict=True))


def tiling_case(
    slide_file: Path, magnification: int, tile_px: int, rounds: int, cache: Path, folder: Path,
    mpp: float | None, ways: dict[str, str | None],
) -> dict[str, Any]:  # fmt: skip
    """One slide, one size of tile: all ways of reading its fields."""
    with open_slide(slide_file, mpp=mpp) as slide:
        level = slide.best_level(10 / magnification)
        downsample = slide.level_downsamples[level]
        # A whole number of pixels from field to field, on the level too: hs2p's super-tiles ask
        # for it, and to the others it is all one.
        read_px = round(64 / slide.mpp.x / downsample)
        step = round(read_px * downsample)
        fields = plan_fields(slide, find_tissue(slide), field_um=64, stride_um=step * slide.mpp.x)
        job = {
            "slide": str(slide_file), "magnification": magnification, "tile_px": tile_px,
            "mpp": 10 / magnification, "slide_mpp": slide.mpp.x, "level": level,
            "downsample": downsample, "level_downsamples": list(slide.level_downsamples),
            "read_px": read_px, "step_level0": step, "fields": str(folder / "fields.npy"),
        }  # fmt: skip
    np.save(job["fields"], fields.coords)
    jobs = {}
    for way in ways:
        jobs[way] = folder / f"{way}.json"
        out = folder / f"{way}.h5"
        jobs[way].write_text(json.dumps({**job, "out": str(out)}), encoding="utf-8")
    measured, failed = compete("tiling_ways", ways, jobs, rounds, cache)
    ours, bare = measured["ours"], measured["bare_decode"]
    return {
        "fields": len(fields),
        "tile_px": tile_px,
        "level": level,
        "read_px": read_px,
        "compressed_tiles": bare[0]["compressed_tiles"],
        "ways": {
            way: {
                "tiles": found[0].get("tiles"),
                "cpu_s": round(statistics.median(one["cpu_s"] for one in found), 3),
                "wall_s": round(statistics.median(one["wall_s"] for one in found), 3),
                "times_ours": round(ratio(found, ours), 2),
                "times_ours_wall": round(ratio(found, ours, "wall_s"), 2),
                "times_bare_decode": round(ratio(found, bare), 2),
                "peak_mb": round(found[-1]["peak_mb"]),
                **({} if way == "bare_decode" else _difference(folder, way, job)),
            }
            for way, found in measured.items()
        },
        "failed": failed,
    }


def _difference(folder: Path, way: str, job: dict[str, Any]) -> dict[str, Any]:
    """How far a way's pixels are from ours, grey levels, mean over all: the same places?"""
    import h5py

    with h5py.File(folder / "ours.h5") as file:
        ours = file[f"{job['magnification']}x"]["images"][:]
    with h5py.File(folder / f"{way}.h5") as file:
        if way == "ours":
            return {"shape": list(ours.shape), "difference": 0.0}
        theirs = np.empty_like(ours)
        theirs[file["index"][:]] = file["images"][:]
    away = np.abs(theirs.astype(np.int16) - ours).mean()
    return {"shape": list(theirs.shape), "difference": round(float(away), 2)}


def tiling(
    slide: Path, rounds: int, cache: Path, folder: Path, ways: dict[str, str | None]
) -> dict[str, Any]:
    """Run all cases of tiling."""
    copy = at_exactly_10x(slide, folder / "at_10x.tif")
    cases = {
        "64 px at 10x, resampled": (slide, 10, 64, None),
        "64 px at 10x, from a slide at 10x": (copy, 10, 64, None),
        # Called 0.25 um, so that all of its pixels are taken as they are.
        "256 px of the finest level": (slide, 40, 256, 0.25),
    }
    found = {}
    for number, (name, (path, magnification, side, mpp)) in enumerate(cases.items()):
        place = folder / str(number)
        place.mkdir()
        print(f"\n{name}", file=sys.stderr, flush=True)
        found[name] = tiling_case(path, magnification, side, rounds, cache, place, mpp, ways)
        print(json.dumps(found[name]), file=sys.stderr, flush=True)  # should the run be stopped
    return found


def stain(
    slide_file: Path, rounds: int, cache: Path, folder: Path, ways: dict[str, str | None]
) -> dict[str, Any]:
    """Tiles of 64 px at 10x and of 256 px at 40x, 2,000 and 125 of them."""
    result = {}
    with open_slide(slide_file) as slide:
        tissue = find_tissue(slide)
        source = fit_profile(sample_tissue(slide, tissue), white=tissue.white)
        for magnification, count in ((10, 2000), (40, 125)):
            side = 64 * magnification // 10
            fields = plan_fields(slide, tissue, field_um=64, max_tiles=count)
            tiles = np.concatenate(
                [
                    images
                    for _, images, _ in read_fields(
                        slide, fields, magnification=magnification, tile_size=side
                    )
                ]
            )
            place = folder / str(side)
            place.mkdir()
            np.save(place / "tiles.npy", tiles)
            middle = fields.coords[len(fields) // 2]
            picture = slide.read(float(middle[0]), float(middle[1]), (512, 512), 0.5)
            np.save(place / "target.npy", picture.rgb)
            job = {
                "tiles": str(place / "tiles.npy"), "target": str(place / "target.npy"),
                "source": source.to_dict(), "goal": reference_target().to_dict(),
            }  # fmt: skip
            file = place / "job.json"
            file.write_text(json.dumps(job), encoding="utf-8")
            print(f"\n{len(tiles)} tiles of {side} px", file=sys.stderr, flush=True)
            measured, failed = compete("stain_ways", ways, dict.fromkeys(ways, file), rounds, cache)
            for found in measured.values():
                for one in found:
                    one["s_per_mpixel"] = one["cpu_s"] / one["pixels"] * 1e6
            result[f"{side} px"] = {
                "tiles": len(tiles),
                "ways": {
                    way: {
                        "pixels": found[0]["pixels"],
                        "MPixel_per_s": float(
                            f"{1 / statistics.median(o['s_per_mpixel'] for o in found):.3g}"
                        ),
                        **{
                            f"times_{name}": float(
                                f"{ratio(found, measured[own], 's_per_mpixel'):.3g}"
                            )
                            for name, own in (
                                ("ours_first_pass", "ours_first_pass"),
                                ("ours_table_warm", "ours_table_warm"),
                            )
                        },
                    }
                    for way, found in measured.items()
                },
                "failed": failed,
            }
    return result


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=["tiling", "stain"])
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument(
        "--cache", type=Path, help="environments of the peers",
        default=Path.home() / ".cache" / "wsi-anomaly-peers",
    )  # fmt: skip
    parser.add_argument("--ways", nargs="+", help="only ours, the bare decode and these")
    asked = parser.parse_args()
    of_all = TILING if asked.what == "tiling" else STAIN
    kept = of_all if asked.ways is None else [*asked.ways, *REFERENCES]
    ways = {way: of_all[way] for way in of_all if way in kept}
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # installers and rivals inherit it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = asked.slide or find_slide(folder)
        cases = (tiling if asked.what == "tiling" else stain)(
            slide, asked.rounds, asked.cache.expanduser(), folder, ways
        )
    versions = {name: peer.version for name, peer in PEERS.items()}
    finish(
        {"slide": slide.name, "rounds": asked.rounds, "versions": versions, "cases": cases},
        asked.json,
    )


if __name__ == "__main__":
    main()
