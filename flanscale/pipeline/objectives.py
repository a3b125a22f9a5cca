"""What is learned from a text? One denoiser, or a mixture of them: spans to fill in, a suffix to go on with, all of it.

Span corruption: Raffel et al. 2020, §3.1.4, as `t5.data.preprocessors` counts it. Prefix LM: the same, §3.2.3.
Mixtures: UL2 (Tay et al. 2022a), UL2R (Tay et al. 2022b). Here are their parameters, tokens and lengths;
`denoising` takes texts apart. Standard library and NumPy only, and the former alone until lengths are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flanscale.errors import DataError
from flanscale.schema import ModelConfig, ObjectiveConfig, TrainerConfig

if TYPE_CHECKING:
    from flanscale.pipeline.tokenizers import Tokenizer

KINDS: dict[str, tuple[str, ...]] = {"spans": ("density", "span"), "prefix": ("density",), "lm": ()}
"""Kind of denoiser → its parameters, all required."""


@dataclass(frozen=True)
class Denoiser:
    """One way to make an input and a target of a text."""

    name: str
    kind: str
    share: float
    """Of the texts; the shares of a mixture sum to one."""
    density: float = 0.0
    """Share of a text's tokens that become its target; prefix: on average."""
    span: float = 0.0
    """spans: mean tokens of a span."""
    mode: str | None = None
    """Which of the objective's mode tokens stands first in the input."""


@dataclass(frozen=True)
class Tokens:
    """The ids that denoisers add to texts."""

    sentinels: tuple[int, ...]
    modes: Mapping[str, int]


def denoisers(config: ObjectiveConfig) -> tuple[Denoiser, ...]:
    """The checked denoisers of an objective, shares normalised; none: examples are learned as they are.

    Raises:
        ValueError: one line that names the key.
    """
    read = [_denoiser(name, values, config) for name, values in config.denoisers.items()]
    total = sum(denoiser.share for denoiser in read)
    return tuple(dataclasses.replace(denoiser, share=denoiser.share / total) for denoiser in read)


def packing(objective: ObjectiveConfig, model: ModelConfig, trainer: TrainerConfig) -> TrainerConfig:
    """The trainer's rows as packing and flops should see them: a decoder's row of text is one length, not two.

    Packing keeps a decoder's answer to `target_tokens`, so that its question has room; a text's suffix or a dense
    corruption's target may take the whole row.
    """
    if model.architecture != "decoder" or not objective.denoisers:
        return trainer
    return dataclasses.replace(trainer, input_tokens=0, target_tokens=trainer.input_tokens + trainer.target_tokens)


def find_tokens(config: ObjectiveConfig, tokenizer: Tokenizer) -> Tokens:
    """The ids of sentinels and mode tokens in a vocabulary.

    Sentinels are the tokens `objective.sentinels` with 0, 1, 2, … in it, up to the first that the vocabulary lacks or
    that is a mode token. A mode token is the first of its names that the vocabulary has.

    Raises:
        DataError: the vocabulary lacks what the denoisers need; the line names the key and what could be given.
    """
    used = denoisers(config)
    modes: dict[str, int] = {}
    for mode in dict.fromkeys(d.mode for d in used if d.mode is not None and config.mode_tokens):
        names = config.mode_tokens[mode]
        found = next((number for name in names if (number := tokenizer.token_id(name)) is not None), None)
        if found is None:
            raise DataError(
                f"objective.mode_tokens.{mode}=[{', '.join(names)}]: the vocabulary has no such token; name one that it"
                f" has and that texts never use, or set objective.mode_tokens={{}} to do without mode tokens"
            )
        if found in modes.values():
            raise DataError(f"objective.mode_tokens.{mode}: token {found} is another mode's already; give each its own")
        modes[mode] = found
    sentinels: list[int] = []
    while (number := tokenizer.token_id(config.sentinels.replace("{}", str(len(sentinels))))) is not None:
        if number in modes.values():
            break
        sentinels.append(number)
    if not sentinels and any(d.kind == "spans" for d in used):
        raise DataError(
            f"objective.sentinels={config.sentinels}: the vocabulary has no {config.sentinels.replace('{}', '0')}; give"
            " the pattern of spare tokens that it has, {} for their number from 0, as in <|reserved_special_token_{}|>"
        )
    return Tokens(tuple(sentinels), modes)


def longest_text(
    denoiser: Denoiser, trainer: TrainerConfig, *, architecture: str, sentinels: int, mode: int, final: int
) -> int:
    """Tokens of the longest text whose input and target, each with what is added to it, fit a row.

    T5 derives it from the input's length alone (`random_spans_helper`: 512 → 568) and the target's length from that
    (114); with these two as a row's lengths it is the same here.

    Args:
        trainer: as `packing` gives it.
        sentinels: how many the vocabulary has.
        mode: mode tokens in front of an input, 0 or 1.
        final: sentinels that end a target, 0 or 1.
    """
    import numpy as np

    row = trainer.input_tokens + trainer.target_tokens
    if denoiser.kind == "lm":
        return row - 1
    if denoiser.kind == "prefix":
        return row - 1 - mode if architecture == "decoder" else trainer.input_tokens - 1 - mode
    lengths = np.arange(2, row + 1)
    noise, spans = noise_counts(lengths, np.float64(denoiser.density), np.float64(denoiser.span))
    inputs, targets = lengths - noise + spans + mode, noise + spans + final
    fits = spans + final <= sentinels
    if architecture == "decoder":
        fits &= inputs + targets + 1 <= row
    else:
        fits &= (inputs + 1 <= trainer.input_tokens) & (targets + 1 <= trainer.target_tokens)
    return int(lengths[fits].max()) if fits.any() else 0


def noise_counts(lengths: Any, density: Any, span: Any) -> tuple[Any, Any]:
    """(noise tokens, spans) of texts: arrays of integers, one item a text.

    Both are at least one, and so are the tokens kept, unless a text is a single token, which is all noise here. T5
    rounds halves to the even side, as is done here.
    """
    import numpy as np

    noise = np.rint(lengths * density).astype(np.int64)
    noise = np.clip(noise, 1, np.maximum(lengths - 1, 1))
    spans = np.maximum(np.rint(noise / span).astype(np.int64), 1)
    return noise, np.minimum(spans, np.maximum(np.minimum(noise, lengths - noise), 1))


# --- reading ---------------------------------------------------------------------------------------------------------


def _denoiser(name: str, values: Any, config: ObjectiveConfig) -> Denoiser:
    key = f"objective.denoisers.{name}"
    if not isinstance(values, Mapping) or values.get("kind") not in KINDS:
        kind = values.get("kind") if isinstance(values, Mapping) else values
        raise ValueError(f"{key}.kind={kind}: must be one of {', '.join(KINDS)}")
    needed = KINDS[values["kind"]]
    known = ("kind", "share", *needed, *(["mode"] if needed else []))
    for unknown in values.keys() - set(known):
        raise ValueError(f"{key}.{unknown}: a denoiser of kind {values['kind']} has {', '.join(known)} only")
    numbers = {"share": values.get("share", 1.0)} | {name: values.get(name) for name in needed}
    ranges = {"share": (0.0, float("inf")), "density": (0.0, 1.0), "span": (0.0, float("inf"))}
    for parameter, number in numbers.items():
        low, high = ranges[parameter]
        if isinstance(number, bool) or not isinstance(number, int | float) or not low < number < high:
            wanted = "between 0 and 1" if high == 1 else "above 0"
            raise ValueError(f"{key}.{parameter}={number}: expected a number {wanted}")
    if values["kind"] == "prefix" and numbers["density"] > 0.5:
        raise ValueError(
            f"{key}.density={numbers['density']}: a prefix LM's target is at most 0.5 of a text, on average"
        )
    mode = values.get("mode")
    if mode is not None and config.mode_tokens and mode not in config.mode_tokens:
        raise ValueError(f"{key}.mode={mode}: must be one of objective.mode_tokens, {', '.join(config.mode_tokens)}")
    return Denoiser(name, values["kind"], mode=mode if config.mode_tokens else None, **numbers)
