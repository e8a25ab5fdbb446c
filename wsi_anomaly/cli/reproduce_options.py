"""Options of ``wsi-anomaly reproduce``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from wsi_anomaly.cli.common import PATH, output_option

F = TypeVar("F", bound=Callable[..., Any])

SETS = (
    "camelyon16", "nih", "cifar10", "svhn", "chest", "oral", "glas", "synthetic", "folder",
)  # fmt: skip


def _names(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Several names in one value are parted by commas."""
    return tuple(name.strip() for text in value for name in text.split(",") if name.strip())


def _pairs(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in value:
        name, sign, given = text.partition("=")
        if not sign:
            raise click.BadParameter(f"give ROW.NAME=VALUE, not {text!r}")
        found[name] = given
    return found


_OPTIONS = (
    output_option("reproduce", "Folder; each set gets its own inside."),
    click.option(
        "--rows",
        multiple=True,
        metavar="ROWS",
        callback=_names,
        help="Methods and controls, parted by commas.  [default: dpa, density, fusion, deep-if, "
        "deep-geo, piad, and the controls that cost little]",
    ),
    click.option(
        "--ablation", is_flag=True, help="The six rows of the paper's ablation, and no other."
    ),
    click.option(
        "--classes",
        multiple=True,
        metavar="CLASSES",
        callback=_names,
        help="Normal classes (cifar10, svhn) or parts (nih: subset, PA, AP), parted by commas.  "
        "[default: all that the data allow]",
    ),
    click.option(
        "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Seeds 0, 1, ..."
    ),
    click.option(
        "--fraction",
        type=float,
        default=1.0,
        show_default=True,
        help="Share of the published length of every training.",
    ),
    click.option("--steps", type=int, help="Length of every training, instead of --fraction."),
    click.option("--batch-size", type=int, help="Images in a step.  [default: as published]"),
    click.option(
        "--option",
        "options",
        multiple=True,
        metavar="ROW.NAME=VALUE",
        callback=_pairs,
        help="Another value than its usual one for a detector, such as deep-geo.width=1 or "
        "density.estimator=knn; may be repeated.",
    ),
    click.option("--learn", type=int, help="At most so many normal images to learn from."),
    click.option(
        "--judge",
        type=int,
        help="At most so many normal and as many abnormal images to judge, the same for every row.",
    ),
    click.option(
        "--aside",
        type=float,
        default=0.1,
        show_default=True,
        help="Share of the normal images that is set aside to weigh the fusion and to choose by.",
    ),
    click.option("--size", type=int, help="Side of the images in px.  [default: as published]"),
    click.option(
        "--features",
        default="vgg19",
        show_default=True,
        help="Perceptual network: vgg19 (the paper's; torchvision downloads it), compact, "
        "squeezenet, resnet, timm:MODEL.",
    ),
    click.option(
        "--feature-weights", "weights", type=PATH, help="File with the weights of --features."
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Number format of the network; float32 is the paper's, bfloat16 is faster where the "
        "processor has it.",
    ),
    click.option(
        "--splits",
        type=PATH,
        help="The authors' lists of training and test images (camelyon16, nih): the folder folds/ "
        "of their repository.",
    ),
    click.option(
        "--on",
        "on",
        type=click.Choice(SETS),
        default="folder",
        show_default=True,
        help="For supervision: what DATA is.",
    ),
    click.option("--workers", type=click.IntRange(min=1), help="Processes that tile camelyon16."),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        help="cpu, cuda, or auto: a GPU if there is one.",
    ),
)


def reproduce_options(function: F) -> F:
    """Add all options of the command but those that every command shares."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
