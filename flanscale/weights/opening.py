"""Which reader knows these pretrained weights? A folder of Hugging Face's or a GGUF file."""

from __future__ import annotations

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
        hub = "" if path.is_absolute() or len(path.parts) != 2 else f"; to fetch it: hf download {path} --local-dir DIR"
        raise WeightsError(f"init.hf={path}: no such folder or file{hub}")
    if path.is_dir():
        from flanscale.weights.hf import HuggingFaceFolder

        return HuggingFaceFolder(path)
    if path.suffix == ".gguf":
        from flanscale.weights.gguf import GgufFile

        return GgufFile(path)
    raise WeightsError(f"init.hf={path}: give the folder that holds config.json and *.safetensors, or a .gguf file")
