"""One cell's configuration: every mistake is one line before anything exists; identity follows the science alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from flanscale.config.compose import Composer, load, save
from flanscale.config.places import available, conf_path
from flanscale.errors import ConfigError
from flanscale.identity import identity, resolve, run_name
from flanscale.orchestration.planning.resources import resources_of
from flanscale.schema import ModelConfig, RunConfig
from flanscale.sizing.architecture import check_model

COMPOSER = Composer()


def compose(*overrides: str) -> RunConfig:
    return COMPOSER.compose(overrides)


def cell(*overrides: str) -> str:
    return identity(resolve(compose(*overrides)))


def test_groups_and_values_compose_whatever_their_order() -> None:
    one, other = compose("trainer.steps=7", "model=nano", "seed=3"), compose("seed=3", "trainer.steps=7", "model=nano")
    assert one == other
    assert (one.model.name, one.trainer.steps, one.seed) == ("nano", 7, 3)
    assert compose().trainer.steps != 7  # nothing of one cell leaks into the next


def test_of_two_values_or_choices_of_one_key_the_later_holds() -> None:
    assert compose("model=nano", "model=micro").model.name == "micro"
    assert compose("model=micro", "model=nano").model.name == "nano"
    assert compose("trainer.steps=5", "trainer.mesh={data: 2}", "trainer.steps=6").trainer.steps == 6
    assert compose("trainer.steps=5", "trainer={steps: 6}").trainer.steps == 6
    assert compose("trainer={steps: 6}", "trainer.steps=5").trainer.steps == 5


def test_what_refers_to_another_key_follows_it_in_every_cell() -> None:
    for cpus in (3, 5):
        assert compose(f"cluster.cpus={cpus}").cluster.environment["NPROC"] == str(cpus)
    for name in ("nano", "micro"):
        assert compose("init.hf='weights/${model.name}'", f"model={name}").init.hf == f"weights/{name}"
    for seed in (1, 2):
        assert compose("init.hf='weights/${seed}'", f"seed={seed}").init.hf == f"weights/{seed}"


def test_values_are_typed_by_the_schema_and_belong_to_one_cell_alone() -> None:
    assert compose("optimizer.learning_rate=1").optimizer.learning_rate == 1.0
    assert isinstance(compose("optimizer.learning_rate=1").optimizer.learning_rate, float)
    assert compose("optimizer.clip_norm=null").optimizer.clip_norm is None
    one, other = compose("evaluation.asks=[held_out/cot]"), compose("evaluation.asks=[held_out/cot]")
    one.evaluation.asks.append("held_out/direct")
    assert (other.evaluation.asks, compose("evaluation.asks=[held_out/cot]").evaluation.asks) == (
        ["held_out/cot"],
        ["held_out/cot"],
    )
    one, other = compose("seed=1"), compose("seed=2")
    one.cluster.environment["NPROC"], one.mixture.proportions["cot"] = "changed", 1.0
    one.trainer.mesh.data = 7
    assert (other.cluster.environment["NPROC"], other.mixture.proportions, other.trainer.mesh.data) == ("1", {}, 1)
    again = compose("seed=1")
    assert (again.cluster.environment["NPROC"], again.trainer.mesh.data) == ("1", 1)


@pytest.mark.parametrize(
    "group",
    ["collection", "mixture", "objective", "tokenizer", "optimizer", "trainer", "evaluation", "tracker"],
)
def test_every_shipped_choice_fits_the_schema(group: str) -> None:
    files = {"data.root": "x", "tokenizer": "bytes", "evaluation": "niv2"}
    text = {"data.root": "x", "tokenizer": "bytes", "evaluation": "none", "objective": "ul2r", "collection": "text"}
    for choice in available(group):
        given: dict[str, str] = {}
        if choice in ("text", "procedural_text") or (group, choice) == ("evaluation", "none"):
            given = text
        elif group == "collection" and not choice.startswith("procedural"):
            given = files
        compose(*(f"{key}={value}" for key, value in (given | {group: choice}).items()))


def test_every_shipped_model_fits_the_schema() -> None:
    for choice in available("model"):
        made = OmegaConf.merge(
            OmegaConf.structured(ModelConfig), OmegaConf.load(conf_path() / "model" / f"{choice}.yaml")
        )
        check_model(OmegaConf.to_object(made))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["modle=nano"], "unknown key 'modle'; did you mean model"),
        (["trainer.step=3"], "unknown key 'trainer.step'; did you mean trainer.steps"),
        (["trainer.steps='???'"], "no value for trainer.steps"),
        (["lr=1"], "unknown key 'lr'; did you mean optimizer.learning_rate"),
        (["model=nanno"], "model=nanno: no such choice; did you mean nano?; there are"),
        (
            ["tokenizer.name=wordz"],
            "tokenizer.name=wordz: must be one of words, sentencepiece, huggingface, bytes; did you mean words",
        ),
        (["trainer.steps=abc"], "trainer.steps=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        (["trainer.steps=-1"], "trainer.steps=-1: must be at least 0"),
        (["model.dropout=1.5"], "model.dropout=1.5: must be at most 0.9"),
        (["cot=maybe"], "cot=maybe: Value 'maybe' is not a valid bool"),
        (["seed=0,1"], "lists several values"),
        (["nonsense"], "'nonsense' is not an override"),
        (["~seed"], "cannot be deleted"),
        (["collection=niv2", "cot=true"], "collection=niv2 has no rationales: set cot=false"),
        (
            ["collection=niv2", "tokenizer=bytes"],
            "evaluation.asks: held_out/cot, but niv2 has no rationales: ask held_out/direct",
        ),
        (["collection=cot", "tokenizer=bytes"], "held_out/cot, but niv2 has no rationales: ask held_out/direct"),
        (["collection=niv2", "evaluation=niv2"], "tokenizer=words knows only the procedural"),
        (["optimizer.lr=1"], "unknown key 'optimizer.lr'; did you mean optimizer.learning_rate"),
        (["optimizer.learning_rate=nan"], "optimizer.learning_rate=nan: must be a finite number"),
        (["optimizer.learning_rate=-inf"], "optimizer.learning_rate=-inf: must be a finite number"),
        (["model.dropout=nan"], "model.dropout=nan: must be a finite number"),
        (["mixture.proportions={cot: inf}"], "mixture.proportions.cot=inf: must be a finite number"),
        (["mixture.proportions.cot=-1"], "mixture.proportions.cot=-1.0: must be at least 0"),
        (["mixture.proportions={cot: abc}"], "Value 'abc' of type 'str' could not be converted to Float"),
        (["mixture.caps.cot=0"], "mixture.caps.cot=0: must be at least 1"),
        (["cluster.memory_gb=-5"], "cluster.memory_gb=-5: must be at least 1"),
        (["trainer.profile_steps=[-1,3]"], "trainer.profile_steps=-1: must be at least 0"),
        (["data.root=${oc.env:FLANSCALE_NO_SUCH}"], "Environment variable 'FLANSCALE_NO_SUCH' not found"),
        (["mixture.count=1.8K"], "mixture.count=1.8K: not a number; write 1800"),
        (["mixture.count=0-4"], "mixture.count=0-4: not a number; write 0,1,2,3,4 or range(0,5)"),
        (["mixture.count=010"], "mixture.count=010: not a number; write 10"),
        (["mixture.count=1e3"], "mixture.count=1000.0: must be a whole number; write 1000"),
        (["cot=5"], "cot=5: must be true or false"),
        (["trainer={stepz: 5}"], "unknown key 'trainer.stepz'; did you mean trainer.steps"),
        (["data.root=a(b"], "( must stand in quotes: 'data.root=\"a(b\"'"),
        (["data.root=/träger"], "ä must stand in quotes: 'data.root=\"/träger\"'"),
        (["init.hf=a=b"], "= must stand in quotes: 'init.hf=\"a=b\"'"),
        (["data.root='~nosuchuser/x'"], "data.root=~nosuchuser/x: there is no user of this name"),
        (["cluster.setup=[export A=1]"], "in quotes of its own, e.g. 'cluster.setup=[\"a=b\"]'"),
        (["cluster.environment={A: b=c}"], "in quotes of its own, e.g. 'cluster.environment={a: \"a=b\"}'"),
        (["evaluation.asks=[held_out/zero]"], "held_out/zero: held_out has no setting 'zero'; it has direct, cot"),
        (["evaluation.asks=[mmlu/cott]"], "mmlu/cott: mmlu has no setting 'cott' (did you mean cot?); it has direct,"),
        (["evaluation.asks=[mmlu/cot-tst]"], "mmlu/cot-tst: mmlu has no split 'tst'; it has val, test"),
        (["evaluation.asks=[mmmlu]"], "evaluation.asks: no benchmark 'mmmlu'; did you mean mmlu?; there are held_out,"),
        (["evaluation.asks=[mmlu direct]"], "'mmlu direct' is no line of a suite: expected benchmark"),
        (
            ["evaluation.average=[held_out]"],
            "evaluation.average=['held_out']: 'held_out' is not among evaluation.asks=['held_out/direct',",
        ),
        (["model.head_dim=15"], "rotary positions need an even number"),
        (["optimizer.clip_norm=0"], "optimizer.clip_norm=0.0: must be more than 0, or null for none"),
        (["model.attention_cap=0"], "model.attention_cap=0.0: must be more than 0, or null for none"),
        (["model.logit_cap=-30"], "model.logit_cap=-30.0: must be more than 0, or null for none"),
    ],
)
def test_a_mistake_is_one_line_that_names_key_value_and_the_nearest_valid(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        compose(*overrides)
    assert "\n" not in str(caught.value)


def test_free_form_sections_take_any_key() -> None:
    assert compose("cluster.sbatch.qos=long").cluster.sbatch == {"qos": "long"}
    assert compose("cluster.sbatch={qos: long, exclusive: true}").cluster.sbatch == {"qos": "long", "exclusive": True}
    assert compose("+cluster.environment.A=b").cluster.environment["A"] == "b"


@pytest.mark.parametrize("written", ["2024_117", "1.10", "83e2010835", "true", "010", "1e-4", "nan"])
def test_a_text_is_kept_as_it_was_typed(written: str) -> None:
    run = compose(f"cluster.account={written}", f"tracker.tags=[{written}]", f"cluster.environment.A={written}")
    assert (run.cluster.account, run.tracker.tags, run.cluster.environment["A"]) == (written, [written], written)
    assert compose(f"cluster.environment={{A: {written}}}").cluster.environment == {"A": written}
    assert compose("cluster.account=null").cluster.account is None


@pytest.mark.parametrize("written", ["2024_117", "1.10", "1e3", "12"])
def test_a_number_is_kept_as_it_was_typed_where_its_type_is_told_later(written: str) -> None:
    assert compose(f"cluster.sbatch={{reservation: {written}, exclusive: true}}").cluster.sbatch == {
        "reservation": written,
        "exclusive": True,
    }
    run = compose(
        f"cluster.sbatch.reservation={written}", f"cluster.by_model={{micro: {{account: {written}, cpus: 2}}}}"
    )
    assert run.cluster.sbatch["reservation"] == written
    cluster = resources_of(run)
    assert (cluster.account, cluster.cpus) == (written, 2)


def test_a_mapping_takes_the_place_of_the_one_before_and_a_single_key_changes_one() -> None:
    paper = ("mixture=paper_a",)
    named = compose(*paper).mixture.proportions
    assert len(named) > 2
    halves = {"muffin": 0.5, "niv2": 0.5}
    assert compose(*paper, "mixture.proportions={muffin: 0.5, niv2: 0.5}").mixture.proportions == halves
    assert compose(*paper, "mixture={proportions: {muffin: 0.5, niv2: 0.5}}").mixture.proportions == halves
    assert compose(*paper, "mixture.proportions={}").mixture.proportions == {}
    assert compose(*paper, "mixture.proportions.cot=0.5").mixture.proportions == named | {"cot": 0.5}
    both = compose(*paper, "mixture.proportions={muffin: 0.5}", "mixture.proportions.niv2=0.5")
    assert both.mixture.proportions == halves
    lm = compose("objective=ul2r", "objective.denoisers={lm: {kind: lm}}", "mixture.count=0", "evaluation=none")
    assert lm.objective.denoisers == {"lm": {"kind": "lm"}}


# --- identity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    ["cluster.parallelism=3", "tracker=online", "tracker.group=x", "paths.runs=/elsewhere", "trainer.log_every=7",
     "trainer.checkpoint_every=9", "trainer.mesh.data=4", "evaluation.batch_size=3",
     "evaluation.items=3", "evaluation.asks=[held_out/direct]", "evaluation.direct_tokens=3", "evaluation=none"],
)  # fmt: skip
def test_what_cannot_change_the_result_does_not_change_the_identity(override: str) -> None:
    assert cell(override) == cell()


@pytest.mark.parametrize(
    "override",
    ["seed=1", "cot=true", "model=nano", "mixture.count=89", "trainer.steps=1", "optimizer.learning_rate=1",
     "mixture=random", "model.dropout=0.1", "trainer.batch_rows=8", "collection.examples_per_task=2"],
)  # fmt: skip
def test_what_can_change_the_result_changes_the_identity(override: str) -> None:
    assert cell(override) != cell()


def test_without_tasks_both_arms_and_all_recipes_are_one_cell_but_sizes_and_seeds_are_not() -> None:
    untrained = cell("mixture.count=0")
    assert untrained == cell("mixture.count=0", "cot=true", "trainer.steps=9", "optimizer=adafactor", "mixture=random")
    assert untrained != cell("mixture.count=0", "seed=1")
    assert untrained != cell("mixture.count=0", "model=nano")


@pytest.mark.parametrize(
    ("knob", "where_it_matters"),
    [("mixture.cot_fraction=0.9", "cot=true"), ("mixture.order_seed=4", "mixture.order=random"),
     ("mixture.stratify=true", "mixture.order=random"), ("mixture.temperature=3", "mixture.weighting=temperature"),
     ("mixture.few_shot_fraction=0.5", "mixture.exemplars=2"), ("mixture.bare_fraction=0.5", "mixture.exemplars=2")],
)  # fmt: skip
def test_a_knob_splits_cells_only_where_it_matters(knob: str, where_it_matters: str) -> None:
    assert cell(knob) == cell()
    assert cell(knob, where_it_matters) != cell(where_it_matters)


@pytest.mark.parametrize(
    ("knob", "where_it_does_not_matter"),
    [("collection.split=xlingual", "collection=procedural"), ("collection.task_per_file=true", "collection=procedural"),
     ("mixture.contamination_words=5", "mixture.contamination=off"), ("mixture.without_cot=leave_out", "cot=true")],
)  # fmt: skip
def test_a_knob_splits_no_cells_where_it_does_not_matter(knob: str, where_it_does_not_matter: str) -> None:
    assert cell(knob, where_it_does_not_matter) == cell(where_it_does_not_matter)


def test_more_tasks_than_the_collection_has_is_found_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"mixture.count=5000.*has 1836"):
        resolve(compose("mixture.count=5000"))


def test_the_run_directory_is_named_by_identity_then_by_what_it_is() -> None:
    resolved = resolve(compose("model=nano", "mixture.count=9", "cot=true", "seed=2"))
    assert run_name(resolved) == f"{identity(resolved)}-procedural-nano-9-cot-s2"
    assert "/" not in run_name(dataclasses.replace(resolved, model=dataclasses.replace(resolved.model, name="../x y")))


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_saved_cell_is_the_same_cell(tmp_path: Path) -> None:
    resolved = resolve(compose("cot=true", "cluster.sbatch.qos=long"))
    save(resolved, tmp_path)
    assert load(tmp_path) == resolved


@pytest.mark.parametrize("content", [None, "{", "seed: x", "unheard_of: 1", "- 1", ""])
def test_a_damaged_config_file_is_one_line_that_names_it(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"config.yaml|no value for") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_model_of_ones_own_in_conf_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        "{name: mine, architecture: decoder, d_model: 8, n_layers: 1, n_heads: 1, head_dim: 8, d_ff: 8}"
    )
    monkeypatch.chdir(tmp_path)
    assert Composer().compose(["model=mine"]).model.d_model == 8
    (tmp_path / "conf" / "model" / "bad.yaml").write_text("{name: bad, widht: 3}")
    with pytest.raises(ConfigError, match="widht"):
        Composer().compose(["model=bad"])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a file of a conf/ of one's own in the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str) -> None:
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return write


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("steps: 010", "line 2: 010 is 8 in YAML; write 8, or '010' where text is meant"),
        ("steps: 5:00", "line 2: 5:00 is 300 in YAML; write 300"),
        ("steps: 5\nsteps: 6", "'steps' is given twice"),
        ("steps: [", "not valid YAML"),
        ("stepz: 5", "unknown key 'trainer.stepz'; did you mean trainer.steps"),
        ("mesh: {dat: 2}", "unknown key 'trainer.mesh.dat'; did you mean trainer.mesh.data"),
        ("steps: 1.8K", "trainer.steps=1.8K: not a number; write 1800"),
        ("precision: 16", "trainer.precision: 16 is a int and no text here"),
    ],
)
def test_a_file_of_ones_own_is_read_as_strictly_as_a_study(
    own: Callable[[str, str], None], content: str, message: str
) -> None:
    own("trainer/mine.yaml", f"defaults: [quickstart]\n{content}\n")
    own("trainer/again.yaml", "defaults: [mine]\n")
    for name in ("mine", "again"):
        with pytest.raises(ConfigError, match=re.escape(message)) as caught:
            Composer().compose([f"trainer={name}"])
        assert "conf/trainer/mine.yaml: " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_of_ones_own_may_build_on_a_shipped_one(own: Callable[[str, str], None]) -> None:
    own("trainer/2024.yaml", "defaults: [quickstart]\nsteps: 7\nmesh: {data: 2}\n")
    made, shipped = Composer().compose(["trainer=2024"]).trainer, compose().trainer
    assert made == dataclasses.replace(shipped, steps=7, mesh=dataclasses.replace(shipped.mesh, data=2))


def test_a_file_of_ones_own_that_would_be_taken_for_a_shipped_one_is_refused(own: Callable[[str, str], None]) -> None:
    shipped = (conf_path() / "trainer" / "quickstart.yaml").read_text()
    own("trainer/quickstart.yaml", shipped)
    Composer().compose([])
    own("trainer/quickstart.yaml", f"{shipped}\n# mine")
    with pytest.raises(ConfigError, match=r"conf/trainer/quickstart.yaml of its own; give this file another name"):
        Composer().compose([])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.attention=cudnn"], "model.attention=cudnn: cuDNN takes bfloat16, not trainer.precision=float32"),
        (["model=t5_small", "model.attention=splash"], "model.attention=splash: splash attention has no relative bias"),
    ],
)
def test_a_named_attention_that_cannot_serve_is_refused_before_any_job(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        compose(*overrides)
