"""A run becomes a folder that loads elsewhere and says where it came from; a cell starts from weights or from a run."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from our_side import abstract
from tiny_families import golden_folder

from flanscale.config.compose import Composer, save
from flanscale.errors import ConfigError, WeightsError
from flanscale.identity import identity, resolve, run_name
from flanscale.models import build_model
from flanscale.orchestration.running.provenance import record_attempt
from flanscale.orchestration.running.sources import COMMIT_VARIABLE, SNAPSHOT_VARIABLE
from flanscale.pipeline.tokenizers import embedding_rows, load_tokenizer
from flanscale.pipeline.vocabulary import train_bpe
from flanscale.run import run
from flanscale.weights.card import card
from flanscale.weights.export import export_run
from flanscale.weights.initial import initial_params
from flanscale.weights.load import load_params
from flanscale.weights.opening import open_source
from flanscale.weights.origin import models_of
from flanscale.weights.vocabulary import check_special, special_ids

SMALL = ["tracker=disabled", "trainer.steps=4", "trainer.batch_rows=4", "trainer.log_every=2", "mixture.count=9"]
SMALL += ["evaluation.items=1", "evaluation.asks=[held_out/direct]", "evaluation.direct_tokens=4"]
LLAMA = ["model=nano", "model.scale_logits=false", "model.bos_id=null"]  # as transformers can compute it


def trained(folder, *overrides: str):
    """(its resolved configuration, the run directory) of a short cell."""
    cell = resolve(Composer().compose([*SMALL, f"paths.runs={folder}", f"paths.cache={folder}/cache", *overrides]))
    directory = folder / run_name(cell)
    directory.mkdir(parents=True)
    save(cell, directory)
    run(cell, directory, attempt=1, should_stop=lambda: False)
    return cell, directory


def change_json(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs"), *LLAMA)


@pytest.fixture(scope="module")
def folder(parent, tmp_path_factory):
    return export_run(parent[1], tmp_path_factory.mktemp("out") / "model")


def test_a_folder_of_no_known_model_is_one_clear_line(folder):
    """Of all models of conf/model, those with blocks that its family has not too."""
    with pytest.raises(WeightsError, match=r"no model of conf/model has its configuration; say which it is like"):
        models_of(folder)


def test_the_folder_holds_what_transformers_looks_for(folder, parent):
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["num_hidden_layers"]) == (["LlamaForCausalLM"], parent[0].model.n_layers)
    card = (folder / "README.md").read_text()
    assert identity(parent[0]) in card
    assert json.loads((parent[1] / "mixture.json").read_text())["fingerprint"] in card
    assert "mixture.count: 9" in card
    assert str(parent[1].parent) not in card  # no paths of this machine


def test_a_cell_that_starts_from_the_folder_starts_from_the_run_bit_for_bit(folder, parent):
    cell, directory = parent
    model = build_model(cell.model, json.loads((folder / "config.json").read_text())["vocab_size"])
    from_folder = load_params(open_source(folder), model, abstract(model))
    asked = dataclasses.replace(cell, init=dataclasses.replace(cell.init, run=str(directory)))
    from_run = initial_params(asked, model, abstract(model))
    fresh = model.init(jax.random.key(0))
    same = [bool((a == b).all()) for a, b in zip(*map(jax.tree.leaves, (from_folder, from_run)), strict=True)]
    assert all(same)
    assert not np.array_equal(from_run["vocabulary"]["embedding"], fresh["vocabulary"]["embedding"])


def test_the_card_names_the_commit_that_the_run_recorded(parent, tmp_path, monkeypatch):
    cell, directory = parent
    monkeypatch.setenv(SNAPSHOT_VARIABLE, "abcdef")
    monkeypatch.setenv(COMMIT_VARIABLE, "c0ffee")
    copy = shutil.copytree(directory, tmp_path / directory.name, ignore=shutil.ignore_patterns("checkpoints"))
    record_attempt(copy, 1)
    text = card(copy, cell, {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}, {})
    assert "commit c0ffee |" in text
    assert f"| cell | {identity(cell)} |" in text


def test_the_command_writes_it_and_refuses_a_folder_in_use(parent, folder, tmp_path):
    def export(*arguments):
        command = [sys.executable, "-m", "flanscale.cli.main", "export", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    done = export(str(parent[1]), "--to", "out", "--precision", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < (folder / "model.safetensors").stat().st_size
    again = export(str(parent[1]), "--to", "out")
    assert (again.returncode, again.stderr) == (2, "flanscale: --to out: exists and is not an empty folder\n")
    unknown = export("0000000000", "--to", "other")
    assert unknown.returncode == 2
    assert "no such run among the " in unknown.stderr


def test_a_run_goes_on_from_another_and_its_identity_says_so(parent):
    cell, directory = parent
    child, child_dir = trained(directory.parent, *LLAMA, f"init.run={identity(cell)}", "seed=1")
    assert child.fingerprints["init"] == f"run {identity(cell)}"
    plain = resolve(Composer().compose([*SMALL, *LLAMA, "seed=1"]))
    assert identity(child) != identity(plain)
    losses = [
        [json.loads(row)["train/loss"] for row in (d / "metrics.jsonl").open() if "train/loss" in row]
        for d in (directory, child_dir)
    ]
    assert losses[1][0] < losses[0][0]


def test_an_unfinished_run_is_no_start(parent, tmp_path):
    cell, directory = parent
    shutil.copytree(directory, tmp_path / "unfinished")
    longer = dataclasses.replace(cell, trainer=dataclasses.replace(cell.trainer, steps=9))
    save(longer, tmp_path / "unfinished")
    asked = dataclasses.replace(cell, init=dataclasses.replace(cell.init, run=str(tmp_path / "unfinished")))
    model = build_model(cell.model, 64)
    with pytest.raises(WeightsError, match=r"stands at step 4 of 9: let it finish"):
        initial_params(asked, model, abstract(model))


def test_another_model_or_an_unknown_run_is_no_start(parent, tmp_path):
    cell, directory = parent
    asked = [*SMALL, f"paths.runs={directory.parent}", f"init.run={identity(cell)}"]
    with pytest.raises(ConfigError, match=r"trained another model: model\.d_model was 32 and is 64"):
        resolve(Composer().compose([*asked, "model=micro", "model.scale_logits=false"]))
    with pytest.raises(ConfigError, match=r"0000: no such run among the 0 of"):
        resolve(Composer().compose([*SMALL, f"paths.runs={tmp_path}", "init.run=0000"]))
    with pytest.raises(ConfigError, match=r"init\.hf and init\.run exclude each other"):
        Composer().compose(["init.run=a", "init.hf=b"])


def test_weights_enter_the_identity_by_content_and_untrained_cells_share_one_seed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    cells = [resolve(Composer().compose([*SMALL, *LLAMA, f"init.hf={path}"])) for path in (folder, copy)]
    assert identity(cells[0]) == identity(cells[1])
    assert len(cells[0].fingerprints["init"]) == 16
    untouched = ["mixture.count=0", f"init.hf={folder}"]
    seeds = [resolve(Composer().compose([*SMALL, *LLAMA, *untouched, f"seed={seed}"])) for seed in (0, 1)]
    assert identity(seeds[0]) == identity(seeds[1])


def test_weights_of_another_size_are_refused_when_the_study_is_planned(tmp_path):
    folder = golden_folder("llama", tmp_path / "llama")
    with pytest.raises(
        ConfigError, match=r"config\.json is not the model nano: hidden_size=16 there means model\.d_model=16"
    ):
        resolve(Composer().compose([*SMALL, *LLAMA, f"init.hf={folder}"]))


def test_an_incomplete_folder_is_refused_when_the_study_is_planned(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    change_json(copy / "config.json", tie_word_embeddings=False)
    with pytest.raises(ConfigError, match=r"the folder lacks lm_head\.weight, though its config\.json says"):
        resolve(Composer().compose([*SMALL, *LLAMA, f"init.hf={copy}"]))


@pytest.mark.parametrize(
    ("file", "changes", "options", "pattern"),
    [
        ("config.json", {"eos_token_id": 5}, [], "config.json says eos_token_id=5, but 1 is the id of the tokenizer's"),
        ("generation_config.json", {"eos_token_id": [5, 6]}, [], r"generation_config.json says eos_token_id=\[5, 6\]"),
        ("config.json", {"bos_token_id": 3}, ["model.bos_id=0"], "bos_token_id=3, but 0 is model.bos_id"),
        (
            "config.json",
            {"vocab_size": 300},
            [],
            r"vocab_size=300 there means model\.vocab_size=300, not 136, which is",
        ),
    ],
)
def test_ids_that_differ_from_the_cells_are_refused_when_the_study_is_planned(
    folder, tmp_path, file, changes, options, pattern
):
    copy = shutil.copytree(folder, tmp_path / "copy")
    change_json(copy / file, **changes)
    with pytest.raises(ConfigError, match=pattern):
        resolve(Composer().compose([*SMALL, *LLAMA, *options, f"init.hf={copy}"]))


def test_ids_that_are_no_matter_of_the_cell_are_not_compared(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    change_json(copy / "config.json", eos_token_id=[7, 1], bos_token_id=9, pad_token_id=9)
    resolve(Composer().compose([*SMALL, *LLAMA, f"init.hf={copy}"]))


def test_the_start_of_an_encoder_decoder_is_compared():
    t5 = special_ids(Composer().compose(["model=t5_micro"]).model, eos_id=2)
    check_special(t5, {"eos_token_id": 2, "decoder_start_token_id": 0, "pad_token_id": 0, "bos_token_id": 7}, "W")
    for given in ({"eos_token_id": 1}, {"decoder_start_token_id": 5}, {"pad_token_id": 1}):
        ((key, value),) = given.items()
        with pytest.raises(WeightsError, match=rf"^W says {key}={value}, but [02] is "):
            check_special(t5, given, "W")


def test_a_vocabulary_fits_a_table_by_its_own_size_not_the_padded_one(tmp_path):
    """300 ids in 300 rows, which a new model would pad to 304."""
    vocabulary = tmp_path / "tokenizer.json"
    size = train_bpe(["the cat sat on the mat and the dog sat on the log " * 9], 300, vocabulary)
    asked = [*SMALL, *LLAMA, "tokenizer=huggingface", f"tokenizer.vocabulary={vocabulary}"]
    cell = resolve(Composer().compose([*asked, f"model.vocab_size={size}"]))
    assert size % 8
    assert embedding_rows(cell.model, load_tokenizer(cell.tokenizer)) == size
    too_few = rf"model\.vocab_size={size - 1}: too few rows for the {size} ids"
    with pytest.raises(ConfigError, match=too_few):
        resolve(Composer().compose([*asked, f"model.vocab_size={size - 1}"]))
    padded = resolve(Composer().compose(asked))
    assert embedding_rows(padded.model, load_tokenizer(padded.tokenizer)) == -(-size // 8) * 8


def test_the_weights_own_vocabulary_is_taken_and_another_refused(folder, tmp_path):
    asked = [*SMALL, *LLAMA, "tokenizer=huggingface", f"init.hf={folder}", "collection=procedural"]
    assert resolve(Composer().compose(asked)).tokenizer.vocabulary == str(folder / "tokenizer.json")
    content = (folder / "tokenizer.json").read_text().replace('"</s>"', '"<end>"')
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"id 1 is '<end>' in the vocabulary and '</s>' in the weights'"):
        resolve(Composer().compose([*asked, f"tokenizer.vocabulary={tmp_path / 'tokenizer.json'}"]))


def test_a_run_that_trained_nothing_has_nothing_to_give(tmp_path):
    cell = resolve(Composer().compose([*SMALL, *LLAMA, "mixture.count=0"]))
    save(cell, tmp_path)
    with pytest.raises(WeightsError, match="trained nothing and started from random parameters"):
        export_run(tmp_path, tmp_path / "out")
