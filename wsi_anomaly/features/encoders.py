"""Pathology encoders: vision transformers of timm (an extra), one vector for a whole field.

A field of any size is brought to the encoder's own input; the vector is the network's only layer,
``embedding``. Their makers publish the weights, mostly gated (docs/how-to/pathology-encoders.md);
none are shipped. Architectures, scaling and pooling are those of the model cards at
``huggingface.co/<page>`` and, where a card is gated, of what loads their files with every key
checked: TRIDENT (``github.com/mahmoodlab/TRIDENT``, ``trident/patch_encoder_models/load.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import CLIP, H_OPTIMUS, IMAGENET, InputScaling
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec
from wsi_anomaly.features.timm_models import import_timm
from wsi_anomaly.features.weights import read_weights

LAYER = "embedding"
AT_ONCE = 64
"""Fields that pass an encoder together: a GPU is busy with them, and memory is bounded."""

_NC = "CC BY-NC-ND 4.0, not for commercial use"


@dataclass(frozen=True)
class Encoder:
    """One encoder as published.

    Attributes
    ----------
    model, options
        timm's name of the architecture, and what the encoder changes in it.
    page
        Where ``huggingface.co`` has it.
    licence
        Of the weights.
    gated
        Whether that page gives the weights only to those whom the makers let in.
    file
        File of that page with the weights.
    scaling, side
        What the weights expect: colours, and width and height in px.
    patch_mean
        The mean of the patch tokens follows the class token.
    swiglu
        The blocks have SwiGLU in place of an MLP.
    queries
        An attentional pooling of this width takes the place of the class token.
    convert
        Turns the published names of the weights into those of :class:`WholeField`.
    """

    model: str
    page: str
    licence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    gated: bool = True
    file: str = "pytorch_model.bin"
    scaling: InputScaling = IMAGENET
    side: int = 224
    patch_mean: bool = False
    swiglu: bool = False
    queries: int | None = None
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None

    def notice(self) -> str:
        """Say what a user must know of the licence, in one sentence."""
        access = ", which grants access" if self.gated else ""
        return (
            f"{self.licence}; weights from huggingface.co/{self.page}{access}; a model folder "
            "holds a copy of them, under the same terms"
        )


class AttentionPool(nn.Module):
    """CONCH's contrastive pooling: one learned query looks at all tokens."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, width))
        self.attn = nn.MultiheadAttention(width, 8, kdim=inputs, vdim=inputs, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(inputs)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, inputs) to (N, width)."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), 1, -1)
        pooled: Tensor = self.norm(self.attn(query, keys, keys, need_weights=False)[0][:, 0])
        return pooled


class WholeField(nn.Module):
    """An encoder's transformer and pooling, for fields of any size."""

    def __init__(self, name: str) -> None:
        super().__init__()
        timm = import_timm(name)
        encoder = ENCODERS[name]
        # All but CONCH have LayerScale. Its makers start it at 1e-5, so that random weights would
        # not see the image.
        options = {"init_values": 1.0 if encoder.queries is None else None, **encoder.options}
        if encoder.swiglu:
            options |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
        self.side, self.patch_mean = encoder.side, encoder.patch_mean
        self.vit: Any = timm.create_model(
            encoder.model, num_classes=0, global_pool="", img_size=self.side, **options
        )
        self.pool: nn.Module | None = None
        if encoder.queries is not None:
            self.pool = AttentionPool(self.vit.embed_dim, encoder.queries)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), scaled, to (N, D, 1, 1)."""
        found = torch.cat([self._embed(part) for part in torch.split(images, AT_ONCE)])
        return found[:, :, None, None]

    def _embed(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.side, self.side):
            size = (self.side, self.side)
            resized = functional.interpolate(images.float(), size, mode="bicubic", antialias=True)
            images = resized.to(images.dtype)
        tokens: Tensor = self.vit.forward_features(images)
        if self.pool is not None:
            pooled: Tensor = self.pool(tokens)
            return pooled
        if self.patch_mean:
            patches = tokens[:, self.vit.num_prefix_tokens :]
            return torch.cat([tokens[:, 0], patches.mean(1)], 1)
        return tokens[:, 0]


# -- names of published weights ------------------------------------------------------------------

_UNUSED = ("head.", "mask_token")
"""Of a classifier, and of the training with hidden patches."""


def from_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys in timm's layout to those of :class:`WholeField`; classifier and mask are left out."""
    return {f"vit.{key}": v for key, v in weights.items() if not key.startswith(_UNUSED)}


_TRANSFORMERS = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("layernorm.", "norm."),
    ("encoder.layer.", "blocks."),
    (".attention.output.dense.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
)


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of the package transformers' Dinov2Model; query, key and value become one matrix."""
    found: dict[str, Tensor] = {}
    for full, value in weights.items():
        key = full
        for theirs, timms in _TRANSFORMERS:
            key = key.replace(theirs, timms)
        found[key] = value
    for key in [key for key in found if ".attention.attention.query." in key]:
        parts = [key.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in found for part in parts):
            whole = torch.cat([found.pop(part) for part in parts])
            found[key.replace(".attention.attention.query.", ".attn.qkv.")] = whole
    return from_timm(found)


_CONCH = (
    ("visual.trunk.", "vit."),
    ("visual.attn_pool_contrast.", "pool."),
    ("visual.ln_contrast.", "pool.norm."),
)
_CONCH_UNUSED = (
    "text.", "text_decoder.", "logit_scale", "visual.attn_pool_caption.", "visual.ln_caption.",
    "visual.proj_contrast",
)  # fmt: skip


def from_conch(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of CONCH; what belongs to text and to the projection beside it is left out."""
    found: dict[str, Tensor] = {}
    for full, value in weights.items():
        key = full.removeprefix("module.")
        if key.startswith(_CONCH_UNUSED):
            continue
        for theirs, ours in _CONCH:
            if key.startswith(theirs):
                key = ours + key.removeprefix(theirs)
                break
        found[key] = value
    return found


# -- the encoders --------------------------------------------------------------------------------

ENCODERS: dict[str, Encoder] = {
    "uni": Encoder("vit_large_patch16_224", "MahmoodLab/UNI", _NC),
    "uni2-h": Encoder(
        "vit_giant_patch14_224",
        "MahmoodLab/UNI2-h",
        _NC,
        {
            "embed_dim": 1536,
            "depth": 24,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
            "reg_tokens": 8,
            "no_embed_class": True,
        },
        swiglu=True,
    ),
    "virchow2": Encoder(
        "vit_huge_patch14_224",
        "paige-ai/Virchow2",
        _NC,
        {"mlp_ratio": 5.3375, "reg_tokens": 4},
        patch_mean=True,
        swiglu=True,
    ),
    "h-optimus-0": Encoder(
        "vit_giant_patch14_reg4_dinov2",
        "bioptimus/H-optimus-0",
        "Apache-2.0",
        gated=False,
        scaling=H_OPTIMUS,
    ),
    "h-optimus-1": Encoder(
        "vit_giant_patch14_reg4_dinov2", "bioptimus/H-optimus-1", _NC, scaling=H_OPTIMUS
    ),
    "gigapath": Encoder(
        "vit_giant_patch14_dinov2",
        "prov-gigapath/prov-gigapath",
        "Apache-2.0, for research",
        {"patch_size": 16},
    ),
    "phikon-v2": Encoder(
        "vit_large_patch16_224",
        "owkin/phikon-v2",
        "Owkin's own licence, not for commercial use",
        gated=False,
        file="model.safetensors",
        convert=from_transformers,
    ),
    "h0-mini": Encoder(
        "vit_base_patch14_reg4_dinov2",
        "bioptimus/H0-mini",
        _NC,
        {"mlp_ratio": 5.33334},
        file="model.safetensors",
        scaling=H_OPTIMUS,
        patch_mean=True,
        swiglu=True,
    ),
    # github.com/mahmoodlab/CONCH, conch/open_clip_custom: vision_tower.py and its configuration.
    "conch": Encoder(
        "vit_base_patch16_224",
        "MahmoodLab/CONCH",
        _NC,
        scaling=CLIP,
        side=448,
        queries=512,
        convert=from_conch,
    ),
}


def _published(name: str) -> Mapping[str, Tensor]:
    """Weights from the encoder's page, by the hub's client, which comes with timm."""
    import_timm(name)
    from huggingface_hub import hf_hub_download

    encoder = ENCODERS[name]
    try:
        path = hf_hub_download(encoder.page, encoder.file)
    except Exception as error:  # the client raises errors of several libraries
        raise ModelError(
            f"The weights of {name} could not be downloaded ({type(error).__name__}): get access "
            f"at huggingface.co/{encoder.page} and log in with `hf auth login`, or give "
            f"{encoder.file} of that page with --feature-weights FILE."
        ) from error
    return read_weights(Path(path))


def _register(name: str) -> None:
    @NETWORKS.register(name)
    def spec() -> NetworkSpec:
        encoder = ENCODERS[name]
        rename = encoder.convert or from_timm
        return NetworkSpec(
            lambda: [Stage(LAYER, WholeField(name))],
            encoder.scaling,
            default_layer=LAYER,
            published=lambda: _published(name),
            convert=lambda weights, _: {f"{LAYER}.{k}": v for k, v in rename(weights).items()},
            of_tissue=True,
            licence=encoder.notice(),
        )


for _name in ENCODERS:
    _register(_name)
