"""Side by side with transformers, where it is installed: what options are worth, and what is written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from our_side import loaded
from tiny_families import VOCAB, golden_folder
from written import answers

from flanscale.inference.engine import Engine
from flanscale.inference.scoring import Continuations, score
from flanscale.inference.writing import Limits
from flanscale.models import Model, Params

torch: Any = pytest.importorskip("torch", reason="torch and transformers are not installed")
pytest.importorskip("transformers", reason="torch and transformers are not installed")
sys.path.insert(0, str(Path(__file__).parent / "golden"))
make_golden = pytest.importorskip("make_golden")

pytestmark = pytest.mark.peer
TOLERANCE = 1e-5
EOS, NEW_TOKENS = 1, 12
FAMILIES = ("llama", "gemma2", "pythia", "t5_v1_0", "t5_v1_1")  # among them windows, caps and a head of its own


@pytest.fixture(scope="module", params=FAMILIES)
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Params, Any]:
    """(our model, our parameters, transformers' model) of the same weights."""
    folder = golden_folder(request.param, tmp_path_factory.mktemp(request.param))
    return *loaded(request.param, folder, scan=True), make_golden.load(request.param, folder)


def prompts(tiny: Model, count: int) -> list[list[int]]:
    """Of many lengths; two thirds of them begin like others. An encoder's end in EOS."""
    rng = np.random.default_rng(0)
    shared = [rng.integers(2, VOCAB, size).tolist() for size in (0, 60, 150)]
    own = [rng.integers(2, VOCAB, rng.integers(1, 25)).tolist() for _ in range(count)]
    end = [EOS] if tiny.config.architecture == "encoder_decoder" else []
    return [[*shared[number % 3], *tokens, *end] for number, tokens in enumerate(own)]


def rows_of(peer: Any, context: Sequence[int], option: Sequence[int]) -> np.ndarray:
    """The log-probabilities of every token in the place of each token of the option, of a pass of these alone."""
    with torch.no_grad():
        if peer.config.is_encoder_decoder:
            behind = torch.tensor([[0, *option[:-1]]])
            logits = peer(input_ids=torch.tensor([context]), decoder_input_ids=behind, use_cache=False).logits[0]
        else:
            logits = peer(input_ids=torch.tensor([[*context, *option[:-1]]]), use_cache=False).logits[0]
            logits = logits[len(context) - 1 :]
        return np.asarray(torch.log_softmax(logits, dim=-1))


def theirs(peer: Any, context: Sequence[int], option: Sequence[int]) -> tuple[np.ndarray, bool]:
    rows = rows_of(peer, context, option)
    return rows[np.arange(len(option)), list(option)], bool((rows.argmax(axis=-1) == option).all())


def test_options_are_worth_what_they_are_in_transformers(
    sides: tuple[Model, Params, Any], record_property: Any
) -> None:
    tiny, params, peer = sides
    rng = np.random.default_rng(1)
    asked = []
    for context in prompts(tiny, 24):
        options = [rng.integers(2, VOCAB, rng.integers(1, 6)).tolist() for _ in range(rng.integers(1, 5))]
        asked.append(Continuations(context, [[int(rows_of(peer, context, [2]).argmax())], *options]))
    found: dict[int, Any] = {}
    with jax.default_matmul_precision("highest"):
        for batch in score(Engine(tiny, params), asked):
            found |= batch
    errors = []
    for place, one in enumerate(asked):
        for option, (logprobs, greedy) in zip(one.options, found[place], strict=True):
            expected, most_likely = theirs(peer, one.context, option)
            errors.append(np.abs(logprobs - expected).max())
            assert greedy == most_likely
    assert any(greedy for scores in found.values() for _, greedy in scores)
    record_property("error", max(errors))
    print(f"{tiny.config.name}: {len(errors)} options, largest error of a log-probability {max(errors):.1e}")
    assert max(errors) < TOLERANCE


def test_what_is_written_is_what_transformers_generates(sides: tuple[Model, Params, Any]) -> None:
    tiny, params, peer = sides
    asked = prompts(tiny, 12)
    with jax.default_matmul_precision("highest"):
        written = answers(tiny, params, asked, Limits(NEW_TOKENS, (EOS,)), rows=4)
    for prompt, (answer,) in zip(asked, written, strict=True):
        given = torch.tensor([prompt])
        out = peer.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=EOS,
            pad_token_id=0,
        )[0].tolist()
        out = out[1:] if peer.config.is_encoder_decoder else out[len(prompt) :]
        assert [*answer.tokens, *([EOS] if answer.ended else [])] == out
        expected, _ = theirs(peer, prompt, out)
        np.testing.assert_allclose(answer.logprobs, expected, atol=TOLERANCE)
