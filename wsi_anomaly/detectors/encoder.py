"""Who makes the embeddings that a model judges: another program's encoder, or a network of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.detectors.model import Model
from wsi_anomaly.features.external import encoder_of


@dataclass(frozen=True)
class Encoder:
    """What embeddings must be like for a model.

    Attributes
    ----------
    name
        Who makes them; "" where nobody has said.
    width
        Numbers of an embedding.
    field_um
        Side of an embedded field.
    outside
        Whether another program makes them.
    """

    name: str
    width: int
    field_um: int
    outside: bool

    @classmethod
    def of(cls, model: Any) -> Encoder:
        """Say what a model judges.

        Raises
        ------
        EmbeddingsError
            It does not judge embeddings of fields of one size.
        """
        one_size = isinstance(model, Model) and len(model.fields_um) == 1
        if not one_size or model.primary in model.tile_methods:
            raise EmbeddingsError(
                f"The model {model.name} does not rank by embeddings of fields of one size; make "
                "one with wsi-anomaly train --embeddings FOLDER, and name it with --model."
            )
        [um], detector = model.fields_um, model.judge_of_fields
        outside = encoder_of(model.features)
        layers = "+".join(detector.layers)
        own = f"wsi-anomaly {model.features.name} {layers} {model.magnification}x "
        return cls(
            own + str(model.preprocessing["stain"]) if outside is None else outside,
            len(detector.state_[f"{um}um.mean"]),
            um,
            outside is not None,
        )


def learned_from_embeddings(model: Any) -> bool:
    """Whether a model has learned from another program's embeddings, and sees no pixels."""
    return isinstance(model, Model) and encoder_of(model.features) is not None
