"""Asked in text, a model answers in text, and what was cut of question or answer is said."""

from __future__ import annotations

import logging

import jax
import pytest

from flanscale.config.compose import Composer
from flanscale.inference.language_model import TrainedModel
from flanscale.models import build_model
from flanscale.pipeline.tokenizers import load_tokenizer, padded_vocab_size
from flanscale.training.step import init_params


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    config = Composer().compose(["tokenizer=bytes", "collection=jsonl", "mixture.count=0"])
    tokenizer = load_tokenizer(config.tokenizer)
    built = build_model(config.model, padded_vocab_size(tokenizer), "float32")
    return TrainedModel(built, init_params(built, jax.random.key(0)), tokenizer, input_tokens=16, batch_size=4)


def test_what_was_cut_is_counted(model: TrainedModel, caplog: pytest.LogCaptureFixture) -> None:
    prompts = ["short?", "a question that is longer than a row", "another that is much, much longer than a row"]
    with caplog.at_level(logging.WARNING):
        answers = model.generate(prompts, max_new_tokens=3)
    cut, unended = caplog.messages
    assert cut == "2 of 3 prompts are longer than trainer.input_tokens=16 (up to 44) and lost their start"
    assert unended == "3 of 3 answers had not ended after 3 tokens"
    caplog.clear()
    ends = [text[-16:] for text in prompts]
    assert model.generate(ends, max_new_tokens=3) == answers
    assert "lost their start" not in caplog.text
