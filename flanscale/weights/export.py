"""How does a run become a folder that transformers and vLLM load, and that says where it came from?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.config.compose import load
from flanscale.errors import WeightsError
from flanscale.models import Model, Params, build_model
from flanscale.pipeline.tokenizers import Tokenizer, Words, embedding_rows, load_tokenizer
from flanscale.pipeline.vocabulary import tokenizer_config
from flanscale.schema import RunConfig
from flanscale.weights.card import card
from flanscale.weights.config_write import write_config
from flanscale.weights.hf import CONFIG, GENERATION, SHARD_BYTES, write_json, write_tensors
from flanscale.weights.initial import starts_elsewhere
from flanscale.weights.load import tensors_of
from flanscale.weights.names import homes
from flanscale.weights.run_model import params_of

PRECISIONS = ("float32", "bfloat16", "float16")


def export_run(run_dir: Path, to: Path, *, precision: str = "float32", shard_bytes: int = SHARD_BYTES) -> Path:
    """Write the parameters, configuration, tokenizer and model card of a run to a new folder.

    Raises:
        WeightsError: the folder is not empty, the run has no parameters, or transformers has no such model.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise WeightsError(f"--to {to}: exists and is not an empty folder")
    config = load(run_dir)
    if not config.trainer.steps and not starts_elsewhere(config.init):
        raise WeightsError(f"{run_dir.name} trained nothing and started from random parameters: it has no checkpoint")
    tokenizer = load_tokenizer(config.tokenizer)
    model = build_model(config.model, embedding_rows(config.model, tokenizer))
    config_json = write_config(config.model, model.vocab_size, eos_id=tokenizer.eos_id, dtype=precision)
    params = params_of(run_dir, config, model)
    to.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir()
    write_folder(partial_folder, model, params, config_json, shard_bytes=shard_bytes)
    write_tokenizer(partial_folder, config, tokenizer)
    (partial_folder / "README.md").write_text(card(run_dir, config, config_json, params), encoding="utf-8")
    if to.exists():
        to.rmdir()
    partial_folder.rename(to)
    return to


def write_folder(
    folder: Path, model: Model, params: Params, config_json: dict[str, Any], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """config.json, generation_config.json and the weights; in float32 reading them back gives the same bits."""
    write_json(folder / CONFIG, config_json)
    write_json(folder / GENERATION, _generation(config_json))
    write_tensors(folder, _tensors(model, params, config_json), shard_bytes=shard_bytes)


def _tensors(model: Model, params: Params, config_json: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    import ml_dtypes

    family, dtype = config_json["model_type"], config_json["dtype"]
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    c = model.config
    for name, values in tensors_of(params, homes(family, c), family, c.head_dim):
        yield name, values.astype(kind)
        if family == "t5" and name == "shared.weight" and c.tie_embeddings and not c.scale_logits:
            yield "lm_head.weight", values.astype(kind)


def _generation(config_json: dict[str, Any]) -> dict[str, Any]:
    """Greedy, as the run was evaluated."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    return {"do_sample": False} | {name: config_json[name] for name in names if config_json.get(name) is not None}


# --- tokenizer ---------------------------------------------------------------------------------------------------


def write_tokenizer(folder: Path, config: RunConfig, tokenizer: Tokenizer) -> None:
    """The run's vocabulary under the names that transformers looks for."""
    name, limit = config.tokenizer.name, config.trainer.input_tokens
    if name == "bytes":
        special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer", **special})
        return
    if name == "sentencepiece":
        shutil.copyfile(str(config.tokenizer.vocabulary), folder / "spiece.model")
        special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}
        kind = {"tokenizer_class": "T5Tokenizer", "model_max_length": limit}
        write_json(folder / "tokenizer_config.json", {**kind, **special})
        return
    fast: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if name == "words":
        assert isinstance(tokenizer, Words)
        write_json(folder / "tokenizer.json", _word_level(tokenizer.words))
        fast |= {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    else:
        vocabulary = Path(str(config.tokenizer.vocabulary))
        shutil.copyfile(vocabulary, folder / "tokenizer.json")
        fast |= tokenizer_config(vocabulary)
        fast["eos_token"] = _piece(vocabulary, tokenizer.eos_id)
        fast.setdefault("pad_token", fast["eos_token"])
    write_json(folder / "tokenizer_config.json", fast)


def _piece(vocabulary: Path, number: int) -> str:
    added = json.loads(vocabulary.read_text(encoding="utf-8"))["added_tokens"]
    return next(token["content"] for token in added if token["id"] == number)


def _word_level(words: list[str]) -> dict[str, Any]:
    """The closed vocabulary of the procedural collection as a tokenizer.json."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": word, **plain} for i, word in enumerate(words[:3])],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "<unk>"},
    }
