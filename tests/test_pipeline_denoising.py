"""Denoising: T5's span corruption and prefix LM over whole blocks, mixtures of them, and windows that lose no token."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanscale import identity
from flanscale.config.compose import Composer
from flanscale.errors import ConfigError, DataError
from flanscale.pipeline.batches import PackedBatches
from flanscale.pipeline.denoising import Corruption, corrupt_spans, prefix_lengths, segment
from flanscale.pipeline.feed import Feed, open_feed
from flanscale.pipeline.layout import BatchLayout
from flanscale.pipeline.objectives import Denoiser, Tokens, denoisers, find_tokens, longest_text, packing
from flanscale.pipeline.packing import pack
from flanscale.pipeline.ragged import Ragged
from flanscale.pipeline.tokenizers import Bytes, Tokenizer, load_tokenizer
from flanscale.pipeline.vocabulary import train_bpe
from flanscale.pipeline.windows import NoisyText, objective_source
from flanscale.schema import ObjectiveConfig, RunConfig, TokenizerConfig, TrainerConfig

FIRST_SENTINEL = 32_099
SENTINELS = np.arange(FIRST_SENTINEL, FIRST_SENTINEL - 100, -1).astype(np.int32)
OBJECTIVES = ("span_corruption", "prefix_lm", "lm", "ul2r", "ul2")


def texts_of(lengths: Sequence[int], seed: int = 0) -> Ragged:
    lengths_array = np.array(lengths, np.int64)
    tokens = np.random.default_rng(seed).integers(3, 30_000, int(lengths_array.sum())).astype(np.uint16)
    return Ragged.consecutive(tokens, lengths_array)


def choices_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 63, count, dtype=np.uint64)


def corrupted(
    texts: Ragged, density: float = 0.15, span: float = 3.0, *, seed: int = 0, **more: Any
) -> tuple[Ragged, Ragged]:
    n = len(texts)
    return corrupt_spans(texts, np.full(n, density), np.full(n, span), choices_of(n, seed), SENTINELS, **more)


# --- an oracle: one text at a time, in plain Python, after the definitions in T5's documentation ----------------------


def oracle_counts(length: int, density: float, span: float) -> tuple[int, int]:
    """(noise tokens, spans) of a text of at least two tokens."""
    noise = min(max(round(length * density), 1), length - 1)
    return noise, min(max(round(noise / span), 1), noise, length - noise)


def oracle_sentinels(tokens: list[int], replaced: list[bool]) -> list[int]:
    """The tokens with each run of replaced ones become the next sentinel, counted down from the last extra id."""
    out: list[int] = []
    sentinel = FIRST_SENTINEL + 1
    for i, (token, gone) in enumerate(zip(tokens, replaced, strict=True)):
        if not gone:
            out.append(token)
        elif i == 0 or not replaced[i - 1]:
            sentinel -= 1
            out.append(sentinel)
    return out


def oracle_mask(tokens: list[int], target: list[int]) -> list[bool]:
    """Which tokens of a text are noise, told from the lengths of what stands between the target's sentinels."""
    spans: list[list[int]] = []
    for token in target:
        if token > 31_999:
            spans.append([])
        else:
            spans[-1].append(token)
    mask, at = [False] * len(tokens), 0
    for noise in spans:
        while tokens[at : at + len(noise)] != noise or at == 0:
            at += 1
        mask[at : at + len(noise)] = [True] * len(noise)
        at += len(noise) + 1
    return mask


def restored(input_: Sequence[int], target: Sequence[int]) -> list[int]:
    """The text: every sentinel of the input replaced by what follows it in the target."""
    fills: dict[int, list[int]] = {}
    for token in target:
        if token > 31_999:
            fills[token] = last = []
        else:
            last.append(token)
    return [t for token in input_ for t in (fills[token] if token > 31_999 else [token])]


# --- span corruption --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 400), min_size=1, max_size=30),
    density=st.sampled_from([0.15, 0.5, 0.05]),
    span=st.sampled_from([3.0, 8.0, 32.0]),
    seed=st.integers(0, 1000),
)
def test_spans_are_those_of_the_oracle(lengths: list[int], density: float, span: float, seed: int) -> None:
    # Distinct tokens, so that a span's place in the text is beyond doubt.
    texts = Ragged.of([np.random.default_rng(i).permutation(np.arange(3, 3 + n)) for i, n in enumerate(lengths)])
    inputs, targets = corrupted(texts, density, span, seed=seed)
    for text, input_, target in zip(texts, inputs, targets, strict=True):
        tokens, mask = text.tolist(), oracle_mask(text.tolist(), target.tolist())
        noise, spans = oracle_counts(len(tokens), density, span)
        assert sum(mask) == noise
        assert (target > 31_999).sum() == spans == (input_ > 31_999).sum()
        assert not mask[0]
        assert mask[-1]
        assert input_.tolist() == oracle_sentinels(tokens, mask)
        assert target.tolist() == oracle_sentinels(tokens, [not noisy for noisy in mask])
        assert restored(input_.tolist(), target.tolist()) == tokens


def test_a_block_has_the_density_and_the_spans_asked_for() -> None:
    texts = texts_of([568] * 512)
    inputs, targets = corrupted(texts)
    assert set(inputs.lengths.tolist()) == {511}  # 512 and 114 with their end marks: T5's lengths
    assert set(targets.lengths.tolist()) == {113}
    lengths = np.array(
        [len(run) for target in targets for run in np.split(target, np.flatnonzero(target > 31_999))[1:]]
    )
    assert lengths.mean() - 1 == pytest.approx(85 / 28)
    assert lengths.min() == 2  # no span is empty
    assert lengths.max() > 9  # nor are they of one length


def test_all_divisions_are_alike_probable() -> None:
    """Four kept and three noise tokens in two spans each: 3 · 2 masks (T5: «all masks are equally likely»)."""
    n = 12_000
    inputs, targets = corrupted(Ragged.of([np.arange(3, 10)] * n), density=0.45, span=1.5)
    counts = Counter((*a.tolist(), *b.tolist()) for a, b in zip(inputs, targets, strict=True))
    assert len(counts) == 6
    assert min(counts.values()) > n / 6 * 0.93
    assert max(counts.values()) < n / 6 * 1.07


def test_segments_are_a_uniform_choice_of_borders_in_every_row() -> None:
    rows = 20_000
    items, segments = np.array([6, 1, 5] * rows), np.array([3, 1, 5] * rows)
    lengths = segment(items, segments, choices_of(3 * rows)).reshape(rows, 9)
    assert (lengths[:, 3:] == 1).all()
    drawn = Counter(map(tuple, lengths[:, :3].tolist()))
    expected = {(a, b - a, 6 - b) for a, b in combinations(range(1, 6), 2)}
    assert set(drawn) == expected
    assert max(drawn.values()) - min(drawn.values()) < 0.2 * rows / len(expected)


def test_a_row_without_small_random_numbers_has_its_borders_too() -> None:
    """Seed 418,449 has none of the eleven in ninety-nine that are looked at first; its least is number 40."""
    lengths = segment(np.array([100, 1, 100]), np.array([2, 1, 2]), np.array([5, 6, 418_449], np.uint64))
    assert lengths.tolist()[3:] == [41, 59]
    assert lengths[:3].tolist() == segment(np.array([100, 1]), np.array([2, 1]), np.array([5, 6], np.uint64)).tolist()


def test_an_example_depends_on_its_own_bits_alone() -> None:
    rng = np.random.default_rng(1)
    texts, choices = texts_of(rng.integers(1, 300, 64).tolist()), choices_of(64)
    corruption = mixture(ul2r())
    which = corruption.choose(choices)
    inputs, targets = corruption(texts, which, choices)
    some = rng.permutation(64)[:20]
    again = corruption(texts.view(some), which[some], choices[some])
    for here, there in zip(some.tolist(), range(20), strict=True):
        assert inputs[here].tolist() == again[0][there].tolist()
        assert targets[here].tolist() == again[1][there].tolist()


def test_other_bits_make_other_noise() -> None:
    texts = texts_of([200] * 2)
    first, second = corrupted(texts, seed=1), corrupted(texts, seed=2)
    assert first[0][0].tolist() != second[0][0].tolist()
    assert corrupted(texts, seed=1)[1].tokens.tolist() == first[1].tokens.tolist()


def test_a_final_sentinel_ends_the_target_where_asked_for() -> None:
    texts = texts_of([568, 40])
    _, without = corrupted(texts)
    inputs, targets = corrupted(texts, final=True)
    assert [len(target) for target in targets] == [114, len(without[1]) + 1]
    for input_, target, shorter in zip(inputs, targets, without, strict=True):
        assert target[:-1].tolist() == shorter.tolist()
        assert target[-1] == input_[input_ > 31_999].min() - 1


def test_the_shortest_texts_keep_a_token_and_a_single_token_is_all_noise() -> None:
    inputs, targets = corrupted(Ragged.of([[7], [7, 8], [7, 8, 9]]))
    assert [piece.tolist() for piece in inputs] == [[32_099], [7, 32_099], [7, 8, 32_099]]
    assert [piece.tolist() for piece in targets] == [[32_099, 7], [32_099, 8], [32_099, 9]]


def test_more_spans_than_sentinels_are_refused() -> None:
    with pytest.raises(ValueError, match="a text needs 102 sentinels, but there are 100; give shorter texts"):
        corrupted(texts_of([2048]))


# --- prefix LM --------------------------------------------------------------------------------------------------------


def test_a_prefix_is_any_of_a_text_and_its_target_the_rest() -> None:
    n = 20_000
    counts = np.bincount(prefix_lengths(np.full(n, 11), np.full(n, 0.5), choices_of(n)), minlength=11)
    assert counts[0] == 0
    assert counts[1:].min() > n / 10 * 0.9
    quarter = prefix_lengths(np.full(n, 101), np.full(n, 0.25), choices_of(n))
    assert (quarter.min(), quarter.max()) == (50, 100)
    assert quarter.mean() == pytest.approx(75, abs=0.5)
    assert prefix_lengths(np.full(9, 101), np.full(9, 0.5), choices_of(9), most=10).min() >= 91
    assert prefix_lengths(np.array([1, 2]), np.full(2, 0.5), choices_of(2)).tolist() == [0, 1]


def test_a_plain_lm_learns_every_token_and_a_prefix_lm_the_suffix() -> None:
    texts, choices = texts_of([30, 1, 12]), choices_of(3)
    everything = Corruption([Denoiser("lm", "lm", 1.0)], Tokens((), {}))(texts, np.zeros(3, int), choices)
    assert everything[0].lengths.tolist() == [0, 0, 0]
    assert [piece.tolist() for piece in everything[1]] == [piece.tolist() for piece in texts]
    prefix = Corruption([Denoiser("s", "prefix", 1.0, density=0.5)], Tokens((), {}))(texts, np.zeros(3, int), choices)
    for text, input_, target in zip(texts, *prefix, strict=True):
        assert [*input_.tolist(), *target.tolist()] == text.tolist()
        assert len(target) >= 1


# --- mixtures ---------------------------------------------------------------------------------------------------------


@cache
def objective(name: str) -> ObjectiveConfig:
    return Composer().compose([f"objective={name}", "tokenizer=bytes", "collection=jsonl", *BASE]).objective


BASE = ("data.jsonl=.", "evaluation.asks=[held_out/direct]")


def ul2r() -> ObjectiveConfig:
    return objective("ul2r")


def mixture(config: ObjectiveConfig) -> Corruption:
    return Corruption(
        denoisers(config), Tokens(tuple(SENTINELS[:97].tolist()), {"R": 32_002, "S": 32_001, "X": 32_000})
    )


def test_ul2r_is_half_prefix_lm_a_quarter_regular_and_a_quarter_extreme() -> None:
    corruption, n = mixture(ul2r()), 40_000
    which = np.bincount(corruption.choose(choices_of(n)), minlength=4) / n
    assert [d.name for d in corruption.denoisers] == ["s", "r", "x_long", "x_dense"]
    assert which == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.01)
    assert [(d.density, d.span) for d in corruption.denoisers[1:]] == [(0.15, 3), (0.15, 32), (0.5, 3)]


def test_ul2_has_the_papers_seven_denoisers_in_equal_parts() -> None:
    seven = denoisers(objective("ul2"))
    assert [d.share for d in seven] == [pytest.approx(1 / 7)] * 7
    assert {(d.span, d.density) for d in seven if d.mode == "R"} == {(3, 0.15), (8, 0.15)}
    assert {(d.span, d.density) for d in seven if d.mode == "X"} == {(3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5)}
    assert [(d.kind, d.density) for d in seven if d.mode == "S"] == [("prefix", 0.25)]


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 190), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_every_text_of_a_mixture_comes_back_and_starts_with_its_mode_token(lengths: list[int], seed: int) -> None:
    corruption, texts, choices = mixture(ul2r()), texts_of(lengths, seed), choices_of(len(lengths), seed)
    which = corruption.choose(choices)
    inputs, targets = corruption(texts, which, choices)
    for text, input_, target, number in zip(texts, inputs, targets, which.tolist(), strict=True):
        denoiser = corruption.denoisers[number]
        assert input_[0] == {"R": 32_002, "S": 32_001, "X": 32_000}[denoiser.mode or ""]
        rest = input_[1:].tolist()
        whole = rest + target.tolist() if denoiser.kind == "prefix" else restored(rest, target.tolist())
        assert whole == text.tolist()


# --- tokens of a vocabulary -------------------------------------------------------------------------------------------


def test_t5_and_bytes_give_up_extra_ids_for_modes_and_count_sentinels_down(shared_data_or_bytes: Tokenizer) -> None:
    tokens = find_tokens(ul2r(), shared_data_or_bytes)
    last = shared_data_or_bytes.token_id("<extra_id_0>") or 0
    assert tokens.sentinels == tuple(range(last, last - 97, -1))
    assert tokens.modes == {"S": last - 98, "R": last - 97, "X": last - 99}
    assert find_tokens(objective("lm"), shared_data_or_bytes).modes == {}


@pytest.fixture(params=["bytes", pytest.param("t5", marks=pytest.mark.data)])
def shared_data_or_bytes(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bytes":
        return Bytes()
    vocabulary = request.getfixturevalue("shared_data") / "tokenizer" / "t5.spiece.model"
    return load_tokenizer(TokenizerConfig(name="sentencepiece", vocabulary=str(vocabulary)))


def test_a_vocabulary_without_spare_tokens_is_refused_in_one_line(tmp_path: Path) -> None:
    train_bpe(["to be or not to be"], 300, tmp_path / "tokenizer.json")
    tokenizer = load_tokenizer(TokenizerConfig(name="huggingface", vocabulary=str(tmp_path / "tokenizer.json")))
    with pytest.raises(
        DataError, match=r"^objective\.mode_tokens\.S=\[\[S2S\], <extra_id_98>\]: the vocabulary has no"
    ):
        find_tokens(ul2r(), tokenizer)
    with pytest.raises(DataError, match=r"^objective\.sentinels=<extra_id_\{\}>: the vocabulary has no <extra_id_0>"):
        find_tokens(objective("span_corruption"), tokenizer)


def test_added_tokens_of_a_hugging_face_vocabulary_are_used(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    train_bpe(["to be or not to be"], 300, path)
    content = json.loads(path.read_text())
    size = len(content["model"]["vocab"])
    names = ["[NLU]", "[S2S]", "[NLG]", "<|spare_0|>", "<|spare_1|>"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] += [{"id": size + i, "content": name, **plain} for i, name in enumerate(names)]
    path.write_text(json.dumps(content))
    tokenizer = load_tokenizer(TokenizerConfig(name="huggingface", vocabulary=str(path)))
    tokens = find_tokens(dataclasses.replace(ul2r(), sentinels="<|spare_{}|>"), tokenizer)
    assert tokens.modes == {"R": size, "S": size + 1, "X": size + 2}
    assert tokens.sentinels == (size + 3, size + 4)


# --- lengths ----------------------------------------------------------------------------------------------------------


def rows(inputs: int, targets: int) -> TrainerConfig:
    return TrainerConfig(steps=1, batch_rows=1, input_tokens=inputs, target_tokens=targets)


def longest(
    denoiser: Denoiser, inputs: int, targets: int, architecture: str, sentinels: int = 100, mode: int = 0
) -> int:
    config = rows(inputs, targets)
    return longest_text(denoiser, config, architecture=architecture, sentinels=sentinels, mode=mode, final=0)


def test_texts_are_as_long_as_t5_derives_them() -> None:
    regular = Denoiser("r", "spans", 1.0, density=0.15, span=3)
    assert longest(regular, 512, 114, "encoder_decoder") == 568
    assert longest(regular, 1024, 1024, "encoder_decoder", sentinels=1000) == 1137  # T5's helper: 1137 and 229
    assert longest(regular, 512, 100, "encoder_decoder") < 568  # the target's row is the narrower one


def test_no_text_needs_more_sentinels_than_there_are() -> None:
    dense = Denoiser("x", "spans", 1.0, density=0.5, span=3)
    assert longest(dense, 0, 4096, "decoder", sentinels=97) == 585  # 292 noise tokens in 97 spans


def test_a_prefix_lm_and_an_lm_fill_a_row_up_to_its_end_mark() -> None:
    prefix, everything = Denoiser("s", "prefix", 1.0, density=0.5), Denoiser("lm", "lm", 1.0)
    assert longest(prefix, 1024, 256, "encoder_decoder") == 1023
    assert longest(prefix, 0, 2048, "decoder", mode=1) == 2046
    assert longest(everything, 0, 2048, "decoder") == 2047


# --- windows ----------------------------------------------------------------------------------------------------------


class Fixed:
    """Documents of two tasks; what is drawn does not depend on the choice."""

    def __init__(self, lengths: Sequence[Sequence[int]]) -> None:
        self.sizes = [len(task) for task in lengths]
        numbers = iter(range(10**9))
        # Each token tells where it is from: text after text, each from 3 on.
        self.texts = [[np.array([3 + next(numbers) % 250 for _ in range(n)]) for n in task] for task in lengths]

    def tokens(self, tasks: np.ndarray, examples: np.ndarray, choices: np.ndarray) -> tuple[Ragged, Ragged]:
        texts = [self.texts[task][example] for task, example in zip(tasks, examples, strict=True)]
        half = [len(text) // 3 for text in texts]
        return (
            Ragged.of([text[:at] for text, at in zip(texts, half, strict=True)]),
            Ragged.of([text[at:] for text, at in zip(texts, half, strict=True)]),
        )


def cell(name: str, *overrides: str, model: str = "micro", inputs: int = 48, targets: int = 40) -> RunConfig:
    lengths = [f"trainer.input_tokens={inputs}", f"trainer.target_tokens={targets}", "trainer.batch_rows=4"]
    shared = [f"objective={name}", f"model={model}", "tokenizer=bytes", "collection=jsonl", *BASE]
    return Composer().compose([*shared, *lengths, *overrides])


def cases() -> list[tuple[str, str]]:
    return [
        (name, model) for name in OBJECTIVES for model in ("micro", "t5_micro") if (name, model) != ("lm", "t5_micro")
    ]


@pytest.mark.parametrize(("name", "model"), cases())
@pytest.mark.parametrize("kept", [True, False])
def test_one_epoch_holds_every_token_once_and_no_row_is_too_short(name: str, model: str, kept: bool) -> None:
    lengths = [[5, 1000, 0, 47, 48, 49, 1], [300, 88, 87]]
    original = Fixed(lengths)
    config = cell(name, f"mixture.renderings={int(not kept)}", model=model)
    source = objective_source(original, config, Bytes())
    assert isinstance(source, NoisyText)
    modes = set(find_tokens(config.objective, Bytes()).modes.values())
    for task, texts in enumerate(original.texts):
        numbers = np.arange(source.sizes[task])
        inputs, targets = source.tokens(np.full(len(numbers), task), numbers, choices_of(len(numbers), task))
        whole: list[int] = []
        for input_, target in zip(inputs, targets, strict=True):
            rest = [token for token in input_.tolist() if token not in modes]
            has_spans = bool(len(target)) and target[0] > 258
            whole += restored_bytes(rest, target.tolist()) if has_spans else rest + target.tolist()
        assert whole == [token for text in texts for token in text.tolist()]
        shape = packing(config.objective, config.model, config.trainer)
        tokens = {"input_tokens": shape.input_tokens, "target_tokens": shape.target_tokens}
        assert pack(inputs, targets, architecture=config.model.architecture, **tokens).truncated == 0
    assert source.tokens_per_draw * source.sizes == pytest.approx([sum(task) for task in lengths])


def restored_bytes(input_: list[int], target: list[int]) -> list[int]:
    def lifted(tokens: list[int]) -> list[int]:
        return [token + 100_000 if token > 258 else token for token in tokens]

    return restored(lifted(input_), lifted(target))


def test_windows_are_shared_out_among_denoisers_and_fill_their_rows() -> None:
    source = objective_source(Fixed([[20_000] * 4]), cell("ul2r", inputs=64, targets=64), Bytes())
    n = source.sizes[0]
    inputs, targets = source.tokens(np.zeros(n, int), np.arange(n), choices_of(n))
    modes = find_tokens(ul2r(), Bytes()).modes
    started = Counter(int(input_[0]) for input_ in inputs)
    assert started[modes["S"]] / n == pytest.approx(0.5, abs=0.05)
    assert started[modes["R"]] / n == pytest.approx(0.25, abs=0.05)
    filled = (inputs.lengths + targets.lengths + 1) / 128
    assert np.mean(filled > 0.97) > 0.98  # all but the last window of each text


def test_a_short_text_meets_every_denoiser() -> None:
    source = objective_source(Fixed([[20]]), cell("ul2r"), Bytes())
    zeros = np.zeros(200, int)
    inputs, _ = source.tokens(zeros, zeros, choices_of(200))
    assert len({int(input_[0]) for input_ in inputs}) == 3


def test_a_resumed_stream_goes_on_as_if_it_had_not_stopped() -> None:
    config = cell("ul2r", model="t5_micro")

    def stream() -> PackedBatches:
        source = objective_source(Fixed([[900, 30, 500] * 20, [70] * 9]), config, Bytes())
        weights = [0.75, 0.25]
        return PackedBatches(source, weights, BatchLayout(config.trainer, "encoder_decoder", eos_id=1), seed=3)

    whole = stream()
    for _ in range(7):
        next(whole)
    state = whole.state()
    resumed = stream()
    resumed.restore(state)
    for _ in range(5):
        here, there = next(whole), next(resumed)
        assert {name: array.tobytes() for name, array in here.items()} == {k: v.tobytes() for k, v in there.items()}


def test_rows_too_short_for_a_denoiser_are_refused_in_one_line() -> None:
    config = cell("ul2r", model="t5_micro")
    config.trainer.target_tokens = 2
    with pytest.raises(
        DataError, match=r"^objective\.denoisers\.r: no text of two tokens fits rows of trainer\.input_"
    ):
        objective_source(Fixed([[20]]), config, Bytes())


# --- cells of plain text ----------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    stories = [f"Story {i}. " + "One day it rained and the river rose. " * (i % 9 + 1) for i in range(80)]
    (folder / "stories.jsonl").write_text("\n".join(json.dumps({"text": story}) for story in stories))
    (folder / "essay.txt").write_text("A long essay about rivers.\n" * 900)
    return folder


def text_cell(corpus: Path, *overrides: str) -> RunConfig:
    given = {"objective": "ul2r", "collection": "text", "tokenizer": "bytes", "mixture": "text", "evaluation": "none"}
    given |= {"data.text": str(corpus), "paths.cache": str(corpus.parent / "cache")}
    given |= dict(override.split("=", 1) for override in overrides)
    return identity.resolve(Composer().compose([f"{key}={value}" for key, value in given.items()]))


def feed_of(config: RunConfig) -> Feed:
    return open_feed(config, load_tokenizer(config.tokenizer), workers=1)


def test_stored_and_on_demand_cells_learn_the_same(corpus: Path) -> None:
    stored, kept = feed_of(text_cell(corpus)), feed_of(text_cell(corpus, "mixture.renderings=0"))
    assert list(stored.source.sizes) == list(kept.source.sizes) == stored.mixture.sizes.tolist()
    n = stored.source.sizes[0]
    draw = (np.zeros(n, int), np.arange(n), choices_of(n))
    for a, b in zip(stored.source.tokens(*draw), kept.source.tokens(*draw), strict=True):
        assert [piece.tolist() for piece in a] == [piece.tolist() for piece in b]
    assert len(stored.held_in[0]) == len(kept.held_in[0]) > 0


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["objective=instruction"], "collection=text has no answers to learn: choose objective=ul2r"),
        (["evaluation=procedural"], "collection=text asks nothing: set cot=false and evaluation=none"),
        (["mixture.renderings=3"], "mixture.renderings=3 with objective=ul2r: texts are learned in one wording"),
        (["objective=lm", "model=t5_micro"], "objective=lm is for decoders: use objective=prefix_lm"),
        (["objective.denoisers.r.kind=span"], "objective.denoisers.r.kind=span: must be one of spans, prefix, lm"),
        (["objective.denoisers.r.density=1.5"], "objective.denoisers.r.density=1.5: expected a number between 0 and 1"),
        (["objective.denoisers.r.size=3"], "objective.denoisers.r.size: a denoiser of kind spans has kind, share"),
        (["objective.denoisers.r.mode=Q"], "objective.denoisers.r.mode=Q: must be one of objective.mode_tokens, R, S"),
        (["objective=ul3"], "objective=ul3: no such choice"),
        (["objective.mode_tokens.R=[spare]"], "objective.mode_tokens.R=[spare]: the vocabulary has no such token"),
    ],
)
def test_a_mistaken_objective_is_one_line(corpus: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        text_cell(corpus, *overrides)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_the_objective_is_part_of_a_cells_identity_and_name(corpus: Path) -> None:
    one, other = text_cell(corpus), text_cell(corpus, "objective.denoisers.r.density=0.2")
    assert identity.identity(one) != identity.identity(other)
    assert "-ul2r-" in identity.run_name(one)


@pytest.mark.parametrize("model", ["nano", pytest.param("t5_micro", marks=pytest.mark.slow)])
def test_a_pretraining_cell_trains_and_tells_its_held_in_loss(
    corpus: Path, model: str, run_cell: Callable[..., Any]
) -> None:
    rows = run_cell(text_cell(corpus, f"model={model}", "trainer.steps=3", "trainer.log_every=1", "tracker=disabled"))
    assert rows[-1]["step"] == 3
    assert 0 < rows[-1]["validation/loss"] < 10
    assert rows[-1]["validation/tokens"] > 100


@pytest.fixture
def run_cell(tmp_path: Path) -> Callable[[RunConfig], list[dict[str, Any]]]:
    from flanscale.run import run
    from flanscale.run_directory import read_rows

    def executed(config: RunConfig) -> list[dict[str, Any]]:
        directory = tmp_path / "run"
        directory.mkdir()
        run(config, directory, attempt=1, should_stop=lambda: False)
        return list(read_rows(directory))

    return executed
