"""What every configuration has in common: its base, and the types of number that settings have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import escaped
from pipeline.io.remote.addresses import is_address, local_path

MASK_THRESHOLD = (
    "Mask values above it are defect [0; of JPEG masks half-way between background and defects]."
)

_INT32_MAX = 2**31 - 1
Share = Annotated[float, Field(ge=0, lt=1)]
Whole = Annotated[int, Field(ge=0, le=_INT32_MAX)]
Positive = Annotated[int, Field(ge=1, le=_INT32_MAX)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy and torch both take
Folds = Annotated[int, Field(ge=0, le=1000)]
Backend = Literal["auto", "torch", "openvino"]  # what runs SAM's image encoder
Gigabytes = Annotated[float, Field(ge=0, le=1e6)]
SettingValue: TypeAlias = (  # of YAML, an option or `--set`, before pydantic has checked it
    "str | int | float | bool | date | Path | Sequence[SettingValue] | Settings | None"
)
Settings: TypeAlias = "Mapping[str, SettingValue]"


class Checked(BaseModel):
    """Base: numbers are finite, and no text has a control character."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _is_printable(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, dict) else ():
            for text in value if isinstance(value, (dict, list, tuple)) else [value]:
                if isinstance(text, str) and escaped(text) != text:
                    raise ValueError(f"{key}: has a character that no name can have")
        return values


def _localized(value: Any) -> Any:
    """A value with the paths of local copies in place of addresses, such as `s3://bucket/a`."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_localized, value))
    return str(local_path(value)) if isinstance(value, (str, Path)) and is_address(value) else value


class Config(Checked):
    """Base: unknown keys are errors, values do not change after they are checked. An address
    becomes the path of its local copy, which the command fetches.

    has_own_options: the fields are options of a command, also where another configuration holds
    this one.
    """

    model_config = ConfigDict(extra="forbid")
    has_own_options: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _has_local_paths(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: _localized(value) for key, value in values.items()}


_Plain = bool | int | Annotated[float, Field(allow_inf_nan=False)] | str | None
_Argument = _Plain | list[_Plain] | tuple[_Plain, ...]


class Augmentation(Checked):
    """One albumentations transform: its name and its own arguments."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Argument]
    name: str
    p: Probability = 0.5


def default_augmentations() -> tuple[Augmentation, ...]:
    """Changes of light, focus and noise, as they occur between photos. They keep the shape of a
    defect."""
    return (
        Augmentation.model_validate(
            {
                "name": "RandomBrightnessContrast",
                "p": 0.4,
                "brightness_limit": 0.15,
                "contrast_limit": 0.2,
            }
        ),
        Augmentation.model_validate({"name": "GaussNoise", "p": 0.2, "std_range": [0.01, 0.04]}),
        Augmentation.model_validate({"name": "MotionBlur", "p": 0.1, "blur_limit": 3}),
        Augmentation.model_validate({"name": "CLAHE", "p": 0.1, "clip_limit": 2.0}),
    )
