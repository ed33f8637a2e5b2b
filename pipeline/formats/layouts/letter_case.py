"""Masks whose names have other capital letters than their images: for Windows, they are equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pipeline.runtime.progress import say

Value = TypeVar("Value")


class AnyCase:
    """Names by the letters that they have in common."""

    def __init__(self, names: Iterable[str]) -> None:
        self._alike: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._alike[name.casefold()].append(name)

    def only(self, name: str) -> str | None:
        """The one name of the same letters, small or capital; None for none, and for several."""
        alike = self._alike.get(name.casefold(), [])
        return alike[0] if len(alike) == 1 else None


def respelled(
    values: Mapping[str, Value], stems: Iterable[str], is_said: bool = True
) -> dict[str, Value]:
    """What belongs to each image by its stem: values whose own stem has other capital letters than
    that of one image, and of no other value, are under the image's. is_said: print which. stems: of
    the images."""
    known = dict.fromkeys(stems)
    if values.keys() <= known.keys():
        return dict(values)
    images, own = AnyCase(known), AnyCase(values)
    names = {
        stem: (images.only(stem) if own.only(stem) else None) or stem
        for stem in values if stem not in known
    }  # fmt: skip
    changed = {stem: name for stem, name in names.items() if name != stem}
    if changed and is_said:
        say(other_letters(changed))
    return {names.get(stem, stem): value for stem, value in values.items()}


def other_letters(changed: Mapping[str, str]) -> str:
    """A note on masks that have other capital letters than their images. changed: the name of the
    image by that of the mask."""
    first = next(iter(changed.items()), ("", ""))
    text = f"{len(changed)} masks have other capital letters in their names than their images"
    return f"{text}, such as {first[0]} of {first[1]}"
