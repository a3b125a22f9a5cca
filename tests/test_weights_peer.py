"""Side by side with torch and transformers, where they are installed: both directions, and training trajectories."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from our_side import QUICK, as_tensors, batch, generated, loaded, outcome, relative
from tiny_families import FAMILIES, golden_folder

from flanscale.config.compose import Composer
from flanscale.pipeline.tokenizers import load_tokenizer
from flanscale.pipeline.vocabulary import train_bpe
from flanscale.schema import OptimizerConfig, TokenizerConfig
from flanscale.tasks.templates import procedural_words
from flanscale.training.optimizers import adafactor, build_optimizer
from flanscale.training.step import loss_sums
from flanscale.weights.config_write import write_config
from flanscale.weights.export import write_folder, write_tokenizer

torch = pytest.importorskip("torch", reason="torch and transformers are not installed")
transformers = pytest.importorskip("transformers", reason="torch and transformers are not installed")
sys.path.insert(0, str(Path(__file__).parent / "golden"))
make_golden = pytest.importorskip("make_golden")

pytestmark = pytest.mark.peer
TOLERANCE = 1e-5
STEPS = 20


def exported(name, tmp_path, **changes):
    """(our model, our parameters, transformers' model loaded from what we exported)."""
    model, params = loaded(name, golden_folder(name, tmp_path / "given"), scan=True, **changes)
    (tmp_path / "made").mkdir()
    write_folder(tmp_path / "made", model, params, write_config(model.config, model.vocab_size, eos_id=1))
    return model, params, make_golden.load(name, tmp_path / "made")


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_loads_what_is_exported_and_computes_the_same(name, tmp_path, record_property):
    model, params, peer = exported(name, tmp_path)
    assert {key: tuple(value.shape) for key, value in peer.named_parameters()} == {
        key: value.shape for key, value in as_tensors(name, params).items()
    }
    theirs, their_loss = make_golden.run(name, peer)
    their_loss.backward()
    logits, loss, gradients = outcome(model, params, name)
    ours = as_tensors(name, gradients)
    errors = {
        "logits": relative(logits, theirs),
        "loss": abs(loss - their_loss.item()) / their_loss.item(),
        "gradients": max(relative(ours[key], value.grad.numpy()) for key, value in peer.named_parameters()),
    }
    for what, error in errors.items():
        record_property(what, error)
        assert error < TOLERANCE, what
    print(name, " ".join(f"{what} {error:.1e}" for what, error in errors.items()))
    assert generated(model, params, name) == make_golden.generate(name, peer).tolist()


@pytest.mark.parametrize("name", ["t5_v1_1", "llama"])
def test_twenty_steps_of_adamw_end_where_torch_ends(name, tmp_path):
    model, params, peer = exported(name, tmp_path)
    before = as_tensors(name, params)
    asked = torch.optim.AdamW(peer.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01)
    their_losses = []
    for _ in range(STEPS):
        asked.zero_grad()
        _, loss = make_golden.run(name, peer)
        loss.backward()
        asked.step()
        their_losses.append(loss.item())

    rule = build_optimizer(OptimizerConfig("adamw", 1e-3, b1=0.9, b2=0.98, weight_decay=0.01), STEPS)

    def step(params, moments, number):
        def mean(params):
            nll, _, tokens = loss_sums(model, params, batch(name), None)
            return nll / tokens

        loss, gradients = jax.value_and_grad(mean)(params)
        direction, moments = rule.direction.update(gradients, moments, params)
        return jax.tree.map(lambda p, d: p + rule.rate(number) * d, params, direction), moments, loss

    run, moments, losses = jax.jit(step, compiler_options=QUICK), rule.direction.init(params), []
    with jax.default_matmul_precision("highest"):
        for number in range(STEPS):
            params, moments, loss = run(params, moments, jnp.asarray(number))
            losses.append(float(loss))
    np.testing.assert_allclose(losses, their_losses, rtol=TOLERANCE)
    after = as_tensors(name, params)
    errors = {key: relative(after[key], value.detach().numpy()) for key, value in peer.named_parameters()}
    assert max(errors.values()) < TOLERANCE, errors
    print(name, f"losses {max(abs(a / b - 1) for a, b in zip(losses, their_losses, strict=True)):.1e}", end=" ")
    print(f"parameters {max(errors.values()):.1e}")
    moved = sum(np.sum((after[key] - before[key]) ** 2) for key in after) ** 0.5
    assert moved > 0.1


def test_adafactor_moves_large_kernels_as_that_of_transformers():
    random = np.random.default_rng(0)
    start = random.normal(size=(128, 160)).astype(np.float32) * 0.05
    gradients = [
        (random.normal(size=start.shape) * 10.0 ** random.integers(-3, 1)).astype(np.float32) for _ in range(STEPS)
    ]
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    rule = transformers.optimization.Adafactor(
        [theirs], lr=1e-2, scale_parameter=True, relative_step=False, warmup_init=False, decay_rate=-0.8
    )
    ours, own = jnp.asarray(start), adafactor(0.8)
    state = own.init({"kernel": ours})
    for gradient in gradients:
        theirs.grad = torch.from_numpy(gradient)
        rule.step()
        direction, state = own.update({"kernel": jnp.asarray(gradient)}, state, {"kernel": ours})
        ours = optax.apply_updates(ours, -1e-2 * direction["kernel"])
    moved = np.asarray(ours) - start
    error = relative(moved, theirs.detach().numpy() - start)
    print(f"adafactor, of the distance moved: {error:.1e}")
    assert error < 1e-4


def test_a_t5_whose_table_is_tied_but_not_scaled_stays_so(tmp_path):
    """transformers reads tie_word_embeddings=false as 'do not scale' and ties the table all the same."""
    _, _, peer = exported("t5_v1_1_tied", tmp_path)
    assert peer.config.scale_decoder_outputs is False
    assert torch.equal(peer.lm_head.weight, peer.shared.weight)


@pytest.mark.parametrize("name", ["t5_v1_0", "llama", "pythia"])
def test_what_transformers_saves_is_read_back_bit_for_bit(name, tmp_path):
    _, params, peer = exported(name, tmp_path)
    peer.save_pretrained(tmp_path / "saved", max_shard_size="8KB")
    assert (tmp_path / "saved" / "model.safetensors.index.json").is_file()
    _, again = loaded(name, tmp_path / "saved", scan=True)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, again))


def test_a_config_of_transformers_four_is_understood(tmp_path):
    """It wrote rope_theta and rope_scaling where 5 writes rope_parameters."""
    folder = golden_folder("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (folder / "config.json").write_text(json.dumps(config))
    loaded("llama", folder)
    assert dataclasses.asdict(FAMILIES["llama"].ours)["rope_scaling"] == rope["factor"]


# --- tokenizers ------------------------------------------------------------------------------------------------------


TEXTS = ["Hello, world! 12 + 30 = 42", "Ünïcödé — 東京", "reverse : 1 2 3", "a\n\nb  c", ""]


def tokenizer_of(folder, name: str, vocabulary: Path | None):
    """(our tokenizer, transformers' of what we export)."""
    config = Composer().compose(["model=nano"])
    config.tokenizer = TokenizerConfig(name, None if vocabulary is None else str(vocabulary))
    ours = load_tokenizer(config.tokenizer)
    write_tokenizer(folder, config, ours)
    return ours, transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", ["words", "bytes", "sentencepiece", "huggingface"])
def test_the_exported_tokenizer_gives_our_ids_in_transformers(name, tmp_path, request):
    vocabulary, texts = None, TEXTS
    if name == "words":
        texts = [" ".join(procedural_words("digits")[:40])]
    elif name == "sentencepiece":
        vocabulary = request.getfixturevalue("shared_data") / "tokenizer" / "t5.spiece.model"
    elif name == "huggingface":
        vocabulary = tmp_path / "given" / "tokenizer.json"
        train_bpe(TEXTS, 300, vocabulary)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5" if name == "sentencepiece" else "llama"}))
    ours, theirs = tokenizer_of(tmp_path, name, vocabulary)
    assert theirs.eos_token_id == ours.eos_id
    for text, ids in zip(texts, ours.encode(texts), strict=True):
        assert theirs(text, add_special_tokens=False).input_ids == ids.tolist(), text
    if name in ("sentencepiece", "bytes"):  # the end that T5 puts behind its inputs
        assert theirs("a").input_ids[-1] == ours.eos_id
