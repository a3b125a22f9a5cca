"""What do pretrained weights look like before they are parameters? Named tensors, read in slices, and a config.json.

A folder of Hugging Face's and a GGUF file are opened as the same thing: tensors under Hugging Face's names, and the
dictionary of a config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a plan looks at headers alone and should not wait for NumPy
    import numpy as np

Index = tuple[slice, ...]


@dataclass(frozen=True)
class Tensor:
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    file: Path


class Source(Protocol):
    """Pretrained weights on disk."""

    @property
    def path(self) -> Path:
        """What the user named."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of config.json."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor by Hugging Face's name."""

    def read(self, name: str, index: Index | None = None) -> np.ndarray:
        """A slice of a tensor, or all of it, as float32."""
