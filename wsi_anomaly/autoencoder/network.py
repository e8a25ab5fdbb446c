"""The autoencoder that grows from small images to large ones.

Resolution R exists in two states: grown (``alpha`` = 1), or in transition from R/2, where the old
path on halved images and the new path are blended (Shvetsova et al. 2021, section III-C; Karras
et al. 2018). Encoder and decoder grow together, with one ``alpha``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from wsi_anomaly.autoencoder.blocks import (
    Activation,
    Alpha,
    Block,
    Conv3,
    Down,
    Up,
    blends,
    double,
    fuse,
    halve,
    initialise,
)
from wsi_anomaly.core.errors import UsageError

_SMALLEST = 4  # a 1x1 latent is made by a 4x4 convolution from this resolution


@dataclass(frozen=True)
class Architecture:
    """Size of the autoencoder. The defaults are the paper's best for Camelyon16.

    Attributes
    ----------
    resolution
        Side of the image in px at the end of growth; a power of two.
    first_resolution
        Side at which training starts; equal to `resolution` without progressive growing.
    latent_resolution
        Side of the latent map: 1, or a power of two from 4 to `first_resolution`.
    latent_channels
        Channels of the latent map.
    widths
        Channels at each resolution, from `resolution` down to the latent's (4 when that is 1);
        one number stands for all.
    image_channels
        3; or 1 where images are grey, of whose three equal channels the first is encoded and one is
        rebuilt.
    """

    resolution: int = 64
    first_resolution: int = 16
    latent_resolution: int = 8
    latent_channels: int = 4
    widths: tuple[int, ...] = (4,)
    image_channels: int = 3

    def __post_init__(self) -> None:
        powers = {2**n for n in range(2, 13)}
        ordered = self.base_resolution <= self.first_resolution <= self.resolution
        if not {self.resolution, self.first_resolution, self.base_resolution} <= powers or not (
            ordered
        ):
            raise UsageError(
                "The resolutions of the autoencoder must be powers of two with latent <= first <= "
                f"final, not {self.latent_resolution}, {self.first_resolution}, {self.resolution}."
            )
        octaves = len(self._resolutions())
        if self.image_channels not in (1, 3):
            raise UsageError(f"image_channels is 1 or 3, not {self.image_channels}.")
        if len(self.widths) not in (1, octaves) or min(*self.widths, self.latent_channels, 1) < 1:
            raise UsageError(
                f"widths must be one positive number or {octaves} of them (from {self.resolution} "
                f"px down to {self.base_resolution} px), not {list(self.widths)}."
            )

    @property
    def base_resolution(self) -> int:
        """Smallest resolution inside the network: the latent's, or 4 for a 1x1 latent."""
        return _SMALLEST if self.latent_resolution == 1 else self.latent_resolution

    def _resolutions(self) -> list[int]:
        found = [self.resolution]
        while found[-1] > self.base_resolution:
            found.append(found[-1] // 2)
        return found

    def width(self, resolution: int) -> int:
        """Channels at `resolution`."""
        if len(self.widths) == 1:
            return self.widths[0]
        return self.widths[self._resolutions().index(resolution)]

    def octaves(self) -> list[int]:
        """Resolutions above the base, ascending: one Down and one Up belongs to each."""
        return self._resolutions()[-2::-1]

    def growth(self) -> list[int]:
        """Resolutions at which the network is trained, ascending."""
        return [r for r in self._resolutions()[::-1] if r >= self.first_resolution]


def _blocks(width: int, number: int) -> list[Block]:
    return [Block(width, width) for _ in range(number)]


class Encoder(nn.Module):
    """Image to latent map.

    Parameters
    ----------
    architecture : Architecture
    blocks : int
        At each resolution: 2 as published for the autoencoder, 1 for its predecessor.
    """

    def __init__(self, architecture: Architecture, blocks: int = 2) -> None:
        super().__init__()
        a = architecture
        width, base = a.width, a.base_resolution
        self.from_image = nn.ModuleDict(
            {
                str(r): nn.Sequential(Conv3(a.image_channels, width(r)), *_blocks(width(r), blocks))
                for r in a.growth()
            }
        )
        self.down = nn.ModuleDict(
            {
                str(r): nn.Sequential(
                    Down(width(r), width(r // 2)), *_blocks(width(r // 2), blocks - 1)
                )
                for r in a.octaves()
            }
        )
        self.last = (
            nn.Sequential(Activation(), nn.Conv2d(width(base), a.latent_channels, base))
            if a.latent_resolution == 1
            else Block(width(base), a.latent_channels)
        )
        self._base, self._channels = base, a.image_channels
        initialise(self)

    def forward(self, images: Tensor, resolution: int, alpha: Alpha = 1.0) -> Tensor:
        """Encode images (N, C, S, S), S = `resolution` px, to (N, L, Z, Z).

        Below `alpha` 1 the path of the stage before is blended in.
        """
        images = images[:, : self._channels]
        x: Tensor = self.from_image[str(resolution)](images)
        at = resolution
        if at > self._base:
            x = self.down[str(at)](x)
            at //= 2
            if blends(alpha):
                x = (1 - alpha) * self.from_image[str(at)](halve(images)) + alpha * x
        while at > self._base:
            x = self.down[str(at)](x)
            at //= 2
        latent: Tensor = self.last(x)
        return latent

    def parts(self, resolution: int) -> Iterator[nn.Module]:
        """Modules in use when grown to `resolution`."""
        yield self.from_image[str(resolution)]
        yield from (module for r, module in self.down.items() if int(r) <= resolution)
        yield self.last


class Decoder(nn.Module):
    """Latent map to image; no connection from the encoder's inner layers.

    Parameters
    ----------
    architecture : Architecture
    blocks : int
        As in :class:`Encoder`.
    """

    def __init__(self, architecture: Architecture, blocks: int = 2) -> None:
        super().__init__()
        a = architecture
        width, base = a.width, a.base_resolution
        self.first = (
            nn.Sequential(
                Activation(), nn.Conv2d(a.latent_channels, width(base), base, padding=base - 1)
            )
            if a.latent_resolution == 1
            else Block(a.latent_channels, width(base))
        )
        self.up = nn.ModuleDict(
            {
                str(r): nn.Sequential(Up(width(r // 2), width(r)), *_blocks(width(r), blocks - 1))
                for r in a.octaves()
            }
        )
        self.to_image = nn.ModuleDict(
            {
                str(r): nn.Sequential(Activation(), Conv3(width(r), a.image_channels))
                for r in a.growth()
            }
        )
        self._base = base
        initialise(self)

    def forward(self, latent: Tensor, resolution: int, alpha: Alpha = 1.0) -> Tensor:
        """Decode (N, L, Z, Z) to images (N, C, S, S), S = `resolution` px; linear output.

        Below `alpha` 1 the path of the stage before is blended in.
        """
        x = self.first(latent)
        at = self._base
        while 2 * at <= resolution:
            at *= 2
            if at == resolution and blends(alpha):
                old = double(self.to_image[str(at // 2)](x))
                new = self.to_image[str(at)](self.up[str(at)](x))
                blended: Tensor = (1 - alpha) * old + alpha * new
                return blended
            x = self.up[str(at)](x)
        image: Tensor = self.to_image[str(resolution)](x)
        return image

    def parts(self, resolution: int) -> Iterator[nn.Module]:
        """Modules in use when grown to `resolution`."""
        yield self.first
        yield from (module for r, module in self.up.items() if int(r) <= resolution)
        yield self.to_image[str(resolution)]


class ProgressiveAutoencoder(nn.Module):
    """Encoder and decoder that grow together.

    Parameters
    ----------
    architecture : Architecture

    Examples
    --------
    The same network at its first resolution and half-way to its second one:

    >>> import torch
    >>> network = ProgressiveAutoencoder(Architecture(resolution=16, first_resolution=8))
    >>> network(torch.zeros(2, 3, 8, 8), resolution=8).shape
    torch.Size([2, 3, 8, 8])
    >>> network(torch.zeros(2, 3, 16, 16), resolution=16, alpha=0.5).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = Encoder(architecture)
        self.decoder = Decoder(architecture)
        fuse(self)

    def forward(self, images: Tensor, resolution: int | None = None, alpha: Alpha = 1.0) -> Tensor:
        """Reconstruct images.

        Parameters
        ----------
        images : Tensor (N, 3, R, R)
            In [-1, 1].
        resolution : int, optional
            R; the final one when left out.
        alpha : float or Tensor ()
            Below 1: in transition from R/2 to R.

        Returns
        -------
        Tensor (N, 3, R, R)
            Not limited to [-1, 1].
        """
        resolution = resolution or self.architecture.resolution
        image: Tensor = self.decoder(self.encoder(images, resolution, alpha), resolution, alpha)
        return image.expand(-1, 3, -1, -1)

    def parts(self, resolution: int, *, transition: bool) -> list[nn.Module]:
        """Modules that a training stage at `resolution` uses, the blended old ones included."""
        found = [*self.encoder.parts(resolution), *self.decoder.parts(resolution)]
        if transition:
            low = str(resolution // 2)
            found += [self.encoder.from_image[low], self.decoder.to_image[low]]
        return found

    def grown(self) -> ProgressiveAutoencoder:
        """Return the network at its final resolution, without the parts that growth left behind."""
        from dataclasses import replace

        a = self.architecture
        final = ProgressiveAutoencoder(replace(a, first_resolution=a.resolution))
        own = self.state_dict()
        final.load_state_dict({name: own[name] for name in final.state_dict()})
        return final.to(next(self.parameters()).device)
