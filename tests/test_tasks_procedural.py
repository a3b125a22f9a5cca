"""The procedural collection: a task is a function of its own, and what is held out is held out in every sense."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flanscale.errors import DataError
from flanscale.pipeline.tokenizers import UNKNOWN, load_tokenizer
from flanscale.schema import TokenizerConfig
from flanscale.tasks import procedural_text
from flanscale.tasks.make_procedural import HELD_OUT_SIZE, TRAINING_SIZE, write
from flanscale.tasks.primitives import DOMAINS, Domain, primitives, symbols
from flanscale.tasks.procedural import GROUP_SIZES, LAYOUT_FILE, Procedural, held_out_inputs, layout, spell
from flanscale.tasks.templates.procedural import procedural_words

BOTH = pytest.mark.parametrize("domain", ["digits", "letters"])
EACH = pytest.mark.parametrize(
    ("domain", "difficulty"), [(domain, difficulty) for domain in ("digits", "letters") for difficulty in (1, 2, 3)]
)

DEARER = [("digits", 2), ("digits", 3), ("letters", 1), ("letters", 3)]  # beside one case of each domain


def training(collection: Procedural) -> list[str]:
    return [name for group in collection.groups.values() for name in group]


def value_of(domain: Domain, text: str) -> Any:
    return domain.make(type(domain.symbols[0])(word) for word in text.split())


def inputs_of(domain: Domain, length: int) -> Iterator[Any]:
    """All there are, or 1,000 of them at random, other ones than the layout's probes."""
    rng = random.Random("other inputs")
    if len(domain.symbols) ** length <= 1_000:
        return map(domain.make, product(domain.symbols, repeat=length))
    return (domain.make(rng.choices(domain.symbols, k=length)) for _ in range(1_000))


def answers_of(names: list[str], domain: Domain, inputs: list[Any]) -> np.ndarray:
    """Each task's numbered answers, [tasks, inputs]."""
    numbers: dict[Any, int] = {}
    known: dict[tuple[str, ...], list[Any]] = {(): inputs}

    def answer(task: tuple[str, ...]) -> list[Any]:
        if task not in known:
            known[task] = [domain.primitives[task[-1]](value) for value in answer(task[:-1])]
        return known[task]

    return np.array([[numbers.setdefault(v, len(numbers)) for v in answer(tuple(name.split("-")))] for name in names])


# --- which tasks there are -----------------------------------------------------------------------------------------


@BOTH
def test_the_groups_have_the_sizes_of_the_paper(domain: str) -> None:
    collection = Procedural(10, domain)
    assert [len(group) for group in collection.groups.values()] == [9, 80, 193, 1554] == list(GROUP_SIZES.values())
    assert len(training(collection)) == TRAINING_SIZE == 1836
    assert len(collection.held_out) == HELD_OUT_SIZE == 48
    assert len({*training(collection), *collection.held_out}) == 1884
    assert collection.missing == {}


def test_the_list_of_tasks_is_what_its_maker_makes_of_the_primitives(tmp_path: Path) -> None:
    write(tmp_path / "made.csv")
    assert (tmp_path / "made.csv").read_bytes() == LAYOUT_FILE.read_bytes()


@BOTH
def test_half_of_the_held_out_tasks_compose_two_primitives_and_half_three(domain: str) -> None:
    collection = Procedural(10, domain)
    counts = Counter(collection.category(name) for name in collection.held_out)
    assert counts == {"length 2": 24, "length 3": 24}


@BOTH
def test_every_primitive_of_a_held_out_task_is_trained_on_alone_and_in_company(domain: str) -> None:
    collection = Procedural(10, domain)
    names = training(collection)
    used = {operation for name in collection.held_out for operation in name.split("-")}
    assert used <= set(names) <= {*names, *primitives(domain)}
    company = Counter(operation for name in names if "-" in name for operation in set(name.split("-")))
    assert all(company[operation] >= 20 for operation in used)


def test_common_primitives_come_first_and_rare_ones_late() -> None:
    for domain in DOMAINS:
        groups = Procedural(10, domain).groups
        early = {operation for name in groups["first"] for operation in name.split("-")}
        later = {operation for name in groups["third"] for operation in name.split("-")}
        assert len(early) < len(later) == len(primitives(domain))


# --- a task is a function of its own ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "difficulty"),
    [
        *[("digits", 1), ("letters", 2)],
        *(pytest.param(*case, marks=pytest.mark.slow) for case in DEARER),
    ],
)
def test_no_two_tasks_compute_the_same_function_and_held_out_ones_resemble_none(domain: str, difficulty: int) -> None:
    known = DOMAINS[domain]
    inputs = list(inputs_of(known, known.lengths[difficulty - 1]))
    collection = Procedural(10, domain)
    answers = answers_of([*training(collection), *collection.held_out], known, inputs)
    assert len({row.tobytes() for row in answers}) == TRAINING_SIZE + HELD_OUT_SIZE
    trained, held_out = answers[:TRAINING_SIZE], answers[TRAINING_SIZE:]
    identity = answers_of(["same"], Domain(known.symbols, {"same": lambda x: x}, known.make, ""), inputs)
    assert identity.tobytes() not in {row.tobytes() for row in answers}
    nearest = np.array([(trained == row).mean(axis=1).max() for row in held_out])
    assert nearest.max() < 0.8  # an estimate of the layout's 0.7 on inputs that it has not seen
    assert np.median(nearest) < 0.6
    assert max(np.bincount(np.unique(row, return_inverse=True)[1]).max() for row in held_out) < 0.15 * len(inputs)


@BOTH
def test_primitives_are_closed_and_total(domain: str) -> None:
    known = DOMAINS[domain]
    for length in known.lengths:
        for value in inputs_of(known, length):
            for primitive in known.primitives.values():
                answer = primitive(value)
                assert type(answer) is type(value)
                assert 1 <= len(answer) <= 5
                assert set(answer) <= set(known.symbols)


PROMISES: dict[str, dict[str, tuple[Any, Any]]] = {
    "digits": {
        "reverse": ((3, 1, 2), (2, 1, 3)),
        "sort": ((3, 1, 2), (1, 2, 3)),
        "rotate": ((3, 1, 2), (1, 2, 3)),
        "exchange": ((3, 1, 2), (1, 3, 2)),
        "mirror": ((3, 1, 2), (3, 1, 3)),
        "increment": ((9, 1, 2), (0, 2, 3)),
        "double": ((9, 1, 2), (8, 2, 4)),
        "complement": ((9, 1, 2), (0, 8, 7)),
        "bump": ((9, 1, 2), (0, 1, 2)),
        "ramp": ((9, 1, 9), (9, 2, 1)),
        "climb": ((3, 1, 4), (3, 3, 4)),
        "peak": ((3, 1, 4), (4, 1, 4)),
        "square": ((3, 1, 4), (9, 1, 6)),
        "halve": ((3, 1, 4), (1, 0, 2)),
        "swell": ((3, 1, 7), (3, 1, 4)),
    },
    "letters": {
        "devowel": ("beto", "bt"),
        "stutter": ("beto", "bbeto"),
        "halves": ("beto", "tobe"),
        "thin": ("beto", "bt"),
        "descend": ("beto", "toeb"),
        "voice": ("beto", "pedo"),
        "chant": ("beto", "bitu"),
        "place": ("beto", "deko"),
        "crown": ("beto", "tbeo"),
        "prefix": ("beto", "pbeto"),
        "ending": ("beto", "betu"),
        "blend": ("beto", "etto"),
        "zip": ("beto", "boet"),
        "metathesis": ("tbeo", "tebo"),
        "lead": ("beto", "betb"),
        "ablaut": ("beti", "beto"),
    },
}


@pytest.mark.parametrize(
    ("domain", "name", "given", "expected"),
    [(domain, name, *pair) for domain, pairs in PROMISES.items() for name, pair in pairs.items()],
)
def test_a_primitive_does_what_its_name_says(domain: str, name: str, given: Any, expected: Any) -> None:
    assert primitives(domain)[name](given) == expected


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("devowel", "eio", "eio"),
        ("stutter", "betob", "bbeto"),
        ("ablaut", "btk", "btk"),
        ("metathesis", "eio", "eio"),
        ("zip", "bet", "bte"),
        ("halves", "bet", "tbe"),
    ],
)
def test_letters_at_their_limits(name: str, given: str, expected: str) -> None:
    assert primitives("letters")[name](given) == expected


def test_every_primitive_is_tested() -> None:
    assert {domain: set(primitives(domain)) for domain in DOMAINS} == {d: set(p) for d, p in PROMISES.items()}


def test_the_domains_share_no_name_and_no_symbol() -> None:
    assert not set(primitives("digits")) & set(primitives("letters"))
    assert not set(symbols("digits")) & set(symbols("letters"))


# --- examples ------------------------------------------------------------------------------------------------------


@EACH
def test_no_held_out_input_is_the_input_of_a_training_example(domain: str, difficulty: int) -> None:
    collection = Procedural(10**6, domain, difficulty)
    known = DOMAINS[domain]
    total = len(known.symbols) ** known.lengths[difficulty - 1]
    trained = {e.input for e in collection.task(collection.groups["second"][3]).examples}
    others = {e.input for name in training(collection)[::40] for e in list_of(collection, name, 20)}
    asked = {e.input for e in collection.task(collection.held_out[0]).examples}
    also = {e.input for name in collection.held_out for e in list_of(collection, name, 20)}
    assert (len(trained), len(asked)) == (total * 9 // 10, total // 10)  # every input there is, each on one side
    assert others <= trained
    assert also <= asked
    assert not trained & asked


def list_of(collection: Procedural, name: str, count: int) -> list[Any]:
    examples = collection.task(name).examples
    return [examples[i] for i in range(count)]


@BOTH
def test_the_examples_of_a_task_differ_and_are_those_asked_for(domain: str) -> None:
    task = Procedural(200, domain).task(Procedural(200, domain).groups["first"][0])
    assert len(task.examples) == 200 == len({example.input for example in task.examples})
    assert len(Procedural(10**6, domain).task(task.name).examples) == 900
    assert list(Procedural(10**6, domain).task(task.name).examples)[:200] == list(task.examples)
    with pytest.raises(IndexError):
        task.examples[200]


@EACH
def test_an_answer_follows_from_its_input_step_by_step(domain: str, difficulty: int) -> None:
    collection, known = Procedural(50, domain, difficulty), DOMAINS[domain]
    for name in [*collection.held_out, *collection.groups["third"]]:
        example = collection.task(name).examples[7]
        value, steps = value_of(known, example.input), []
        assert len(value) == known.lengths[difficulty - 1]
        for operation in name.split("-"):
            value = known.primitives[operation](value)
            steps.append(f"{operation} {' '.join(map(str, value))} ;")
        assert example.target == " ".join(map(str, value))
        assert example.rationale == " ".join(steps)


@EACH
def test_an_answer_with_its_rationale_fits_the_quick_study(domain: str, difficulty: int) -> None:
    collection = Procedural(30, domain, difficulty)
    for name in training(collection)[::9]:
        for example in collection.task(name).examples:
            assert example.rationale
            assert len(f"{example.rationale} the answer is {example.target}".split()) + 1 <= 32  # target_tokens
            assert len(example.target.split()) + 1 <= 8  # direct_tokens


def test_a_task_is_the_same_every_time_and_differs_from_others() -> None:
    first, again = Procedural(100).task("reverse-sort-double"), Procedural(100).task("reverse-sort-double")
    assert list(first.examples) == list(again.examples)
    for name in ("reverse-sort-square", "double-sort-reverse", "reverse-sort"):
        assert [e.input for e in Procedural(100).task(name).examples] != [e.input for e in first.examples]


@BOTH
def test_a_task_says_what_it_is(domain: str) -> None:
    collection = Procedural(10, domain, 2)
    task = collection.task(collection.held_out[-1])
    assert (task.collection, task.dataset, task.style) == ("procedural", domain, "procedural")
    assert task.category == collection.category(task.name) == "length 3"
    words = set(procedural_words(domain))
    for name in training(collection)[::50]:
        task = collection.task(name)
        for example in task.examples:
            assert {*task.instruction.split(), *example.input.split(), *str(example.rationale).split()} <= words


def test_a_fingerprint_tells_tasks_domains_and_difficulties_apart_and_follows_the_primitives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of: Callable[..., str] = lambda name, *rest: Procedural(100, *rest).fingerprint(name)  # noqa: E731
    before = of("reverse-double")
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert before == of("reverse-double") == Procedural(7_000).fingerprint("reverse-double")
    assert len({before, of("double-reverse"), of("reverse-double", "digits", 2), of("zip-thin", "letters")}) == 4
    monkeypatch.setitem(DOMAINS["digits"].primitives, "double", lambda x: x)  # type: ignore[arg-type]
    assert of("reverse-double") != before


@pytest.mark.parametrize("name", ["reverse-fly", "", "reverse-", "sort-sort-sort-sort", "zip", "../reverse"])
def test_an_unknown_task_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"no task .* in the procedural collection of digits; tasks are like reverse-"):
        Procedural(10).task(name)


def test_an_unknown_domain_or_difficulty_is_refused() -> None:
    with pytest.raises(DataError, match=r"collection.domain=numbers: there are digits, letters"):
        Procedural(10, "numbers")
    with pytest.raises(DataError, match=r"collection.difficulty=4"):
        Procedural(10, "digits", 4)


def test_plain_texts_are_true_and_give_nothing_away_that_is_asked() -> None:
    untold = {domain: set(layout(domain)["held_out"]) for domain in DOMAINS}
    for number in range(400):
        name = ("digits", "letters")[number % 2]
        domain = DOMAINS[name]
        value: Any = None
        operation, symbols, done = "", list[str](), list[str]()
        for word in procedural_text.text(number).split():
            if word in domain.primitives or word == ";":
                if value is None:  # the start of a chain
                    value, done = domain.make(_read(name, symbols)), []
                elif operation:
                    value = domain.primitives[operation](value)
                    assert spell(value).split() == symbols
                    done.append(operation)
                    assert not any("-".join(done[place:]) in untold[name] for place in range(len(done)))
                assert value not in held_out_inputs(name)
                operation, symbols = ("" if word == ";" else word), []
                if word == ";" and len(done) == procedural_text.STEPS:
                    value = None
            else:
                symbols.append(word)


def _read(name: str, symbols: list[str]) -> list[Any]:
    return [int(each) for each in symbols] if name == "digits" else symbols


def test_plain_texts_are_the_same_everywhere_and_all_of_known_words() -> None:
    assert procedural_text.text(0).startswith("3 9 3 sort 3 3 9 ;")
    collection = procedural_text.ProceduralText(50)
    examples = collection.task("chains").examples
    assert len({example.input for example in examples}) == 50
    ids = load_tokenizer(TokenizerConfig("words")).encode([example.input for example in examples]).tokens
    assert UNKNOWN not in ids
    with pytest.raises(DataError, match="all of them are 'chains'"):
        collection.task("other")
