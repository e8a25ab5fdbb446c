"""BatchNorm folded into the convolution before it: a frozen network needs none.

What is left computes the same, faster, and a tile's features cannot depend on its batch.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(module: nn.Module) -> None:
    """Fold every pair of convolution and BatchNorm, in place, below `module`.

    A pair is ``convN`` and ``bnN`` of one module (torchvision's blocks), or the first two parts of
    a Sequential. The BatchNorm's place is taken by an identity, so that no other part moves.
    """
    children = dict(module.named_children())
    for name, child in children.items():
        fold(child)
        after = "1" if name == "0" else name.replace("conv", "bn")
        norm = children.get(after)
        if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, norm))
            setattr(module, after, nn.Identity())
