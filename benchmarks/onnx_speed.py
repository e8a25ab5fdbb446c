"""The network of a model by onnxruntime against PyTorch: the same fields, one core.

    python benchmarks/onnx_speed.py [--side 768]

`lite0` to b5 and b6 in float32 over one picture of tissue's colours, through the module that
``export --to onnx`` writes, and through PyTorch. Maps are compared first. CPU time, interleaved;
medians over rounds, and of the ratio within a round.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import torch
from common import finish, parser_of
from dense import made_image

from wsi_anomaly.detectors.onnx_files import _Maps
from wsi_anomaly.features import load_features

LAYERS = ("b5", "b6")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--side", type=int, default=768)
    options = parser.parse_args()
    torch.set_num_threads(1)
    image = made_image(options.side)[None]
    network = load_features("lite0").set_precision(torch.float32)
    maps = _Maps(SimpleNamespace(features=network), LAYERS, 0).eval()  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = str(Path(folder) / "network.onnx")
        with torch.backends.mkldnn.flags(enabled=False):  # its operators are none of ONNX
            torch.onnx.export(
                maps, (torch.from_numpy(image),), path, input_names=["image"], dynamo=True,
                output_names=list(LAYERS), verbose=False,
            )  # fmt: skip
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, settings, ["CPUExecutionProvider"])
        ways = {
            "pytorch": lambda: [m.numpy() for m in maps(torch.from_numpy(image))],
            "onnxruntime": lambda: session.run(None, {"image": image}),
        }
        first, second = (run() for run in ways.values())
        apart = max(
            float(np.abs(a - b).max() / a.std()) for a, b in zip(first, second, strict=True)
        )
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, run in ways.items():
                start = time.process_time()
                run()
                seconds[name].append(time.process_time() - start)
    ratios = [a / b for a, b in zip(seconds["pytorch"], seconds["onnxruntime"], strict=True)]
    result = {
        "side": options.side,
        "onnxruntime": onnxruntime.__version__,
        "largest_difference_in_spread": apart,
        **{f"{name}_s": statistics.median(values) for name, values in seconds.items()},
        "times_as_fast": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
    }
    finish(result, options.json)


if __name__ == "__main__":
    main()
