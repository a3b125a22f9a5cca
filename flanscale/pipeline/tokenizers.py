"""How does text become token ids? Pad (and decoder start) is 0 and end of sequence 1 in every tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from flanscale.schema import TokenizerConfig

PAD, EOS, UNKNOWN = 0, 1, 2


class Tokenizer(Protocol):
    """Text to ids and back; ids carry no end-of-sequence mark."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special ids, and those of the embedding's padding, give nothing."""


class Words:
    """A closed vocabulary, one token a word: for the procedural collection, whose words are all known."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = ["<pad>", "</s>", "<unk>", *words]
        self._ids = {word: i for i, word in enumerate(self._words)}

    @property
    def vocab_size(self) -> int:
        return len(self._words)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        ids = self._ids
        return [[ids.get(word, UNKNOWN) for word in text.split()] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._words[i] for i in ids if UNKNOWN < i < self.vocab_size)


class Bytes:
    """UTF-8 bytes after three special ids, as in ByT5 (Xue et al. 2022)."""

    vocab_size = 256 + 3

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[byte + 3 for byte in text.encode()] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i - 3 for i in ids if 3 <= i < self.vocab_size).decode(errors="replace")


class SentencePiece:
    """A SentencePiece model with T5's special ids (pad 0, end 1, unknown 2)."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._model = SentencePieceProcessor(model_file=str(path))
        specials = (self._model.pad_id(), self._model.eos_id(), self._model.unk_id())
        if specials != (PAD, EOS, UNKNOWN):
            raise ValueError(
                f"{path}: pad, end and unknown have ids {specials}, expected 0, 1, 2 as in T5's vocabulary"
            )

    @property
    def vocab_size(self) -> int:
        return int(self._model.vocab_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._model.encode(list(texts))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._model.decode([int(i) for i in ids if EOS < i < self.vocab_size]))


def load_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer that a resolved configuration names."""
    if config.name == "words":
        from flanscale.tasks.templates import procedural_words

        return Words(procedural_words())
    if config.name == "bytes":
        return Bytes()
    if config.vocabulary is None:
        raise ValueError("tokenizer=sentencepiece without a vocabulary")  # found by flanscale.config.resolve
    return SentencePiece(Path(config.vocabulary))


def padded_vocab_size(tokenizer: Tokenizer) -> int:
    """Rows of the embedding: a multiple of 128 as in T5 (32,100 → 32,128), of 8 where the vocabulary is tiny."""
    multiple = 128 if tokenizer.vocab_size > 1024 else 8
    return -(-tokenizer.vocab_size // multiple) * multiple
