"""How does text become token ids, and ids text again?

Ids carry no end mark: packing adds it. Rows are filled with id 0 and a decoder reads 0 before its first token, whatever
0 stands for in a vocabulary; padding is masked, so that no tokenizer needs a token for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flanscale.errors import VocabularyError
from flanscale.pipeline.vocabulary import named_end
from flanscale.schema import ModelConfig, TokenizerConfig

if TYPE_CHECKING:  # a plan asks for sizes alone and should not wait for NumPy
    import numpy as np
    from jaxtyping import Int

    from flanscale.pipeline.ragged import Ragged

EOS, UNKNOWN = 1, 2  # of the tokenizers made here, as of T5
T5_PIECES, T5_SENTINELS, SENTINEL = 32_000, 100, "<extra_id_{}>"
SENTINELS_OF_WORDS = 24  # for half of a row of the quick study in spans of three
MODES_OF_WORDS = ("[NLU]", "[S2S]", "[NLG]")
EXTRA_BYTES = 125  # fill the vocabulary of bytes up to 384 ids
END_TOKENS = (
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end▁of▁sentence|>",
    "<eos>",
    "<|eos|>",
    "[EOS]",
    "<|im_end|>",
    "[SEP]",
)
"""A tokenizer.json does not say which token ends a text: without a tokenizer_config.json beside it that does, it is the
first of these among its special tokens."""


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    @property
    def eos_id(self) -> int:
        """What ends every target."""

    @property
    def unknown_id(self) -> int | None:
        """What stands for text that the vocabulary cannot spell; None where it spells all."""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal characters over all that decides the ids of a text."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Ids of each text."""

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " length"]) -> str:
        """The text of ids; special ids, and those of the embedding's padding, give nothing."""

    def token_id(self, token: str) -> int | None:
        """The id that stands for exactly this token, special or not; None where there is none."""


def load_tokenizer(config: TokenizerConfig, *, threads: int = -1) -> Tokenizer:
    """The tokenizer that a resolved configuration names.

    Args:
        threads: CPU threads that encode together (SentencePiece); -1: as many as there are cores. Hugging Face's
            library uses all cores unless the environment says TOKENIZERS_PARALLELISM=false.

    Raises:
        VocabularyError: the file is not what the tokenizer needs; the message is one line.
    """
    if config.name == "words":
        from flanscale.tasks.templates import procedural_words

        words = [word for domain in ("digits", "letters") for word in procedural_words(domain)]
        spare = [*map(SENTINEL.format, range(SENTINELS_OF_WORDS)), *MODES_OF_WORDS]  # for the objectives of plain text
        return Words(list(dict.fromkeys([*words, *spare])))
    if config.name == "bytes":
        return Bytes()
    if config.vocabulary is None:
        raise VocabularyError(f"tokenizer={config.name} needs tokenizer.vocabulary=<file>")
    path = Path(config.vocabulary)
    return SentencePiece(path, threads) if config.name == "sentencepiece" else HuggingFace(path)


def embedding_rows(model: ModelConfig, tokenizer: Tokenizer) -> int:
    """Rows of a model's table over a vocabulary: the model's own number, else what the vocabulary needs, padded.

    Raises:
        VocabularyError: the vocabulary has more ids than the model has rows.
    """
    if model.vocab_size is None:
        return padded_vocab_size(tokenizer)
    if model.vocab_size < tokenizer.vocab_size:
        raise VocabularyError(
            f"model.vocab_size={model.vocab_size}: too few rows for the {tokenizer.vocab_size} ids of the tokenizer:"
            " give the tokenizer that belongs to the model, or for a new model model.vocab_size=null"
        )
    return model.vocab_size


def padded_vocab_size(tokenizer: Tokenizer) -> int:
    """Rows of the embedding: a multiple of 128 as in T5 (32,100 → 32,128), of 8 where the vocabulary is tiny."""
    multiple = 128 if tokenizer.vocab_size > 1024 else 8
    return -(-tokenizer.vocab_size // multiple) * multiple


class Words:
    """A closed vocabulary, one token a word: for the procedural collection, whose words are all known."""

    eos_id = EOS
    unknown_id = UNKNOWN

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ["<pad>", "</s>", "<unk>", *words]
        self._ids = _KnownWords({word: i for i, word in enumerate(words, start=UNKNOWN + 1)})

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    @cached_property
    def fingerprint(self) -> str:
        return _fingerprint("words", "\n".join(self.words).encode())

    def encode(self, texts: Sequence[str]) -> Ragged:
        import numpy as np

        from flanscale.pipeline.ragged import Ragged

        words = [text.split() for text in texts]
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        ids = map(self._ids.__getitem__, chain.from_iterable(words))
        return Ragged.consecutive(np.fromiter(ids, np.int32, int(lengths.sum())), lengths)

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " length"]) -> str:
        return " ".join(self.words[i] for i in ids if UNKNOWN < i < self.vocab_size)

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)


class _KnownWords(dict[str, int]):
    def __missing__(self, word: str) -> int:
        return UNKNOWN


class Bytes:
    """UTF-8 bytes after three special ids and before the extra ids that ByT5's released vocabulary ends with (Xue et
    al. 2022), the first of them last, as T5 has its own."""

    vocab_size = 3 + 256 + EXTRA_BYTES
    eos_id = EOS
    unknown_id = None
    fingerprint = hashlib.sha256(b"bytes and extra ids").hexdigest()[:16]

    def encode(self, texts: Sequence[str]) -> Ragged:
        import numpy as np

        from flanscale.pipeline.ragged import Ragged

        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return Ragged.consecutive(np.frombuffer(b"".join(encoded), np.uint8).astype(np.int32) + 3, lengths)

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " length"]) -> str:
        return bytes(i - 3 for i in ids if 3 <= i < 3 + 256).decode(errors="replace")

    def token_id(self, token: str) -> int | None:
        number = token.removeprefix("<extra_id_").removesuffix(">")
        named = number.isdecimal() and token == f"<extra_id_{number}>" and int(number) < EXTRA_BYTES
        return self.vocab_size - 1 - int(number) if named else None


class SentencePiece:
    """A SentencePiece model, T5's or another.

    T5's file as published holds 32,000 pieces; its 100 sentinels, `<extra_id_0>` = 32,099 downwards, are ids that only
    its readers know of. They are added here where a model of that size lacks them.

    Raises:
        VocabularyError: the file is no SentencePiece model, or the model has no end token.
    """

    def __init__(self, path: Path, threads: int = -1) -> None:
        from sentencepiece import SentencePieceProcessor

        content = _content(path)
        try:
            self._model = SentencePieceProcessor(model_proto=content, num_threads=threads)
        except (RuntimeError, OSError) as error:
            raise VocabularyError(f"tokenizer.vocabulary={path}: no SentencePiece model") from error
        self.fingerprint = _fingerprint("sentencepiece", content)
        self.eos_id = int(self._model.eos_id())
        if self.eos_id < 0:
            raise VocabularyError(f"tokenizer.vocabulary={path}: the model has no end token (</s>)")

        self.unknown_id = int(self._model.unk_id())

        self._sentinels: dict[str, int] = {}
        self._pieces = int(self._model.vocab_size())
        bare = self._pieces == T5_PIECES and self.token_id(SENTINEL.format(0)) is None
        self._sentinels = {SENTINEL.format(i): T5_PIECES + T5_SENTINELS - 1 - i for i in range(T5_SENTINELS) if bare}

    @property
    def vocab_size(self) -> int:
        return self._pieces + len(self._sentinels)

    def encode(self, texts: Sequence[str]) -> Ragged:
        from flanscale.pipeline.ragged import Ragged

        return Ragged.of(self._model.encode(list(texts), return_type="numpy"))

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " length"]) -> str:
        return str(self._model.decode([int(i) for i in ids if 0 <= i < self._pieces and i not in self._control]))

    def token_id(self, token: str) -> int | None:
        if token in self._sentinels:
            return self._sentinels[token]
        for piece in (token, f"▁{token}"):  # copies of T5's file that hold its sentinels have them as words
            number = int(self._model.piece_to_id(piece))  # that of the unknown piece where there is none
            if self._model.id_to_piece(number) == piece:
                return number
        return None

    @cached_property
    def _control(self) -> set[int]:
        return {i for i in range(self._pieces) if self._model.is_control(i)}


class HuggingFace:
    """A `tokenizer.json` of Hugging Face's tokenizers library.

    Its special tokens stand for themselves only as ids: text that spells one is text. What the file says about adding
    special tokens, cutting and padding is left aside, since packing does that.

    Raises:
        VocabularyError: the file is no tokenizer.json, or none of its special tokens is one of `END_TOKENS`.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Model

        content = _content(path)
        try:
            self._model = Model.from_str(content.decode())
        except Exception as error:  # the library raises bare Exception
            raise VocabularyError(f"tokenizer.vocabulary={path}: no tokenizer.json ({_one_line(error)})") from error
        self._model.encode_special_tokens = True
        self._model.no_truncation()
        self._model.no_padding()
        named = named_end(path)
        self.fingerprint = _fingerprint("huggingface", content + (named or "").encode())
        special = {token.content: i for i, token in self._model.get_added_tokens_decoder().items() if token.special}
        end = next((token for token in (named, *END_TOKENS) if token in special), None)
        if end is None:
            raise VocabularyError(
                f"tokenizer.vocabulary={path}: no end token among its special tokens ({', '.join(special) or 'none'});"
                f" expected one of {', '.join(END_TOKENS)}"
            )
        self.eos_id = special[end]
        self.unknown_id = _unknown_id(json.loads(content)["model"])
        self.vocab_size = 1 + max(self._model.get_vocab().values())

    def encode(self, texts: Sequence[str]) -> Ragged:
        from flanscale.pipeline.ragged import Ragged

        encodings = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        return Ragged.of([encoding.ids for encoding in encodings])

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " length"]) -> str:
        return str(self._model.decode([int(i) for i in ids if 0 <= i < self.vocab_size]))

    def token_id(self, token: str) -> int | None:
        number: int | None = self._model.token_to_id(token)
        return number


def _unknown_id(model: dict[str, Any]) -> int | None:
    """Of the model of a tokenizer.json: Unigram numbers the piece, the others name it."""
    if "unk_id" in model:
        number: int | None = model["unk_id"]
        return number
    token = model.get("unk_token")
    return None if token is None else model["vocab"].get(token)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VocabularyError(f"tokenizer.vocabulary={path}: {error.strerror}") from error


def _fingerprint(kind: str, content: bytes) -> str:
    return hashlib.sha256(f"{kind}\0".encode() + content).hexdigest()[:16]


def _one_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
