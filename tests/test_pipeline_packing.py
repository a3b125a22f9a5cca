"""Packing: every example arrives whole, beside others and apart from them."""

import numpy as np
import pytest

from flanscale.pipeline.packing import PAD, Packed, first_fit, pack

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


@pytest.mark.parametrize("features", [1, 2])
def test_an_example_goes_to_the_oldest_row_with_room(features: int) -> None:
    rng = np.random.default_rng(0)
    lengths = [rng.integers(1, 11, 200) for _ in range(features)]
    rooms: list[list[int]] = []
    expected = []
    for needs in zip(*lengths, strict=True):
        at = next((i for i, room in enumerate(rooms) if all(np.array(room) >= needs)), len(rooms))
        if at == len(rooms):
            rooms.append([10] * features)
        rooms[at] = [room - need for room, need in zip(rooms[at], needs, strict=True)]
        expected.append(at)
    assert first_fit(lengths, [10] * features).tolist() == expected


def test_rows_are_nearly_full() -> None:
    packed = pack(draw(0, 2000, 20), draw(1, 2000, 9), architecture="decoder", input_tokens=64, target_tokens=64)
    assert (packed.rows["decoder_segment_ids"] > 0).mean() > 0.98


def test_nothing_packs_to_no_rows() -> None:
    packed = pack([], [], architecture="encoder_decoder", input_tokens=8, target_tokens=8)
    assert packed.rows["encoder_input_tokens"].shape == (0, 8)
    assert packed.truncated == 0
