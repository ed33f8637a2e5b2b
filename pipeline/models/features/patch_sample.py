"""Patches of any number of images in flat memory: a random sample, drawn as images come."""

from __future__ import annotations

import torch

_SLACK = 0.25  # the sample is cut back once it is this share over its limit


class PatchSample:
    """At most `limit` patches out of all that were added, each with the same chance.

    Each patch draws a random number, and those with the lowest numbers stay. So the result does not
    depend on when the sample is cut back. Patches are kept in half precision, in the order in which
    they were added. Memory: at most 1.25 times `limit` patches, and those of one image.

    seen: patches that were added.
    """

    def __init__(self, limit: int, seed: int = 0) -> None:
        """limit: patches to keep, at least 1. seed: of the draws."""
        self.limit = limit
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._highest = 1.0  # draw above which a patch cannot stay
        self._draws: list[torch.Tensor] = []
        self._parts: list[torch.Tensor] = []
        self._held = 0

    def __len__(self) -> int:
        return min(self.seen, self.limit)

    def add(self, patches: torch.Tensor) -> None:
        """Add the patches (N, D) of an image, of any float type."""
        draws = torch.rand(len(patches), generator=self._generator, dtype=torch.float64)
        stays = draws <= self._highest
        self.seen += len(patches)
        self._draws.append(draws[stays])
        self._parts.append(patches[stays].half())
        self._held += len(self._parts[-1])
        if self._held > self.limit * (1 + _SLACK):
            self._cut()

    def parts(self) -> list[torch.Tensor]:
        """The sample as parts (N, D) float16: all together have `len` patches."""
        if self._held > self.limit:
            self._cut()
        return self._parts

    def select(self, rows: torch.Tensor) -> torch.Tensor:
        """Patches (N, D) float32 at these positions of the sample, N >= 1, in rising order.

        Part by part: all at once would take twice the memory.
        """
        parts, order = self.parts(), rows.sort().values
        ends = torch.tensor([len(part) for part in parts]).cumsum(0)
        counts = torch.searchsorted(order, ends).diff(prepend=torch.tensor([0]))
        start = 0
        chosen = []
        for part, inside in zip(parts, order.split(counts.tolist()), strict=True):
            chosen.append(part[inside - start].float())
            start += len(part)
        return torch.cat(chosen)

    def _cut(self) -> None:
        """Keep the `limit` patches with the lowest draws."""
        self._highest = float(torch.cat(self._draws).kthvalue(self.limit).values)
        for number, draws in enumerate(self._draws):
            stays = draws <= self._highest
            self._draws[number], self._parts[number] = draws[stays], self._parts[number][stays]
        self._draws = [draws for draws in self._draws if len(draws)]
        self._parts = [part for part in self._parts if len(part)]
        self._held = sum(len(part) for part in self._parts)
