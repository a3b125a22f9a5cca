"""Packing: every example arrives whole, beside others and apart from them."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanscale.pipeline.assignment import assign_rows
from flanscale.pipeline.packing import PAD, Packed, pack
from flanscale.pipeline.ragged import Ragged

EOS = 1


def draw(seed: int, count: int, longest: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 1000, rng.integers(0, longest + 1)).astype(np.int32) for _ in range(count)]


def segments(packed: Packed, stack: str, field: str) -> list[list[int]]:
    """The values of every example's segment, in the order of the examples."""
    numbers = np.zeros(len(packed.rows[f"{stack}_positions"]), int)
    found = []
    for row in packed.row_of_example:
        numbers[row] += 1
        at = packed.rows[f"{stack}_segment_ids"][row] == numbers[row]
        found.append(packed.rows[f"{stack}_{field}"][row][at].tolist())
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_decoder_row_holds_inputs_then_targets_then_eos(seed: int) -> None:
    inputs, targets = draw(seed, 60, 20), draw(seed + 100, 60, 9)
    packed = pack(inputs, targets, architecture="decoder", input_tokens=20, target_tokens=10)
    whole = [[*x, *y, EOS] for x, y in zip(inputs, targets, strict=True)]
    assert segments(packed, "decoder", "target_tokens") == whole
    assert segments(packed, "decoder", "input_tokens") == [[PAD, *tokens[:-1]] for tokens in whole]
    assert segments(packed, "decoder", "positions") == [list(range(len(tokens))) for tokens in whole]
    assert segments(packed, "decoder", "loss_weights") == [
        [0.0] * len(x) + [1.0] * (len(y) + 1) for x, y in zip(inputs, targets, strict=True)
    ]
    assert packed.truncated == 0
    assert all(array.shape == (len(array), 30) for array in packed.rows.values())


@pytest.mark.parametrize("seed", range(5))
def test_an_encoder_row_holds_inputs_and_the_decoder_row_of_the_same_number_its_targets(seed: int) -> None:
    inputs, targets = draw(seed, 60, 19), draw(seed + 100, 60, 9)
    packed = pack(inputs, targets, architecture="encoder_decoder", input_tokens=20, target_tokens=10)
    answers = [[*y, EOS] for y in targets]
    assert segments(packed, "encoder", "input_tokens") == [[*x, EOS] for x in inputs]
    assert segments(packed, "encoder", "positions") == [list(range(len(x) + 1)) for x in inputs]
    assert segments(packed, "decoder", "target_tokens") == answers
    assert segments(packed, "decoder", "input_tokens") == [[PAD, *tokens[:-1]] for tokens in answers]
    assert segments(packed, "decoder", "loss_weights") == [[1.0] * len(tokens) for tokens in answers]
    assert packed.rows["encoder_positions"].shape[1] == 20
    assert packed.rows["decoder_positions"].shape[1] == 10


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_everything_outside_segments_is_zero(architecture: str) -> None:
    packed = pack(draw(0, 30, 9), draw(1, 30, 9), architecture=architecture, input_tokens=12, target_tokens=12)
    for stack in {name.split("_")[0] for name in packed.rows}:
        padding = packed.rows[f"{stack}_segment_ids"] == 0
        assert padding.any()
        for name, array in packed.rows.items():
            if name.startswith(stack):
                assert (array[padding] == 0).all(), name


def test_batches_have_seqios_fields_and_dtypes() -> None:
    decoder = {f"decoder_{f}" for f in ("input_tokens", "target_tokens", "loss_weights", "segment_ids", "positions")}
    encoder = {f"encoder_{f}" for f in ("input_tokens", "segment_ids", "positions")}
    for architecture, expected in (("decoder", decoder), ("encoder_decoder", decoder | encoder)):
        rows = pack(draw(0, 3, 5), draw(1, 3, 5), architecture=architecture, input_tokens=8, target_tokens=8).rows
        assert set(rows) == expected
        assert {array.dtype for name, array in rows.items() if name != "decoder_loss_weights"} == {np.dtype(np.int32)}
        assert rows["decoder_loss_weights"].dtype == np.float32


def test_a_long_input_keeps_its_end_and_a_long_target_its_start_and_its_eos() -> None:
    long, short = np.arange(100, 150), np.array([7, 8])

    def only(architecture: str, inputs: np.ndarray, targets: np.ndarray) -> Packed:
        return pack([inputs], [targets], architecture=architecture, input_tokens=10, target_tokens=6)

    both = only("encoder_decoder", long, long)
    assert both.rows["encoder_input_tokens"][0].tolist() == [*range(141, 150), EOS]
    assert both.rows["decoder_target_tokens"][0].tolist() == [*range(100, 105), EOS]
    assert both.truncated == 1, "one example, however often it was cut"

    joined = only("decoder", long, long)
    assert joined.rows["decoder_target_tokens"][0].tolist() == [*range(140, 150), *range(100, 105), EOS]
    roomy = only("decoder", long, short)
    assert roomy.rows["decoder_target_tokens"][0].tolist() == [*range(137, 150), 7, 8, EOS], (
        "a short target leaves room"
    )
    assert only("decoder", long[:13], short).truncated == 0
    assert only("decoder", long[:14], short).truncated == 1


def first_fit_decreasing(lengths: np.ndarray, width: int) -> int:
    rooms: list[int] = []
    for need in sorted(lengths.tolist(), reverse=True):
        at = next((i for i, room in enumerate(rooms) if room >= need), len(rooms))
        rooms[at : at + 1] = [(rooms[at] if at < len(rooms) else width) - need]
    return len(rooms)


@pytest.mark.parametrize("seed", range(8))
def test_one_feature_takes_as_many_rows_as_first_fit_decreasing(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, (11, 101)[seed % 2], 300)
    rows = assign_rows([lengths], [100])
    assert np.bincount(rows, lengths).max() <= 100
    assert rows.max() + 1 == first_fit_decreasing(lengths, 100)


@settings(deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=120), st.sampled_from([40, 64]))
def test_no_row_overflows_and_none_is_empty(pairs: list[tuple[int, int]], width: int) -> None:
    a, b = np.array(pairs).T
    rows = assign_rows([a, b], [width, 12])
    assert set(rows) == set(range(rows.max() + 1))
    assert np.bincount(rows, a).max() <= width
    assert np.bincount(rows, b).max() <= 12


def flan_like(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lengths with their EOS: mean 143 and 18, cut at 1,024 and 256."""
    rng = np.random.default_rng(seed)
    inputs, targets = rng.lognormal(4.6, 0.9, count), rng.lognormal(2.2, 1.2, count)
    return np.clip(inputs, 5, 1024).astype(int), np.clip(targets, 2, 256).astype(int)


def test_rows_are_nearly_full() -> None:
    a, b = flan_like(2048)
    together = a.sum() / 1024 / (assign_rows([a, b], [1024, 256]).max() + 1)
    joined = np.minimum(a + b, 1280)
    alone = joined.sum() / 1280 / (assign_rows([joined], [1280]).max() + 1)
    assert together > 0.97
    assert alone > 0.99


def test_every_example_keeps_its_row_from_one_version_to_the_next() -> None:
    number = np.arange(2048)
    a, b = (number * 7919 % 1021) ** 2 // 1021 + 4, (number * 6151 % 251) ** 2 // 251 + 2
    both, one = assign_rows([a, b], [1024, 256]), assign_rows([a + b], [1280])
    assert hashlib.sha256(both.astype("<i8").tobytes()).hexdigest().startswith("4278f2aba7791b08")
    assert hashlib.sha256(one.astype("<i8").tobytes()).hexdigest().startswith("2a1c0b674b30ca49")


def test_where_both_features_bind_rows_are_fuller_than_first_fit_in_order_would_leave_them() -> None:
    rng = np.random.default_rng(0)
    heavy = rng.random(2000) < 0.5  # half of the examples ask long, half answer long
    a = np.where(heavy, rng.integers(100, 400, 2000), rng.integers(5, 60, 2000))
    b = np.where(heavy, rng.integers(1, 6, 2000), rng.integers(10, 60, 2000))
    rooms: list[list[int]] = []
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        room = next((r for r in rooms if r[0] >= x and r[1] >= y), None)
        if room is None:
            rooms.append(room := [512, 64])
        room[0] -= x
        room[1] -= y
    assert assign_rows([a, b], [512, 64]).max() + 1 < len(rooms)


@pytest.mark.parametrize("seed", range(3))
def test_rows_can_be_laid_out_a_few_at_a_time_and_in_any_order(seed: int) -> None:
    packed = pack(
        draw(seed, 80, 20), draw(seed + 9, 80, 9), architecture="encoder_decoder", input_tokens=32, target_tokens=16
    )
    order = np.random.default_rng(seed).permutation(len(packed))
    pieces = [packed.take(order[i : i + 3]) for i in range(0, len(order), 3)]
    for name, rows in packed.rows.items():
        assert np.array_equal(np.concatenate([piece[name] for piece in pieces]), rows[order]), name


def test_the_plan_is_the_same_whatever_array_the_tokens_come_from() -> None:
    inputs, targets = draw(0, 50, 20), draw(1, 50, 9)
    scattered = Ragged.of([np.zeros(7, np.int32), *inputs[::-1]]).view(np.arange(50, 0, -1))
    small = Ragged(scattered.tokens.astype(np.uint16), scattered.starts, scattered.lengths)
    limits = {"architecture": "decoder", "input_tokens": 24, "target_tokens": 12}
    expected = pack(inputs, targets, **limits).rows
    for source in (scattered, small):
        for name, rows in pack(source, Ragged.of(targets), **limits).rows.items():
            assert rows.dtype == expected[name].dtype
            assert np.array_equal(rows, expected[name]), name


def test_examples_without_a_single_token_are_packed_too() -> None:
    empty = [np.empty(0, np.int32)] * 3
    packed = pack(empty, empty, architecture="encoder_decoder", input_tokens=8, target_tokens=8)
    assert packed.rows["encoder_input_tokens"].tolist() == [[EOS, EOS, EOS, 0, 0, 0, 0, 0]]


def test_nothing_packs_to_no_rows() -> None:
    packed = pack([], [], architecture="encoder_decoder", input_tokens=8, target_tokens=8)
    assert packed.rows["encoder_input_tokens"].shape == (0, 8)
    assert packed.truncated == 0


# --- what a decoder reads first ---------------------------------------------------------------------------------------


def decoder_rows(inputs: list[list[int]], targets: list[list[int]], **how: Any) -> dict[str, np.ndarray]:
    pairs = [[np.array(ids, np.int32) for ids in side] for side in (inputs, targets)]
    return pack(*pairs, architecture="decoder", input_tokens=8, target_tokens=4, **how).take(slice(None))


def test_a_start_token_stands_before_every_segment() -> None:
    rows = decoder_rows([[11, 12], [13]], [[21], [22]], bos_id=99)
    assert rows["decoder_input_tokens"].tolist() == [[99, 11, 12, 21, 99, 13, 22, 0, 0, 0, 0, 0]]
    assert rows["decoder_target_tokens"].tolist() == [[11, 12, 21, 1, 13, 22, 1, 0, 0, 0, 0, 0]]


def test_without_a_start_token_the_first_token_is_read_and_not_predicted() -> None:
    rows = decoder_rows([[11, 12], [], [13]], [[21], [31, 32], []], bos_id=None)
    segments = rows["decoder_segment_ids"][0]
    told = {
        tuple(rows["decoder_input_tokens"][0][segments == i].tolist()): (
            rows["decoder_target_tokens"][0][segments == i].tolist(),
            rows["decoder_loss_weights"][0][segments == i].tolist(),
        )
        for i in (1, 2, 3)
    }
    assert told == {
        (11, 12, 21): ([12, 21, 1], [0.0, 1.0, 1.0]),
        (31, 32): ([32, 1], [1.0, 1.0]),  # no input: all but the first is learned
        (13,): ([1], [1.0]),
    }


@pytest.mark.parametrize("bos_id", [99, None])
def test_the_prefix_is_where_inputs_are_read_and_no_answer_is(bos_id: int | None) -> None:
    rows = decoder_rows([[11, 12], [13]], [[21, 22], [23]], bos_id=bos_id, prefix=True)
    read, prefix = rows["decoder_input_tokens"][0], rows["decoder_prefix"][0]
    assert sorted(read[prefix == 1].tolist()) == sorted([11, 12, 13] + [99, 99] * (bos_id is not None))
    learned = rows["decoder_loss_weights"][0] > 0
    assert set(rows["decoder_target_tokens"][0][learned]) == {21, 22, 23, 1}
    assert "decoder_prefix" not in decoder_rows([[11]], [[21]])
