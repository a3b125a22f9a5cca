"""Mixtures: what is drawn is what was declared, smaller mixtures are inside larger ones, and the count is honest."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml

from flanscale.errors import DataError
from flanscale.schema import CollectionConfig, DataConfig, MixtureConfig
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.mixture import (
    Mixture,
    build_mixture,
    group_of,
    realised,
    select_tasks,
    split_validation,
    task_weights,
    weigh,
)
from flanscale.tasks.ordering import random_order, stratified_order
from flanscale.tasks.procedural import Procedural
from flanscale.tasks.registry import open_collection
from flanscale.tasks.task import Example, Ordinary, Task

PROPORTIONS_A = {"cot": 3.0, "muffin": 52.0, "t0sf": 15.0, "niv2": 30.0}
CONF = Path(__file__).parents[1] / "conf" / "mixture"


@dataclass
class Fake(Ordinary):
    """A collection of given groups; a task's category is its name's first letter."""

    groups: dict[str, list[str]]
    sizes: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    held_out: Sequence[str] = ()
    name: str = "flan"

    def category(self, name: str) -> str:
        return name[0]

    def fingerprint(self, name: str) -> str:
        return "0" * 16

    def task(self, name: str) -> Task:
        return task(self.sizes.get(name, 10), name)


def task(size: int, name: str = "t") -> Task:
    return Task(name, "flan", "", "Copy.", [Example(str(i), f"question {i}", ("y",)) for i in range(size)])


def paper_like(**changes: object) -> Fake:
    groups = {"cot": [f"c{i}" for i in range(9)], "muffin": [f"m{i}" for i in range(80)]}
    groups |= {"t0sf": [f"t{i}" for i in range(193)], "niv2": [f"n{i}" for i in range(300)]}
    return Fake(groups, **changes)  # type: ignore[arg-type]


def without_data(here: int) -> Fake:
    """The paper's catalogue with the first `here` tasks of each group, the rest missing."""
    names = {group: list(catalogued(group)) for group in COUNTS}
    missing = {name: f"no {group} file; download it" for group in COUNTS for name in names[group][here:]}
    return Fake({group: names[group][:here] for group in COUNTS}, missing=missing)


# --- which tasks -----------------------------------------------------------------------------------------------------


def test_the_papers_order_gives_the_papers_stages_with_and_without_chain_of_thought() -> None:
    collection = paper_like()
    config = MixtureConfig(count=0, without_cot="leave_out")
    cot, muffin, t0sf, niv2 = collection.groups.values()
    for cot_in, stages in ((True, [cot, muffin, t0sf, niv2]), (False, [muffin, t0sf, niv2])):
        for stage in range(1, len(stages) + 1):
            expected = [name for group in stages[:stage] for name in group]
            config.count = len(expected)
            assert select_tasks(collection, config, cot=cot_in) == expected
    assert select_tasks(collection, MixtureConfig(count=9), cot=False) == cot  # they stay, showing answers only
    assert len(collection.groups["cot"]) == 9  # the collection's own lists are untouched


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize("cot", [False, True])
def test_random_subsets_of_one_draw_are_nested_for_every_seed(cot: bool, stratify: bool) -> None:
    collection, whole = paper_like(), 573 if not cot else 582
    for seed in range(20):
        draws = [
            select_tasks(collection, MixtureConfig(n, "random", seed, stratify, "leave_out"), cot=cot)
            for n in (9, 10, 100, 317, whole)
        ]
        for smaller, larger in itertools.pairwise(draws):
            assert larger[: len(smaller)] == smaller
            assert len(set(larger)) == len(larger)


@pytest.mark.parametrize("stratify", [False, True])
def test_chain_of_thought_is_wholly_in_or_out_and_the_other_tasks_come_in_one_order(stratify: bool) -> None:
    collection = paper_like()
    cot = collection.groups["cot"]
    inside = select_tasks(collection, MixtureConfig(109, "random", 3, stratify, "leave_out"), cot=True)
    outside = select_tasks(collection, MixtureConfig(100, "random", 3, stratify, "leave_out"), cot=False)
    answers = select_tasks(collection, MixtureConfig(109, "random", 3, stratify, "answers"), cot=False)
    assert inside == cot + outside
    assert not set(outside) & set(cot)
    assert answers == inside
    with pytest.raises(DataError, match=r"mixture.count=8 with order=random: the 9 chain-of-thought tasks.*at least 9"):
        select_tasks(collection, MixtureConfig(8, "random"), cot=True)


def test_a_collection_of_chain_of_thought_alone_is_drawn_from_as_any_other() -> None:
    alone = Fake({"cot": [f"c{i}" for i in range(9)]})
    draws = {tuple(select_tasks(alone, MixtureConfig(4, "random", seed), cot=True)) for seed in range(5)}
    assert len(draws) > 1
    with pytest.raises(DataError, match=r"has 0 training tasks.*\(its 9 chain-of-thought tasks are out"):
        select_tasks(alone, MixtureConfig(4, "random", without_cot="leave_out"), cot=False)


def test_draws_differ_and_every_task_is_as_likely() -> None:
    names = [f"t{i}" for i in range(40)]
    seen = [name for seed in range(400) for name in random_order(names, seed)[:10]]
    counts = np.array([seen.count(name) for name in names])
    assert counts.sum() == 4000
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100 * 0.75)  # five standard errors


def test_a_task_more_or_less_moves_no_other_in_a_random_order() -> None:
    names = [f"t{i}" for i in range(50)]
    assert [name for name in random_order(names, 7) if name != "t20"] == random_order(names[:20] + names[21:], 7)


def test_every_prefix_of_a_stratified_order_has_each_categorys_share_rounded_down_or_up() -> None:
    rng = random.Random(0)
    for seed in range(60):
        weights = [rng.random() ** 4 for _ in range(rng.randint(1, 20))]
        categories = rng.choices([f"c{i}" for i in range(len(weights))], weights, k=rng.randint(1, 150))
        names = [f"t{i}" for i in range(len(categories))]
        order = stratified_order(names, categories, seed)
        assert sorted(order) == sorted(names)
        kinds = sorted(set(categories))
        category = dict(zip(names, categories, strict=True))
        counts = np.cumsum([[category[name] == kind for kind in kinds] for name in order], axis=0)
        exact = np.arange(1, len(names) + 1)[:, None] * counts[-1] / len(names)
        assert np.abs(counts - exact).max() < 1


def test_a_stratified_draw_reaches_small_categories_as_often_as_large_ones() -> None:
    categories = ["large"] * 60 + [f"small{i}" for i in range(40)]
    names = [f"t{i}" for i in range(100)]
    draws = [set(stratified_order(names, categories, seed)[:25]) for seed in range(200)]
    assert all(abs(len(draw & set(names[:60])) - 15) < 1 for draw in draws)
    shares = [sum(name in draw for draw in draws) / len(draws) for name in names[60:]]
    assert np.mean(shares) == pytest.approx(0.25)
    assert max(shares) < 0.45
    assert min(shares) > 0.08
    assert stratified_order([], [], 0) == []


def test_too_many_tasks_is_an_error_that_says_why_unless_allowed(caplog: pytest.LogCaptureFixture) -> None:
    collection = without_data(here=7)
    with pytest.raises(DataError) as caught:
        select_tasks(collection, MixtureConfig(count=29, order="random"), cot=True)
    message = str(caught.value)
    assert "mixture.count=29, but flan has 28 training tasks for it here" in message
    assert "1808 have no data" in message
    assert "1547 (" in message
    assert "): no niv2 file; download it; 186 (" in message
    assert "): no t0sf file; download it; 75 for other reasons; " in message
    assert "\n" not in message
    assert message.endswith("lower the count or set mixture.allow_missing=true")
    assert len(select_tasks(collection, MixtureConfig(29, "random", allow_missing=True), cot=True)) == 28
    assert "going on with 28" in caplog.text


def test_a_stage_of_the_paper_is_the_same_stage_where_data_is_missing() -> None:
    collection = without_data(here=7)
    allowed = MixtureConfig(count=9, allow_missing=True)
    assert select_tasks(collection, allowed, cot=True) == collection.groups["cot"]  # and no Muffin in their stead
    assert select_tasks(collection, MixtureConfig(count=7), cot=True) == collection.groups["cot"]
    allowed.count = 89
    stage = select_tasks(collection, allowed, cot=True)
    assert stage == collection.groups["cot"] + collection.groups["muffin"]
    with pytest.raises(
        DataError,
        match=r"count=89, but flan has 14 .*; 75 have no data: 73 \(\w+, .*, …\): no muffin file; .*;"
        r" 2 \(stream_\w+, stream_\w+\): no cot file; download it; `flanscale tasks list --missing` .* names them all;",
    ):
        select_tasks(collection, MixtureConfig(count=89), cot=True)
    for count in (7, 80):  # chain of thought left out leaves no places behind, its missing tasks neither
        left_out = MixtureConfig(count, allow_missing=count == 80, without_cot="leave_out")
        assert select_tasks(collection, left_out, cot=False) == collection.groups["muffin"]
    del collection.groups["cot"]
    collection.missing |= dict.fromkeys(catalogued("cot"), "no folder")
    assert select_tasks(collection, allowed, cot=True) == collection.groups["muffin"]


def test_the_procedural_collection_has_its_1836_and_ignores_the_draw_in_the_papers_order() -> None:
    procedural = Procedural(examples_per_task=200)
    for seed in (0, 1):
        names = select_tasks(procedural, MixtureConfig(1836, "paper", seed), cot=False)
        assert names == [name for group in procedural.groups.values() for name in group]
    with pytest.raises(DataError, match=r"mixture.count=2000.*has 1836.*allow_missing"):
        select_tasks(procedural, MixtureConfig(count=2000), cot=True)
    assert select_tasks(procedural, MixtureConfig(count=0, order="random"), cot=True) == []


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="two tasks named a, in cot and in niv2"):
        group_of(Fake({"cot": ["a"], "niv2": ["b", "a"]}))


# --- weights ---------------------------------------------------------------------------------------------------------


def random_mixture(rng: np.random.Generator) -> tuple[list[str], list[int], MixtureConfig]:
    tasks = int(rng.integers(1, 400))
    groups = rng.choice(list(COUNTS), tasks).tolist()
    sizes = rng.integers(1, 10 ** rng.integers(1, 8), tasks).tolist()
    return (
        groups,
        sizes,
        MixtureConfig(
            count=tasks,
            weighting=str(rng.choice(["examples", "temperature", "equal"])),
            temperature=float(rng.uniform(1, 100)),
            proportions={} if rng.random() < 0.3 else {group: float(rng.uniform(1e-3, 100)) for group in COUNTS},
            max_per_task=int(rng.integers(1, 100_000)),
            caps={} if rng.random() < 0.3 else {"niv2": int(rng.integers(1, 10_000))},
        ),
    )


def test_weights_are_positive_and_sum_to_one_to_twelve_digits() -> None:
    for seed in range(300):
        groups, sizes, config = random_mixture(np.random.default_rng(seed))
        weights = task_weights(groups, sizes, config)
        assert weights.dtype == np.float64
        assert (weights > 0).all()
        assert abs(weights.sum() - 1) < 1e-12


def test_each_group_gets_its_proportion_among_those_present_whatever_its_tasks_weigh() -> None:
    for seed in range(300):
        groups, sizes, config = random_mixture(np.random.default_rng(seed))
        if config.proportions:
            weights, present = task_weights(groups, sizes, config), set(groups)
            for group in present:
                share = weights[np.array(groups) == group].sum()
                total = sum(config.proportions[other] for other in present)
                assert share == pytest.approx(config.proportions[group] / total, abs=1e-12)


def test_inside_a_group_a_task_weighs_its_capped_examples() -> None:
    for seed in range(300):
        groups, sizes, config = random_mixture(np.random.default_rng(seed))
        weights = task_weights(groups, sizes, config)
        power = {"examples": 1.0, "temperature": 1 / config.temperature, "equal": 0.0}[config.weighting]
        for group in set(groups):
            cap = config.caps.get(group, config.max_per_task)
            of = np.array(groups) == group
            expected = np.array([min(cap, size) for size in sizes], float)[of] ** power
            np.testing.assert_allclose(weights[of] / weights[of].sum(), expected / expected.sum(), rtol=1e-9)


def test_proportion_a_over_chain_of_thought_and_muffin_is_3_to_52() -> None:
    config = MixtureConfig(count=3, proportions=PROPORTIONS_A)
    weights = task_weights(["cot", "muffin", "muffin"], [10, 30, 10], config)
    assert weights.tolist() == pytest.approx([3 / 55, 52 / 55 * 0.75, 52 / 55 * 0.25], abs=1e-15)


def test_the_cap_bounds_each_task_and_groups_may_have_their_own() -> None:
    sizes = [10, 90, 90, 90]
    groups = ["muffin", "muffin", "niv2", "niv2"]
    assert task_weights(groups, sizes, MixtureConfig(count=4)).tolist() == pytest.approx(np.array(sizes) / 280)
    capped = task_weights(groups, sizes, MixtureConfig(count=4, max_per_task=30, caps={"niv2": 5}))
    assert capped.tolist() == pytest.approx(np.array([10, 30, 5, 5]) / 50)


def test_temperature_one_is_by_examples_and_a_high_one_is_equal() -> None:
    def of(weighting: str, temperature: float = 1.0) -> list[float]:
        return task_weights(
            ["g"] * 2, [1, 999], MixtureConfig(2, weighting=weighting, temperature=temperature)
        ).tolist()

    assert of("temperature", 1.0) == of("examples") == [0.001, 0.999]
    assert of("temperature", 1e9) == pytest.approx(of("equal"), abs=1e-6) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proportions": {"muffn": 1.0}}, r"mixture.proportions.muffn: flan has no such group; did you mean muffin\?"),
        ({"caps": {"t0": 5}}, r"mixture.caps.t0: flan has no such group.*groups here: cot, muffin, t0sf, niv2"),
        ({"caps": {"niv2": 0}}, r"mixture.caps.niv2=0: expected a number of examples"),
        ({"proportions": {"cot": 3.0}}, r"mixture.proportions has no share for muffin.*add mixture.proportions.muffin"),
        ({"proportions": {**PROPORTIONS_A, "muffin": 0.0}}, r"mixture.proportions.muffin=0.0: expected a positive"),
        ({"proportions": {**PROPORTIONS_A, "cot": float("nan")}}, r"mixture.proportions.cot=nan: expected a positive"),
    ],
)
def test_a_wrong_group_or_share_is_one_line_when_tasks_are_selected(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        select_tasks(paper_like(), MixtureConfig(count=89, **changes), cot=True)


def test_one_file_of_proportions_serves_every_part_of_the_collection() -> None:
    alone = Fake({"niv2": ["a", "b"]}, sizes={"a": 30, "b": 10}, name="niv2")
    config = MixtureConfig(count=2, proportions=PROPORTIONS_A)
    mixture = weigh(alone, select_tasks(alone, config, cot=False), [30, 10], config)
    assert mixture.weights.tolist() == [0.75, 0.25]


# --- the mixture of a cell -------------------------------------------------------------------------------------------


def test_sizes_are_counted_after_what_is_left_out_and_kept_back() -> None:
    collection = Fake({"niv2": ["a", "b"]}, sizes={"a": 100, "b": 50})

    def clean(task: Task) -> Task:
        return Task(task.name, task.collection, "", "", list(task.examples)[10:])

    config = MixtureConfig(count=2, validation_examples=15)
    mixture, tasks, held_in = build_mixture(collection, config, cot=False, clean=clean)
    assert mixture.sizes.tolist() == [75, 32] == [len(task.examples) for task in tasks]
    assert [len(part) for part in held_in] == [15, 8]
    assert mixture.weights.tolist() == pytest.approx([75 / 107, 32 / 107])
    assert (mixture.names, mixture.groups, mixture.requested) == (("a", "b"), ("niv2", "niv2"), 2)


def test_a_task_left_without_examples_is_named_and_if_allowed_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    collection = Fake({"niv2": ["a", "b"]}, sizes={"b": 0})
    with pytest.raises(
        DataError, match=r"1 of 2 tasks of flan have no training examples: b; set mixture.allow_missing"
    ):
        build_mixture(collection, MixtureConfig(count=2), cot=False)
    for weighting in ("examples", "temperature", "equal"):
        allowed = MixtureConfig(count=2, allow_missing=True, weighting=weighting, temperature=3.0)
        mixture, _, _ = build_mixture(collection, allowed, cot=False)
        assert mixture.weights.tolist() == [1.0, 0.0]
    assert realised(mixture, 5).logged()["mixture/tasks"] == 1
    assert "going on without them" in caplog.text
    with pytest.raises(DataError, match="none of the 1 tasks"):
        build_mixture(Fake({"g": ["b"]}, sizes={"b": 0}), MixtureConfig(count=1, allow_missing=True), cot=False)


def test_no_tasks_are_a_mixture_too() -> None:
    mixture, tasks, held_in = build_mixture(paper_like(), MixtureConfig(count=0), cot=False)
    assert (len(mixture.weights), tasks, held_in) == (0, [], [])
    table = realised(mixture, 0)
    assert table.logged()["mixture/tasks"] == 0
    assert table.rows() == []
    assert table.warning is None
    assert len(table.lines()) == 1


# --- what it comes to ------------------------------------------------------------------------------------------------


def example_mixture() -> Mixture:
    return weigh(
        Fake({"cot": ["c"], "muffin": ["m", "o"]}),
        ["c", "m", "o"],
        [10, 300, 100],
        MixtureConfig(count=3, proportions={"cot": 1, "muffin": 3}),
    )


def test_the_table_adds_up_and_is_the_logged_share() -> None:
    table = realised(example_mixture(), 400, np.array([100.0, 10.0, 20.0]))
    assert table.draws.tolist() == pytest.approx([100, 225, 75])
    assert table.epochs.tolist() == pytest.approx([10, 0.75, 0.75])
    rows = table.rows()
    assert [row["task"] for row in rows] == ["c", "m", "o"]
    assert [row["tokens"] for row in rows] == pytest.approx([10_000, 2250, 1500])
    for total in table.totals:
        own = [row for row in rows if row["group"] == total.group]
        assert total.tasks == len(own)
        for key in ("examples", "draws", "tokens"):
            assert getattr(total, key) == pytest.approx(sum(row[key] for row in own))
        assert total.share == pytest.approx(sum(row["weight"] for row in own))
        assert total.max_epochs == pytest.approx(max(row["epochs"] for row in own))
    assert table.logged() == pytest.approx(
        {
            "mixture/tasks": 3,
            "mixture/tasks_requested": 3,
            "mixture/examples": 410,
            "mixture/max_epochs": 10,
            "mixture/share/cot": 0.25,
            "mixture/share/muffin": 0.75,
        }
    )
    assert "tokens" not in realised(example_mixture(), 400).rows()[0]


def test_repeated_tasks_are_warned_of_in_one_line_that_names_the_worst(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        realised(example_mixture(), 400).log_to(logging.getLogger("x"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("1 of 3 tasks are repeated: c is seen 10 times (10 examples, 100 draws)")
    assert "\n" not in warnings[0]
    assert len(caplog.records) == 4  # the head, a line a group, the warning
    assert realised(example_mixture(), 40).warning is None  # exactly once is no repetition


def test_the_fingerprint_follows_names_and_weights_alone() -> None:
    mixture = example_mixture()
    fingerprint = realised(mixture, 5).fingerprint
    assert len(fingerprint) == 16
    assert fingerprint == realised(example_mixture(), 7, np.ones(3)).fingerprint
    other = Mixture(mixture.names, mixture.groups, 3, mixture.sizes, mixture.weights[[0, 2, 1]])
    assert realised(other, 5).fingerprint != fingerprint
    renamed = Mixture(("c", "o", "m"), mixture.groups, 3, mixture.sizes, mixture.weights)
    assert realised(renamed, 5).fingerprint != fingerprint
    noise = Mixture(mixture.names, mixture.groups, 3, mixture.sizes, mixture.weights * (1 + 1e-15))
    assert realised(noise, 5).fingerprint == fingerprint


# --- held-in validation ----------------------------------------------------------------------------------------------


def sides(task: Task, wanted: int) -> tuple[list[str], list[str]]:
    training, held_in = split_validation(task, MixtureConfig(count=1, validation_examples=wanted))
    return [example.id for example in training.examples], [example.id for example in held_in]


@pytest.mark.parametrize(("size", "wanted", "kept"), [(1000, 50, 50), (100, 50, 20), (4, 50, 0), (5, 1, 1), (9, 0, 0)])
def test_the_number_asked_for_is_kept_back_but_never_more_than_a_fifth(size: int, wanted: int, kept: int) -> None:
    training, held_in = sides(task(size), wanted)
    assert len(held_in) == kept
    assert sorted(training + held_in) == sorted(example.id for example in task(size).examples)
    assert training == sorted(training, key=int)


def test_an_added_example_moves_at_most_one_other_and_order_and_ids_do_not_matter() -> None:
    moved = []
    for size in range(100, 300):
        before, after = set(sides(task(size), 20)[1]), set(sides(task(size + 1), 20)[1])
        moved.append(len((before ^ after) - {str(size)}))
    assert max(moved) <= 1
    assert np.mean(moved) < 0.2
    examples = list(task(200).examples)
    shuffled = random.Random(0).sample([Example(f"x{e.id}", e.input, e.references) for e in examples], 200)
    assert {f"x{i}" for i in sides(task(200), 20)[1]} == set(sides(Task("u", "", "", "", shuffled), 20)[1])


def test_examples_of_one_input_are_never_on_both_sides() -> None:
    rng = random.Random(1)
    for _ in range(50):
        examples = [
            Example(str(i), rng.choice(["{} x", " {}  x"]).format(int(rng.paretovariate(0.5)) % 40), ("y",))
            for i in range(200)
        ]
        training, held_in = split_validation(Task("t", "", "", "", examples), MixtureConfig(1, validation_examples=30))
        assert 20 <= len(held_in) <= 30
        assert not {e.input.strip()[:2] for e in training.examples} & {e.input.strip()[:2] for e in held_in}


def test_the_sides_of_an_on_demand_task_are_made_on_demand() -> None:
    whole = Procedural(examples_per_task=200).task("reverse-double")
    training, held_in = split_validation(whole, MixtureConfig(count=1, validation_examples=20))
    assert len(training.examples) + len(held_in) == 200
    assert {example.input for example in training.examples}.isdisjoint(example.input for example in held_in)
    assert training.examples[0] == whole.examples[int(training.examples[0].id)]
    assert not isinstance(training.examples, list)


# --- the files of conf/mixture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_mixture_file_weighs_its_collection(path: Path) -> None:
    config = MixtureConfig(**yaml.safe_load(path.read_text(encoding="utf-8")))
    procedural = Procedural(examples_per_task=10)
    names = list(config.proportions)
    collection = procedural if not names or names[0] in procedural.groups else paper_like()
    config.count = 100
    groups = group_of(collection)
    chosen = select_tasks(collection, config, cot=True)
    assert abs(task_weights([groups[name] for name in chosen], [10] * 100, config).sum() - 1) < 1e-12
    assert not config.proportions or set(config.proportions) == set(collection.groups)


def test_proportions_a_and_b_and_the_caps_are_the_papers() -> None:
    a, b = (yaml.safe_load((CONF / f"paper_{letter}.yaml").read_text(encoding="utf-8")) for letter in "ab")
    assert a["proportions"] == PROPORTIONS_A
    assert b["proportions"] == {"cot": 1.8, "muffin": 46.0, "t0sf": 27.9, "niv2": 24.2}
    assert a["caps"] == b["caps"] == {"cot": 100_000, "muffin": 30_000, "t0sf": 20_000, "niv2": 5_000}


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_subsets_of_the_real_collection_nest_for_twenty_seeds_and_keep_its_categories(shared_data: Path) -> None:
    collection = open_collection(CollectionConfig(name="flan"), DataConfig(root=str(shared_data)))
    cot = collection.groups["cot"]
    others = [name for group, names in collection.groups.items() if group != "cot" for name in names]
    kinds, kind = np.unique([collection.category(name) for name in others], return_inverse=True)
    number = dict(zip(others, kind.tolist(), strict=True))
    for seed in range(20):
        draws = {
            n: select_tasks(collection, MixtureConfig(n, "random", seed, True, "leave_out"), cot=False)
            for n in (100, 500, 1000)
        }
        assert draws[1000][:500] == draws[500]
        assert draws[500][:100] == draws[100]
        with_cot = select_tasks(collection, MixtureConfig(500 + len(cot), "random", seed, True), cot=True)
        assert with_cot == cot + draws[500]
        for n, names in draws.items():
            counts = np.bincount([number[name] for name in names], minlength=len(kinds))
            assert np.abs(counts - n * np.bincount(kind) / len(others)).max() < 1
