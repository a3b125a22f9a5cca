"""lm-evaluation-harness on our models and on its own backend for transformers: the same weights, the same numbers."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from listening import Listening
from our_side import abstract
from test_evaluation_lm_eval_results import cot, letters, results
from tiny_families import FAMILIES, weight

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.lm_eval_adapter import as_harness_model, evaluate_with_harness
from flanscale.evaluation.lm_eval_results import write_results
from flanscale.evaluation.protocol import Sampling
from flanscale.inference.engine import Engine
from flanscale.inference.language_model import TrainedModel
from flanscale.models import build_model
from flanscale.pipeline.tokenizers import load_tokenizer
from flanscale.pipeline.vocabulary import train_bpe
from flanscale.schema import TokenizerConfig
from flanscale.weights.config_write import write_config
from flanscale.weights.export import write_folder, write_tokenizer

pytest.importorskip("lm_eval", reason="lm_eval is not installed (benchmarks/requirements.txt)")
pytestmark = pytest.mark.peer

CONTEXT = 64
TEXTS = [
    "The river runs to the sea. So the answer is (B).",
    "Question: what is 3 + 4? Answer: 7",
    "“Ü” – 東京",
    "a\n\nb",
]
LONG = " ".join(f"word {number} and the river {number * 7}," for number in range(60))


@pytest.fixture(scope="module", params=["llama", "pythia", "t5_v1_0"])
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Any]:
    """(our model, lm_eval's own) of the same weights and vocabulary, on the same context."""
    pytest.importorskip("torch", reason="torch and transformers are not installed")
    from lm_eval.models.huggingface import HFLM

    folder: Path = tmp_path_factory.mktemp(request.param)
    config = Composer().compose(["model=nano"])
    if encodes := request.param.startswith("t5"):
        config.tokenizer = TokenizerConfig("sentencepiece", str(sentencepiece(folder / "given.model")))
    else:
        train_bpe([*TEXTS, LONG], 300, folder / "given" / "tokenizer.json")
        config.tokenizer = TokenizerConfig("huggingface", str(folder / "given" / "tokenizer.json"))
    tokenizer = load_tokenizer(config.tokenizer)
    rows = tokenizer.vocab_size  # so that every id has a text
    ours = dataclasses.replace(FAMILIES[request.param].ours, vocab_size=rows)
    model = build_model(ours, rows)

    def named(path: Any, leaf: Any) -> np.ndarray:
        return weight(jax.tree_util.keystr(path), leaf.shape[::-1], norm_offset=False).reshape(leaf.shape)

    params = jax.tree_util.tree_map_with_path(named, abstract(model))
    write_folder(folder, model, params, write_config(ours, rows, eos_id=tokenizer.eos_id))
    write_tokenizer(folder, config, tokenizer)
    kind = {"backend": "seq2seq"} if encodes else {}
    theirs = HFLM(str(folder), device="cpu", dtype="float32", max_length=CONTEXT, batch_size=2, **kind)
    return TrainedModel(Engine(model, jax.device_put(params)), tokenizer, CONTEXT), theirs


def sentencepiece(path: Path) -> Path:
    """A vocabulary with T5's special ids, of the texts here."""
    from sentencepiece import SentencePieceTrainer

    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter([*TEXTS, LONG]),
            model_writer=file,
            vocab_size=120,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    return path


def instances(kind: str, *given: tuple[Any, ...]) -> list[Any]:
    """Each of an item of its own, but that those of one context are of one."""
    from lm_eval.api.instance import Instance

    items = {context: number for number, (context, *_) in enumerate(given)}
    return [Instance(kind, {}, one, 0, metadata=("task", items[one[0]], 1)) for one in given]


def both(sides: tuple[TrainedModel, Any], kind: str, *given: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    ours, theirs = sides
    with jax.default_matmul_precision("highest"):
        found = getattr(as_harness_model(ours), kind)(instances(kind, *given))
    return found, getattr(theirs, kind)(instances(kind, *given))


CONTEXTS = [
    "Question: what is 3 + 4? Answer:",
    "Question: what is 3 + 4? Answer: ",
    "The river runs to the sea.\n",
    "“Ü” – 東京",
    LONG[:300],
    LONG,
    f"{LONG}\n\n",
    "",
]
OPTIONS = [" (A)", " (B)", " 7", " the river runs to the sea", " “Ü”"]


def test_log_likelihoods_are_those_of_transformers(sides: tuple[TrainedModel, Any], record_property: Any) -> None:
    likely = both(sides, "generate_until", *[(context, {"max_gen_toks": 2, "until": []}) for context in CONTEXTS[:4]])[
        0
    ]
    given = [(context, option) for context in CONTEXTS for option in (*OPTIONS, *likely) if option]
    if sides[1].backend == "causal":  # cut for the longest option here, there for each: alike where one stands alone
        given = [(context, option) for context, option in given if not context.startswith(LONG[:300])]
        given += [(f"{LONG[number:]}{white}", option) for number, option in enumerate(OPTIONS) for white in ("", " ")]
    ours, theirs = both(sides, "loglikelihood", *given)
    errors = [abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True)]
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert any(greedy for _, greedy in ours)
    record_property("error", max(errors))
    print(f"{len(errors)} log-likelihoods, largest error {max(errors):.1e}")
    assert max(errors) < 1e-4


def test_rolling_log_likelihoods_are_those_of_transformers(sides: tuple[TrainedModel, Any]) -> None:
    """Of decoders: for an encoder-decoder lm_eval scores the end mark too."""
    if sides[1].backend == "seq2seq":
        ours, theirs = both(sides, "loglikelihood_rolling", ("The river runs",))
        assert 0 > ours[0] > theirs[0]
        return
    ours, theirs = both(sides, "loglikelihood_rolling", ("",), ("The river",), (TEXTS[2],), (LONG,), (LONG + LONG,))
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-6)


def test_written_texts_are_those_of_transformers(sides: tuple[TrainedModel, Any]) -> None:
    contexts = [context for context in CONTEXTS if context]
    plain = {"max_gen_toks": 24, "do_sample": False, "until": []}
    free, _ = both(sides, "generate_until", *[(context, plain) for context in contexts])
    stop = sorted({text[len(text) // 2 :][:2] for text in free if len(text) > 3})
    given = [(context, {**plain, "until": until}) for context in contexts for until in ([], stop, "e")]
    ours, theirs = both(sides, "generate_until", *given)
    if sides[1].backend == "seq2seq":  # which adds the length of its context to the number of new tokens
        assert all(longer.startswith(text) for text, longer in zip(ours, theirs, strict=True))
        exact = [(context, {**how, "max_length": 1 + 24}) for context, how in given]
        theirs = sides[1].generate_until(instances("generate_until", *exact))
    assert ours == theirs
    assert len(set(ours)) > 3


# --- its own tasks ----------------------------------------------------------------------------------------------------

CHOSEN = """
task: chosen
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/chosen.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["no", "yes!"]
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
metadata: {version: 1.0}
"""
VOTED = """
task: voted
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/chosen.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
repeats: 3
generation_kwargs: {until: ["."], do_sample: true, temperature: 0.7, max_gen_toks: 5}
filter_list:
  - name: vote
    filter: [{function: regex, regex_pattern: "#([0-9])"}, {function: majority_vote}, {function: take_first}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
READ = """
task: read
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/chosen.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: byte_perplexity}]
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tasks on a local file, where nothing can be fetched."""
    import socket

    datasets: Any = pytest.importorskip("datasets")

    def unreachable(*_: Any) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": f"Is {number} even?", "answer": number % 2} for number in range(4)]
    (tmp_path / "chosen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("chosen", CHOSEN), ("voted", VOTED), ("read", READ)):
        (tmp_path / f"{name}.yaml").write_text(text.replace("FOLDER", str(tmp_path)))
    return tmp_path


def test_tasks_on_local_files_run_without_a_network(tasks: Path) -> None:
    model = Listening()
    found = evaluate_with_harness(model, ["chosen", "voted", "read"], tasks, name="mine", include_defaults=False)
    assert found["results"]["chosen"]["acc,none"] == 0.5  # " no" is the shorter one
    assert found["results"]["voted"]["exact_match,vote"] == 0.5  # 0, 1 and 2 are drawn, the first wins
    assert found["results"]["read"]["byte_perplexity,none"] > 1
    assert len(model.choices) == 4 + 4
    assert {question.samples for question, *_ in model.written} == {3}
    assert (found["config"]["model"], found["config"]["sampling_seed"]) == ("mine", 0)


def test_what_is_said_of_generation_takes_the_place_of_the_tasks_own(tasks: Path) -> None:
    model = Listening()
    evaluate_with_harness(
        model, ["voted"], tasks, limit=2, seed=5, generation={"max_gen_toks": 2}, include_defaults=False
    )
    assert len(model.written) == 2
    assert {how[1:] for how in model.written} == {(2, (".",), Sampling(0.7, seed=5))}


def test_unknown_tasks_and_folders_are_one_line(tasks: Path) -> None:
    with pytest.raises(ConfigError, match=r"no task 'chosn'; did you mean chosen\?"):
        evaluate_with_harness(Listening(), ["chosn"], tasks, include_defaults=False)
    with pytest.raises(ConfigError, match=r"include_path=.*/none: no such folder"):
        evaluate_with_harness(Listening(), ["chosen"], tasks / "none", include_defaults=False)


def test_data_that_is_not_here_is_one_line(tasks: Path) -> None:
    (tasks / "chosen.jsonl").unlink()
    with pytest.raises(DataError, match=r"a task's data is not here: .*chosen\.jsonl.*; a task can read a local file"):
        evaluate_with_harness(Listening(), ["chosen"], tasks, include_defaults=False)


def test_our_files_of_its_results_are_those_that_it_writes(tasks: Path, tmp_path: Path) -> None:
    from lm_eval.loggers import EvaluationTracker

    found = evaluate_with_harness(Listening(), ["chosen", "voted"], tasks, name="mine", include_defaults=False)
    ours = write_results(found, tmp_path / "ours", datetime(2024, 5, 17, tzinfo=UTC))
    samples = found.pop("samples")
    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.general_config_tracker.log_experiment_args("flanscale", {"model": "mine"}, None, None, False)
    tracker.save_results_aggregated(found, samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task, rows)
    theirs = tmp_path / "theirs" / "mine"
    assert len(list(theirs.iterdir())) == len(list(ours.parent.iterdir())) == 3
    for file in theirs.iterdir():
        stem = file.name.rpartition("_")[0]
        (own,) = ours.parent.glob(f"{stem}_*")
        if stem == "results":
            whole, mine = json.loads(file.read_text()), json.loads(own.read_text())
            assert {key: whole[key] for key in mine} == mine
            assert {"results", "configs", "versions", "n-shot", "task_hashes", "model_name"} < set(mine)
        else:
            assert [json.loads(row) for row in own.read_text().splitlines()] == [
                json.loads(row) for row in file.read_text().splitlines()
            ]


def test_our_results_are_read_by_what_reads_its_own(tasks: Path, tmp_path: Path) -> None:
    """The keys and types of its results, its table, and its files as a data set."""
    from lm_eval.utils import get_file_task_name, make_table

    datasets: Any = pytest.importorskip("datasets")
    its = evaluate_with_harness(Listening(), ["chosen", "voted"], tasks, name="mine", include_defaults=False)
    ours = results(letters(), cot())
    assert set(ours) - {"groups"} <= set(its)
    for task, like in (("toy_letters_birds", "chosen"), ("toy_cot-sc2_birds", "voted")):
        for key in ("results", "configs", "n-samples"):
            known = {part.partition(",")[0] for part in its[key][like]}
            assert {part.partition(",")[0] for part in ours[key][task]} <= known, key
        first, other = ours["samples"][task][0], its["samples"][like][0]
        assert set(first) == set(other) - {"acc_norm"}
        assert all(isinstance(other[key], type(first[key])) for key in first if key != "target")
    table = [[cell.strip() for cell in row.split("|")[1:8]] for row in make_table(ours).splitlines()]
    assert ["toy (2 of 3)/letters", "3", "none", "2", "acc", "↑", "0.75"] in table
    path = write_results(ours, tmp_path / "files", datetime(2024, 5, 17, tzinfo=UTC))
    for file in path.parent.glob("samples_*.jsonl"):
        rows = datasets.load_dataset("json", data_files=str(file), split="train")
        task = get_file_task_name(file.name)
        assert len(rows) == ours["n-samples"][task]["effective"]


def test_the_page_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/lm_eval.md, but that its run answers as nobody would."""
    page = (Path(__file__).parents[1] / "docs" / "lm_eval.md").read_text(encoding="utf-8")
    (code,), (task,), (rows,) = (
        re.findall(rf"^```{kind}\n(.*?)^```", page, re.DOTALL | re.MULTILINE) for kind in ("python", "yaml", "json")
    )
    (tmp_path / "my_harness_tasks").mkdir()
    (tmp_path / "my_harness_tasks" / "capitals.yaml").write_text(task)
    (tmp_path / "capitals.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flanscale.weights.run_model.model_of", lambda run, config: Listening())
    monkeypatch.setattr("flanscale.config.compose.load", lambda run: None)
    exec(compile(code, "docs/lm_eval.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "1.0"
    names = sorted(file.name.rpartition("_")[0] for file in (tmp_path / "harness" / "286f16529b").iterdir())
    assert names == ["results", "samples_capitals"]
