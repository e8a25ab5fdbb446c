"""``wsi-anomaly learn``: what readers decided becomes known findings of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

from wsi_anomaly.cli.common import (
    PATH,
    common_options,
    console,
    device_option,
    embeddings_option,
    noting,
    option_of,
    say,
)
from wsi_anomaly.core.wording import counted
from wsi_anomaly.options import LearnKeywords, LearnOptions


@click.command()
@click.argument("results", type=PATH, default=Path("results"))
@click.option(
    "--model", type=PATH, default=Path("model"), show_default=True, help="Folder of the model."
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="Folder of the model that knows the findings.",
)
@option_of(LearnOptions)(
    "--cases",
    type=PATH,
    help="Lines of slide,case: slides of one patient or animal count as one. Without it every "
    "slide is a case of its own.",
)
@option_of(LearnOptions)(
    "--slides",
    type=PATH,
    help="Folder in which the slides lie now, if they are not where they were scored.",
)
@embeddings_option(LearnOptions, "Embeddings that the results were scored from, if they were.")
@device_option(LearnOptions)
@common_options
def command(
    *,
    results: Path,
    model: Path,
    output: Path,
    verbosity: int = 0,
    **flags: Unpack[LearnKeywords],
) -> int:
    r"""Learn from reviews what is harmless, and what is abnormal.

    RESULTS is a folder of results with reviews (wsi-anomaly view --reader NAME). Normal variants
    and artefacts become classes beside the model's reference, which stays as it is, and so does
    the model: another one is written. With it score flags no region that is like a harmless class
    of at least 5 reviewed regions of 3 cases, and like nothing abnormal. Such regions stay in
    worklist, overlay and report as taken away; score --all-flags flags them again. Smaller classes
    are hints beside a flag. No flag is added. The slides that were learned from count as seen.

    \b
    Examples:
      wsi-anomaly learn results/ --model model -o model_reviewed
      wsi-anomaly learn results/ --cases animals.csv -o model_reviewed
      wsi-anomaly score new/ --model model_reviewed -o results_new
    """
    from wsi_anomaly import api
    from wsi_anomaly.training.run import Watch

    out = console(verbosity)
    watch = Watch(note=noting(out))
    made = api.learn(results, model, output=output, options=LearnOptions(**flags), watch=watch)
    for finding in made.known.findings:
        kind = "harmless" if finding.harmless else "abnormal"
        count = (
            f"{counted(len(finding.cases), 'region')} of {counted(len(set(finding.cases)), 'case')}"
        )
        say(
            out,
            f"{finding.name} ({kind}): {count}; "
            f"{'takes flags away' if finding.decides else 'a hint'}",
        )
    (gone, harmless), (lost, abnormal) = made.held_out.harmless, made.held_out.abnormal
    say(
        out,
        f"On cases left out one at a time: {gone} of {counted(harmless, 'harmless region')} "
        f"taken away, {lost} of {counted(abnormal, 'abnormal one')}; before, none is.",
    )
    say(out, f"Model in {made.folder}/; the one in {model}/ is as it was.")
    return 0
