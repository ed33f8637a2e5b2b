"""An autoencoder of good images, and a variational one: a defect is reconstructed badly.

Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to
Autoencoders", VISAPP 2019 (the network of table 1, at the same side); Kingma and Welling,
"Auto-Encoding Variational Bayes", ICLR 2014.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.models.artifact import save_artifact
from pipeline.models.cards import AutoencoderCard
from pipeline.models.checkpoint import TrainingCheckpoint
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.progress import track
from pipeline.types import AnomalyMap, Image

Error = Literal["ssim", "l2"]
_WIDTHS = (32, 32, 64, 64, 128)
_WINDOW = 11  # pixels, of SSIM
_BLUR_SIGMA = 2.0  # pixels at the network's side
_TOP_SHARE = 0.002  # share of the pixels, the highest, whose mean is the image's score
_SIZE_DIVISOR = 32


def flat_size(side: int) -> int:
    """Number of the encoder's features of a picture of a side."""
    return int(_WIDTHS[-1] * (side // _SIZE_DIVISOR) ** 2)


class Network(nn.Module):
    """Pictures (N, 3, S, S) in [0, 1] to their reconstructions, through `latent` numbers."""

    def __init__(self, side: int, latent: int, variational: bool) -> None:
        super().__init__()
        self.grid = side // _SIZE_DIVISOR
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        before = 3
        for width in _WIDTHS:
            down += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            before = width
        flat = before * self.grid**2
        for width in (*_WIDTHS[-2::-1], 3):
            up += [nn.ConvTranspose2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            before = width
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.mean = nn.Linear(flat, latent)
        self.log_variance = nn.Linear(flat, latent) if variational else None
        self.back = nn.Linear(latent, flat)
        self.decoder = nn.Sequential(*up[:-1], nn.Sigmoid())

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The reconstructions (N, 3, S, S), and the divergence (N,) of the latent numbers from a
        standard normal distribution: 0 of a plain autoencoder."""
        features = self.encoder(pictures)
        latent = self.mean(features)
        divergence = torch.zeros(len(pictures), device=pictures.device)
        if self.log_variance is not None:
            log_variance = self.log_variance(features).clamp(-10, 10)
            spread = latent.square() + log_variance.exp() - log_variance - 1
            divergence = spread.sum(dim=1) / 2
            if self.training:
                latent = latent + torch.randn_like(latent) * (log_variance / 2).exp()
        rows = self.back(latent).view(len(pictures), -1, self.grid, self.grid)
        return self.decoder(rows), divergence


def ssim(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Structural similarity (N, H, W) in [-1, 1] of pictures (N, C, H, W) in [0, 1], over uniform
    windows of 11 pixels; pixels of the border are repeated beyond it (Wang et al. 2004)."""
    channels = first.shape[1]
    products = (first * first, second * second, first * second)
    means = _local(torch.cat([first, second, *products], dim=1)).split(channels, dim=1)
    mean1, mean2, square1, square2, product = means
    var1 = (square1 - mean1 * mean1).clamp(min=0)
    var2 = (square2 - mean2 * mean2).clamp(min=0)
    both = product - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    like = (2 * mean1 * mean2 + c1) * (2 * both + c2)
    similarity: torch.Tensor = like / ((mean1**2 + mean2**2 + c1) * (var1 + var2 + c2))
    return similarity.mean(dim=1)


def _local(values: torch.Tensor) -> torch.Tensor:
    """The mean over a window around each pixel, by running sums along rows and columns."""
    reach = _WINDOW // 2
    for axis in (2, 3):
        sides = (reach + 1, reach) if axis == 3 else (0, 0, reach + 1, reach)
        sums = functional.pad(values, (*sides, *[0] * (4 - len(sides))), mode="replicate")
        sums = sums.cumsum(dim=axis)
        size = sums.shape[axis] - _WINDOW
        values = (sums.narrow(axis, _WINDOW, size) - sums.narrow(axis, 0, size)) / _WINDOW
    return values


class Autoencoder:
    """An `AnomalyModel`; `vae` with `variational`, else `autoencoder`."""

    def __init__(
        self,
        variational: bool = False,
        error: Error = "ssim",
        side: int = 128,
        latent: int = 100,
        steps: int = 600,
        batch: int = 16,
        learning_rate: float = 1e-3,
        divergence: float = 1e-4,
        seed: int = 0,
        device: torch.device | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """side: images are resized to a square of so many pixels. error: minimised by training,
        and shown by the map. divergence: weight of the VAE's other term, for each picture. A `fit`
        that was stopped goes on from the file `checkpoint`."""
        if side % _SIZE_DIVISOR:
            raise ConfigError(f"an autoencoder's side is a multiple of {_SIZE_DIVISOR}, not {side}")
        self.kind = "vae" if variational else "autoencoder"
        self.error: Error = error
        self.side, self.latent, self.steps, self.batch = side, latent, steps, batch
        self.learning_rate, self.divergence, self.seed = learning_rate, divergence, seed
        self.device = device or torch.device("cpu")
        self.checkpoint = checkpoint
        self.network: Network | None = None

    def fit(self, images: Iterable[Image]) -> None:
        """See `AnomalyModel`."""
        keep_freed_memory()
        resized = [self._picture(image) for image in images]
        if not resized:
            raise ConfigError(f"the {self.kind} needs good images to learn from: there are none")
        pictures = torch.stack(resized)
        torch.manual_seed(self.seed)
        network = Network(self.side, self.latent, self.kind == "vae").to(self.device).train()
        optimizer = torch.optim.AdamW(network.parameters(), self.learning_rate, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.steps
        )
        generator = torch.Generator().manual_seed(self.seed)
        checkpoint = TrainingCheckpoint(
            self.checkpoint, generator, network=network, optimizer=optimizer, schedule=schedule
        )
        done, _ = checkpoint.restore()
        for step in track(range(done, self.steps), f"train {self.kind}, steps"):
            rows = torch.randint(len(pictures), (self.batch,), generator=generator)
            target = pictures[rows].to(self.device)
            reconstruction, divergence = network(target)
            error = self.error_map(reconstruction, target).mean()
            loss = error + self.divergence * divergence.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            checkpoint.save(step + 1, self.steps)
        self.network = network.eval()

    @torch.inference_mode()
    def score(self, image: Image) -> AnomalyMap:
        """See `AnomalyModel`."""
        if self.network is None:
            raise ConfigError(f"the {self.kind} was not fitted")
        target = self._picture(image)[None].to(self.device)
        error = self.error_map(self.network(target)[0], target)[0].cpu().numpy()
        heat = cv2.GaussianBlur(np.maximum(error, 0).astype(np.float32), (0, 0), _BLUR_SIGMA)
        highest = np.sort(heat, axis=None)[-max(1, round(heat.size * _TOP_SHARE)) :]
        height, width = image.shape[:2]
        full = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
        return AnomalyMap(float(highest.mean()), np.asarray(full, np.float32))

    def save(self, folder: Path) -> None:
        """See `AnomalyModel`."""
        if self.network is None:
            raise ConfigError(f"the {self.kind} was not fitted")
        names = ("kind", "error", "side", "latent", "steps", "batch", "learning_rate")
        card = {name: getattr(self, name) for name in (*names, "divergence", "seed")}
        save_artifact(folder, self.network.state_dict(), card)

    def _picture(self, image: Image) -> torch.Tensor:
        small = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(small.astype(np.float32) / 255).permute(2, 0, 1)

    def error_map(self, reconstruction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Error (N, S, S) of reconstructions (N, 3, S, S) in [0, 1]; 0 where both are equal."""
        if self.error == "l2":
            return (reconstruction - target).square().mean(dim=1)
        return (1 - ssim(reconstruction, target)) / 2


def from_artifact(
    card: AutoencoderCard, state: dict[str, torch.Tensor], device: torch.device
) -> Autoencoder:
    """The model that `save` wrote, from its card and tensors."""
    model = Autoencoder(
        card.kind == "vae",
        error=card.error,
        side=card.side,
        latent=card.latent,
        steps=card.steps,
        batch=card.batch,
        learning_rate=card.learning_rate,
        divergence=card.divergence,
        seed=card.seed,
        device=device,
    )
    network = Network(model.side, model.latent, model.kind == "vae")
    network.load_state_dict(state)
    model.network = network.to(device).eval()
    return model
