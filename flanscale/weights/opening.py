"""Which reader knows these pretrained weights? A folder of Hugging Face's or a GGUF file."""

from __future__ import annotations

import re
from pathlib import Path

from flanscale.errors import WeightsError
from flanscale.weights.source import Source


def open_source(path: str | Path) -> Source:
    """The weights of a Hugging Face folder or of a GGUF file.

    Raises:
        WeightsError: there are none, they are not whole, or no reader knows them.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise WeightsError(f"init.hf={path}: no such folder or file{_how_to_fetch(path)}")
    if path.is_dir():
        from flanscale.weights.hf import HuggingFaceFolder

        return HuggingFaceFolder(path)
    if path.suffix == ".gguf":
        from flanscale.weights.gguf import GgufFile

        return GgufFile(path)
    raise WeightsError(f"init.hf={path}: give the folder that holds config.json and *.safetensors, or a .gguf file")


def _how_to_fetch(path: Path) -> str:
    """What to type where it looks like a repository of the Hub. The LM-adapted T5 lie there as pickles alone."""
    if path.is_absolute() or len(path.parts) != 2:
        return ""
    if adapted := re.fullmatch(r"google/t5-(small|base|large|xl|xxl)-lm-adapt", str(path)):
        model = f"t5_{adapted[1]}"
        return f"; `flanscale tasks fetch --weights {model} --to data` brings it to data/weights/{model}"
    return f"; to fetch it: hf download {path} --local-dir DIR"
