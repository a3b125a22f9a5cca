"""Which vocabulary belongs to pretrained weights, and is it the one that the cell uses?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flanscale.errors import VocabularyError, WeightsError
from flanscale.schema import ModelConfig

FILES = {"huggingface": ("tokenizer.json",), "sentencepiece": ("spiece.model", "tokenizer.model")}
"""Tokenizer → the files that a folder of weights may hold for it."""

SPLITS: dict[str, list[dict[str, Any]]] = {"gpt-2": [], "smollm": [{"type": "Digits", "individual_digits": True}]}
"""What llama.cpp's tokenizer.ggml.pre does before the bytes are split as GPT-2 does."""

CONTROL, USER_DEFINED = 3, 4  # tokenizer.ggml.token_type


def vocabulary_of(weights: Path, tokenizer: str, cache: Path) -> Path | None:
    """The vocabulary file that comes with weights; out of a GGUF file it is written to the cache.

    Args:
        tokenizer: huggingface or sentencepiece.

    Raises:
        WeightsError: a GGUF file has no vocabulary that can be written as tokenizer.json.
    """
    if weights.is_dir():
        return next((weights / name for name in FILES[tokenizer] if (weights / name).is_file()), None)
    if weights.suffix != ".gguf" or tokenizer != "huggingface":
        return None
    from flanscale.weights.gguf import read_header

    files = tokenizer_files(read_header(weights).metadata, weights)
    digest = hashlib.sha256("\0".join(files.values()).encode()).hexdigest()[:16]
    folder = cache / "vocabularies" / digest
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sorted(files.items(), reverse=True):  # the configuration first: who sees one file sees both
        if not (folder / name).is_file():
            partial = folder / f".{name}.{hashlib.sha256(str(weights).encode()).hexdigest()[:8]}"
            partial.write_text(text, encoding="utf-8")
            partial.replace(folder / name)
    return folder / "tokenizer.json"


def tokenizer_files(metadata: Mapping[str, Any], path: Path) -> dict[str, str]:
    """tokenizer.json and tokenizer_config.json from the metadata of a GGUF file.

    Raises:
        WeightsError: its vocabulary is not byte-level BPE as GPT-2's or SmolLM's.
    """
    kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or split not in SPLITS:
        raise WeightsError(
            f"{path}: tokenizer.ggml.model={kind}, pre={split}: cannot be written as tokenizer.json;"
            " give tokenizer.vocabulary=<tokenizer.json>"
        )
    pieces, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    special = [
        {
            "id": i,
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, piece in enumerate(pieces)
        if types[i] in (CONTROL, USER_DEFINED)
    ]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*SPLITS[split], bytes_]},
        "post_processor": None,
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": list(metadata["tokenizer.ggml.merges"]),
        },
    }
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for ours, theirs in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        if (number := metadata.get(f"tokenizer.ggml.{theirs}_token_id")) is not None:
            config[f"{ours}_token"] = pieces[number]
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata["tokenizer.chat_template"]
    dumped = {"tokenizer.json": tokenizer, "tokenizer_config.json": config}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in dumped.items()}


def check_vocabulary(weights: Path, vocabulary: Path) -> None:
    """Holds the vocabulary of a cell against that of its weights, where they bring one.

    Raises:
        WeightsError: some id stands for another piece of text; the first is named.
    """
    theirs = _pieces_of_weights(weights)
    ours = _pieces(vocabulary)
    for i, (own, other) in enumerate(zip(ours or (), theirs or (), strict=False)):
        if own is not None and other is not None and own != other:
            raise WeightsError(
                f"tokenizer.vocabulary={vocabulary} is not that of init.hf={weights}: id {i} is {own!r} in the"
                f" vocabulary and {other!r} in the weights'; leave tokenizer.vocabulary out to take theirs"
            )


def special_ids(model: ModelConfig, eos_id: int) -> dict[str, tuple[int, str]]:
    """Key of a config.json → the id that a cell uses for it, and where that comes from.

    A decoder's padding is masked whatever stands there, and one that begins behind nothing has no start token, so that
    neither is held against anything.
    """
    ids = {"eos_token_id": (eos_id, "the id of the tokenizer's end token")}
    if model.architecture == "encoder_decoder":
        begins = (0, "what a decoder here reads first, and rows are filled with")
        return ids | {"decoder_start_token_id": begins, "pad_token_id": begins}
    return ids if model.bos_id is None else ids | {"bos_token_id": (model.bos_id, "model.bos_id")}


def check_special(used: Mapping[str, tuple[int, str]], given: Mapping[str, Any], where: str) -> None:
    """Holds the special ids that a cell uses against what a config.json or generation_config.json says of them.

    Args:
        used: of `special_ids`.

    Raises:
        WeightsError: the first that differs, with both values.
    """
    for key, (ours, whose) in used.items():
        said = given.get(key)
        if said is not None and ours not in (said if isinstance(said, list) else [said]):
            raise WeightsError(f"{where} says {key}={said}, but {ours} is {whose}")


def _pieces_of_weights(weights: Path) -> Sequence[str | None] | None:
    if weights.is_dir():
        found = [weights / name for names in FILES.values() for name in names if (weights / name).is_file()]
        return _pieces(found[0]) if found else None
    from flanscale.weights.gguf import read_header

    pieces: Sequence[str | None] | None = read_header(weights).metadata.get("tokenizer.ggml.tokens")
    return pieces


def _pieces(vocabulary: Path) -> Sequence[str | None] | None:
    """Id → piece of text; None where the file cannot say."""
    if vocabulary.suffix != ".json":
        from sentencepiece import SentencePieceProcessor

        try:
            model = SentencePieceProcessor(model_file=str(vocabulary))
        except (RuntimeError, OSError) as error:
            raise VocabularyError(f"{vocabulary}: no SentencePiece model") from error
        return [model.id_to_piece(i) for i in range(model.vocab_size())]
    try:
        content = json.loads(vocabulary.read_text(encoding="utf-8"))
        vocab = content["model"]["vocab"]
        ids = vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
        ids = {**ids, **{token["content"]: token["id"] for token in content.get("added_tokens", ())}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VocabularyError(f"{vocabulary}: no tokenizer.json") from error
    pieces: list[str | None] = [None] * (1 + max(ids.values(), default=-1))
    for piece, i in ids.items():
        pieces[i] = piece
    return pieces
