"""Pathology encoders: their makers' architectures, and files that fit whole or are refused.

None of their weights are at hand: the files are random ones, written by timm in the right shape,
of encoders made narrow and shallow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.detectors.density import Density, DensityConfig
from wsi_anomaly.features import InputScaling, features_from_state, load_features
from wsi_anomaly.features.encoders import ENCODERS, WholeField

timm = pytest.importorskip("timm", reason="timm is an extra")

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAINED = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# Name: parameters in millions and length of the embedding, both as published, side, scaling.
PUBLISHED = {
    "uni": (303, 1024, 224, IMAGENET),
    "uni2-h": (681, 1536, 224, IMAGENET),
    "virchow2": (631, 2560, 224, IMAGENET),
    "h-optimus-0": (1135, 1536, 224, STAINED),
    "h-optimus-1": (1135, 1536, 224, STAINED),
    "gigapath": (1135, 1536, 224, IMAGENET),
    "phikon-v2": (303, 1024, 224, IMAGENET),
    "h0-mini": (86, 1536, 224, STAINED),
    "conch": (87, 512, 448, CLIP),
}
FULL_SIZE = dict(ENCODERS)
WIDTH = 96
SMALL = {"embed_dim": WIDTH, "depth": 2, "num_heads": 4}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every encoder narrow and shallow; all else stays."""
    for name, encoder in ENCODERS.items():
        queries = encoder.queries and 64
        changed = replace(encoder, options={**encoder.options, **SMALL}, queries=queries)
        monkeypatch.setitem(ENCODERS, name, changed)


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter a size that shows in the output; LayerScale starts next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            if "gamma" in name or ("norm" in name and name.endswith("weight")):
                parameter.add_(1)
    return module.eval()


def transformer(name: str, **options: Any) -> Any:
    """timm's own network of an encoder, as its users make it."""
    encoder = ENCODERS[name]
    gated = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU} if encoder.swiglu else {}
    scale = {} if name == "conch" else {"init_values": 1e-5}
    options = {**scale, **encoder.options, **gated, "img_size": encoder.side, **options}
    return drawn(timm.create_model(encoder.model, num_classes=0, global_pool="", **options))


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Timm's names and tensors as transformers' Dinov2Model has them."""
    found = {"embeddings.mask_token": torch.zeros(1, WIDTH)}
    for timms, value in state.items():
        if ".attn.qkv." in timms:
            block, kind = timms.removeprefix("blocks.").split(".attn.qkv.")
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                place = f"encoder.layer.{block}.attention.attention.{part}.{kind}"
                found[place] = third.contiguous()
            continue
        key = timms
        for ours, theirs in (
            ("cls_token", "embeddings.cls_token"),
            ("pos_embed", "embeddings.position_embeddings"),
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("blocks.", "encoder.layer."),
            ("attn.proj", "attention.output.dense"),
            ("ls1.gamma", "layer_scale1.lambda1"),
            ("ls2.gamma", "layer_scale2.lambda1"),
        ):
            key = key.replace(ours, theirs)
        found[key.replace("norm.", "layernorm.") if timms.startswith("norm.") else key] = value
    return found


def published_file(name: str, path: Path, **options: Any) -> tuple[Any, dict[str, Tensor]]:
    """Write what the maker would; return timm's network and the file's tensors."""
    vit = transformer(name, **options)
    state = vit.state_dict()
    if name == "phikon-v2":
        state = as_transformers(state)
    if name == "conch":
        pool = drawn(WholeField("conch").pool).state_dict()  # type: ignore[arg-type]
        state = {f"visual.trunk.{key}": value for key, value in state.items()}
        for key, value in pool.items():
            ln = f"visual.ln_contrast.{key[5:]}" if key.startswith("norm.") else ""
            state[ln or f"visual.attn_pool_contrast.{key}"] = value
        state["text.token_embedding.weight"] = torch.zeros(3, 8)
        state["visual.proj_contrast"] = torch.zeros(64, 64)
        state["logit_scale"] = torch.zeros(())
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return vit, state


def pictures(count: int = 2, side: int = 96) -> Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_has_the_size_input_and_embedding_that_its_makers_publish(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, name, FULL_SIZE[name])
    millions, length, side, (mean, std) = PUBLISHED[name]
    with torch.device("meta"):
        network = WholeField(name)
        found = network(torch.zeros(1, 3, side, side))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == pytest.approx(
        millions, rel=0.02
    )
    assert found.shape == (1, length, 1, 1)
    assert network.side == side
    assert ENCODERS[name].scaling == InputScaling(mean, std)


def test_the_table_and_the_tests_name_the_same_encoders() -> None:
    assert set(PUBLISHED) == set(ENCODERS)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_the_embedding_is_that_of_timms_own_forward_pass(
    name: str, suffix: str, tmp_path: Path
) -> None:
    vit, state = published_file(name, tmp_path / f"weights{suffix}")
    network = load_features(name, weights=tmp_path / f"weights{suffix}")
    assert network.layers == ("embedding",)
    assert network.fields is None
    found = network.activations(2 * pictures() - 1, ["embedding"])["embedding"]

    _, _, side, (mean, std) = PUBLISHED[name]
    x = functional.interpolate(pictures(), (side, side), mode="bicubic", antialias=True)
    tokens = vit((x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    expected = tokens[:, 0]
    if name in ("virchow2", "h0-mini"):
        # 256 patches of 14 px; before them the class token and four registers.
        assert tokens.shape[1] == 1 + 4 + 256
        expected = torch.cat([expected, tokens[:, 5:].mean(1)], 1)
    if name == "conch":
        expected = contrastive(tokens, state)
    torch.testing.assert_close(found[:, :, 0, 0], expected, rtol=1e-5, atol=1e-5)
    assert float(found.std(0).max()) > 1e-3  # it sees the image


def contrastive(tokens: Tensor, state: dict[str, Tensor]) -> Tensor:
    """CONCH's attentional pooling, by its formula: eight heads, one query, then a norm."""
    own = {
        key.removeprefix("visual.attn_pool_contrast."): value
        for key, value in state.items()
        if key.startswith("visual.attn_pool_contrast.")
    }
    keys = functional.layer_norm(tokens, (WIDTH,), own["ln_k.weight"], own["ln_k.bias"])
    query = functional.layer_norm(own["query"], (64,), own["ln_q.weight"], own["ln_q.bias"])
    bias = own["attn.in_proj_bias"].chunk(3)
    q, k, v = (
        (x @ own[f"attn.{part}_proj_weight"].T + b).unflatten(-1, (8, 8)).transpose(-3, -2)
        for part, x, b in zip("qkv", (query, keys, keys), bias, strict=True)
    )
    mixed = functional.scaled_dot_product_attention(q.expand(len(tokens), -1, -1, -1), k, v)
    out = mixed.transpose(1, 2).flatten(-2)[:, 0]
    out = out @ own["attn.out_proj.weight"].T + own["attn.out_proj.bias"]
    norm = state["visual.ln_contrast.weight"], state["visual.ln_contrast.bias"]
    return functional.layer_norm(out, (64,), *norm)


def test_many_fields_pass_in_parts_and_gradients_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_file("h0-mini", tmp_path / "h0.pth")
    network = load_features("h0-mini", weights=tmp_path / "h0.pth")
    images = (2 * pictures(5) - 1).requires_grad_()
    whole = network.activations(images, ["embedding"])["embedding"]
    monkeypatch.setattr("wsi_anomaly.features.encoders.AT_ONCE", 2)
    parts = network.activations(images, ["embedding"])["embedding"]
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    parts.sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert float(images.grad.abs().amax((1, 2, 3)).min()) > 0


@torch.no_grad()
def test_in_half_precision_it_is_the_same_within_its_rounding(tmp_path: Path) -> None:
    published_file("uni", tmp_path / "uni.pth")
    network = load_features("uni", weights=tmp_path / "uni.pth")
    full = network.activations(2 * pictures() - 1, ["embedding"])["embedding"]
    network.set_precision(torch.bfloat16)
    half = network.activations(2 * pictures() - 1, ["embedding"])["embedding"]
    assert half.dtype == torch.bfloat16
    assert float((half.float() - full).abs().mean()) < 0.05 * float(full.std())


def test_a_detector_is_fitted_and_the_network_is_stored_with_its_statistics(tmp_path: Path) -> None:
    published_file("virchow2", tmp_path / "v.pth")
    network = load_features("virchow2", weights=tmp_path / "v.pth")
    assert not network.has_statistics("embedding")
    tiles = (255 * pictures(24, 32).permute(0, 2, 3, 1)).byte().numpy()
    detector = Density(network, DensityConfig(("embedding",)))
    detector.fit(Images(tiles))  # type: ignore[arg-type]
    assert network.has_statistics("embedding")
    copy = features_from_state(*network.to_state(), "the model")
    images = 2 * pictures() - 1
    with torch.no_grad():
        one, other = (n(images, ["embedding"])["embedding"] for n in (network, copy))
    torch.testing.assert_close(one, other)


class Images:
    """Tiles as training hands them over."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Any) -> Any:
        return self.images[indices]


# -- files that do not fit ----------------------------------------------------------------------


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def _nan(state: dict[str, Tensor]) -> None:
    state["blocks.1.mlp.fc1.weight"][3, 3] = torch.nan


BAD: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "half of it": lambda state: [state.pop(k) for k in list(state) if k.startswith("blocks.1.")],
    "no LayerScale": lambda state: [state.pop(k) for k in list(state) if "gamma" in k],
    "a part of a block": lambda state: state.pop("blocks.0.attn.qkv.bias"),
    "more blocks": lambda state: state.update({"blocks.2.norm1.weight": torch.ones(WIDTH)}),
    "an adapter": lambda state: state.update({"blocks.0.attn.qkv.lora_A": torch.ones(4, WIDTH)}),
    "another grid": lambda state: state.update(pos_embed=torch.zeros(1, 257, WIDTH)),
    "another width": lambda state: state.update({"norm.weight": torch.ones(128)}),
}


@pytest.mark.parametrize("damage", BAD)
def test_a_file_that_does_not_fit_whole_is_refused_in_one_sentence(
    damage: str, tmp_path: Path
) -> None:
    _, state = published_file("uni", tmp_path / "uni.pth")
    BAD[damage](state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match="does not fit the network uni") as caught:
        load_features("uni", weights=tmp_path / "bad.pth")
    assert "bad.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"h-optimus-0", "h0-mini"}))
def test_another_encoders_file_is_refused(name: str, tmp_path: Path) -> None:
    published_file("h-optimus-0", tmp_path / "h.pth")
    if name == "h-optimus-1":
        # Of one architecture (as h0-mini is, once both are made narrow): nothing tells them apart.
        load_features(name, weights=tmp_path / "h.pth")
        return
    with pytest.raises(ModelError, match=f"does not fit the network {name}"):
        load_features(name, weights=tmp_path / "h.pth")


def test_nan_a_torn_file_and_a_pickle_with_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "uni.pth"
    _, state = published_file("uni", path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="damaged"):
        load_features("uni", weights=path)
    torch.save({**state, "norm.bias": _Runs(tmp_path / "ran")}, path)
    with pytest.raises(ModelError, match="holds more than tensors"):
        load_features("uni", weights=path)
    assert not (tmp_path / "ran").exists()
    _nan(state)
    torch.save(state, path)
    with pytest.raises(ModelError, match="NaN"):
        load_features("uni", weights=path)


def test_a_classifier_and_the_mask_of_the_training_are_passed_over(tmp_path: Path) -> None:
    _, state = published_file("uni", tmp_path / "uni.pth")
    more = {"head.weight": torch.zeros(10, WIDTH), "mask_token": torch.zeros(1, WIDTH)}
    torch.save(state | more, tmp_path / "more.pth")
    load_features("uni", weights=tmp_path / "more.pth")


# -- where weights come from --------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_file_the_hub_is_asked_and_the_page_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ENCODERS[name]
    published_file(name, tmp_path / encoder.file)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, file: tmp_path / file)
    load_features(name)

    def refused(page: str, file: str) -> str:
        raise OSError(f"401 for\n{page}/{file}")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refused)
    with pytest.raises(ModelError, match=rf"huggingface.co/{encoder.page} .*--feature-weights"):
        load_features(name)


def test_timm_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r'pip install "wsi-anomaly\[timm\]"'):
        load_features("uni")


# -- any network of timm ------------------------------------------------------------------------


@torch.no_grad()
def test_timm_networks_take_layer_scale_from_the_file_and_store_it(tmp_path: Path) -> None:
    theirs: Any = drawn(timm.create_model("vit_tiny_patch16_224", init_values=1e-5))
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    network = load_features("timm:vit_tiny_patch16_224", weights=tmp_path / "vit.pth")
    images = 2 * pictures(1, 224) - 1
    found = network.activations(images, ["blocks_11"])["blocks_11"]
    expected = theirs.forward_intermediates(images, indices=[11], intermediates_only=True)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    copy = features_from_state(*network.to_state(), "the model")
    torch.testing.assert_close(copy.activations(images, ["blocks_11"])["blocks_11"], found)

    state = theirs.state_dict()
    for damage, says in (
        ({"blocks.12.norm1.weight": torch.ones(192)}, "do not fit"),
        ({"blocks.0.attn.lora_A": torch.ones(4, 192)}, "do not fit"),
        ({"norm.bias": torch.full((192,), torch.nan)}, "NaN"),
    ):
        torch.save(state | damage, tmp_path / "bad.pth")
        with pytest.raises(ModelError, match=says):
            load_features("timm:vit_tiny_patch16_224", weights=tmp_path / "bad.pth")
