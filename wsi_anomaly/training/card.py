"""What a person reads beside a model: the model card and the training log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_anomaly.calibration import MIN_CASES
from wsi_anomaly.core.tables import table_text
from wsi_anomaly.core.wording import counted
from wsi_anomaly.detectors import Model
from wsi_anomaly.detectors.known import Known
from wsi_anomaly.detectors.stored_model import CARD
from wsi_anomaly.scoring.model import grid_of
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.training.splits import Split


def log_csv(log: Sequence[dict[str, Any]]) -> str:
    """Write the training log as a table, one report a line."""
    return table_text(list(log[0]), ([line.get(name) for name in log[0]] for line in log))


def calibration_facts(model: Model) -> str:
    """Say in a sentence or two what the model's scores can be compared with."""
    reference = model.calibration.get(model.primary)
    if reference is None:
        return "None: scores are raw, nothing is flagged. Run `wsi-anomaly calibrate`."
    text = (
        f"{counted(reference.n_cases, 'normal case')}, {counted(reference.n_slides, 'slide')}, "
        f"{counted(reference.n_fields, 'field')}. {promise_of(model)}"
    )
    return text + (" Percentiles are rough." if reference.n_cases < MIN_CASES else "")


def pictures_facts(model: Model) -> str:
    """Say which pictures of normal tissue a model holds."""
    examples = model.examples
    pictures = list(filter(None, examples.pictures)) if examples is not None else []
    if examples is None or not pictures:
        return "None."
    slides = sorted({name for name, p in zip(examples.slides, examples.pictures, strict=True) if p})
    return (
        f"{len(pictures)} small ones of normal tissue ({examples.field_um} um wide, "
        f"{sum(map(len, pictures)) / 1e6:.1f} MB), shown beside what is flagged, of "
        f"{', '.join(slides)}."
    )


def promise_of(model: Model) -> str:
    """Say what the flags of a model promise for a slide like those of its reference."""
    field_mm2 = (grid_of(model, None)["field_um"] / 1000) ** 2
    reference = model.calibration[model.primary]
    return reference.operating_point(field_mm2=field_mm2).reason


def keep_card(folder: Path, model: Model) -> tuple[str, dict[str, bytes]]:
    """Take over card and further files of a model that gets another calibration.

    Returns
    -------
    The card with its line on calibration brought up to date, and the files by path.
    """
    try:
        card = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        card = ""
    line = f"| Calibration | {calibration_facts(model)} |"
    card = re.sub(r"^\| Calibration \|.*$", lambda _found: line, card, flags=re.MULTILINE)
    further = [*folder.glob("*.png"), *folder.glob("*.csv"), *folder.glob("tensorboard/*/events.*")]
    files = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(further)
        # A link may lead out of a stranger's folder.
        if file.is_file() and file.resolve().is_relative_to(folder.resolve())
    }
    return card, files


_KNOWN = "## Known findings"


def known_card(card: str, known: Known) -> str:
    """Say in a model card what readers taught the model, in place of what it knew before."""
    lines = [
        f"| {finding.name} | {'harmless' if finding.harmless else 'abnormal'} | "
        f"{len(finding.cases)} | {len(set(finding.cases))} | "
        f"{'takes flags away' if finding.decides else 'a hint'} |"
        for finding in known.findings
    ]
    told = [
        f"- {r['slide']} (case {r['case']}): {r['verdict']}"
        f"{', ' + r['finding'] if r['finding'] else ''}; {r['reader']}, {r['time']}"
        for r in known.reviews
    ]
    rows, decided = "\n".join(lines), "\n".join(told)
    return f"""{card.partition(_KNOWN)[0].rstrip()}

{_KNOWN}

Learned from reviews, beside the reference, which is as it was. The model without them is the one
that `learn` was given.

| finding | readers called it | regions | cases | |
|---|---|---:|---:|---|
{rows}

Every reviewed region, and who decided:

{decided}
"""


def _learned(facts: Mapping[str, Any], part: str) -> str:
    return f"{counted(facts[f'{part}_cases'], 'case')}, {counted(facts[f'{part}_tiles'], 'tile')}"


def model_card(model: Model, config: TrainConfig, split: Split) -> str:
    """Write the model card, Markdown."""
    facts = model.provenance
    rows = [
        ("Looks at", f"{model.magnification}x, tiles of {model.tile_size} px"),
        ("Ranks by", f"`{model.primary}` (stored: {', '.join(model.methods)})"),
        ("Perceptual network", config.features),
        ("Stain", str(model.preprocessing["stain"])),
        ("Trained", f"{facts['trained']}, {facts['program']}"),
        ("Training", _learned(facts, "training")),
        ("Validation", _learned(facts, "validation")),
        ("Calibration", calibration_facts(model)),
        ("Pictures", pictures_facts(model)),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    cases = "\n".join(
        f"- {part}: {', '.join(getattr(split, part)) or 'none'}"
        for part in ("train", "validation", "calibration")
    )
    configuration = json.dumps(config.to_dict(), indent=2)
    return f"""# {model.name}

| | |
|---|---|
{table}

## Use

`wsi-anomaly score slide.tif --model THIS_FOLDER --heatmap`. A high score means: unlike the normal
tissue that the model has learned. It does not say what it is. The model knows only the organ,
stain and scanner of its training slides; for another scanner run `wsi-anomaly calibrate` with
normal slides of it. For research; not for diagnosis.

## Cases

No case is in two parts; calibration cases chose nothing.

{cases}

## Configuration

```json
{configuration}
```
"""
