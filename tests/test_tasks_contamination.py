"""Training data never holds held-out text: copies, names and overlaps are found, and nothing else is dropped."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from flanscale.errors import DataError
from flanscale.tasks.benchmark_texts import BenchmarkText, load_benchmarks
from flanscale.tasks.catalog import read_catalog
from flanscale.tasks.contamination import clean, copy_of_benchmark, report_lines, report_rows
from flanscale.tasks.cot import Cot
from flanscale.tasks.guard import BOILERPLATE_ITEMS, Guard, fingerprint
from flanscale.tasks.ngrams import Units, normalised
from flanscale.tasks.niv2 import Niv2
from flanscale.tasks.task import Example, Task

SECRET = "Twelve grey geese crossed the frozen river while nobody at the old mill was looking"
SHORT = "Who painted the yellow lighthouse?"


def task_of(*inputs: str, name: str = "geese", **fields: object) -> Task:
    examples = [Example(str(i), text, ("yes",)) for i, text in enumerate(inputs)]
    return replace(Task(name, "jsonl", "birds", "Answer.", examples), **fields)


def guard_of(*texts: str, answers: tuple[str, ...] = (), words: int = 13) -> Guard:
    return Guard.build([BenchmarkText("b", str(i), "text", text, answers) for i, text in enumerate(texts)], words)


def dropped(task: Task, guard: Guard) -> list[str]:
    rest, _ = clean(task, guard, "drop")
    kept = {example.id for example in rest.examples}
    return [example.id for example in task.examples if example.id not in kept]


def test_case_punctuation_spacing_and_unicode_forms_do_not_matter() -> None:
    disguised = SECRET.upper().replace(" ", " –\n").replace("FROZEN", "\uff26ROZE\u00adN")
    assert dropped(task_of("clean", f"Once, {disguised}!"), guard_of(SECRET)) == ["1"]


def test_marks_belong_to_words_and_scripts_without_spaces_are_cut_into_characters() -> None:
    assert normalised("Don’t STOP—कोड 東京タワーは3月") == "don t stop कोड 東 京 タ ワ ー は 3 月"


@pytest.mark.parametrize("seed", range(20))
def test_hits_are_those_of_a_plain_search(seed: int) -> None:
    rng = random.Random(seed)
    alphabet = ["ab", "ab", "abc", "été", "日"]

    def text() -> str:
        return "".join(rng.choice(alphabet) + rng.choice([" ", ", ", "\n"]) for _ in range(rng.randrange(60)))

    benchmark, training = [text() for _ in range(8)], [text() for _ in range(150)]
    guard = guard_of(*benchmark, words=5)
    found = {match.owner for match in guard.matches(training, range(len(training))) if match.rule == "n-gram"}

    def ngrams(text: str) -> Iterator[tuple[str, ...]]:
        units = normalised(text).split()
        single = [unit == "日" for unit in units]
        for start in range(len(units)):
            if start + 5 <= len(units) and not any(single[start : start + 5]):
                yield tuple(units[start : start + 5])
            if start + 10 <= len(units) and any(single[start : start + 10]):
                yield tuple(units[start : start + 10])

    known = {ngram for text in benchmark for ngram in ngrams(text)}
    assert found == {i for i, text in enumerate(training) if known & set(ngrams(text))}
    assert 0 < len(found) < len(training)


def test_a_collision_of_hashes_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Units, "hashes", lambda self, positions, length: np.full(len(positions), 7, np.uint64))
    other = "Thirteen grey geese crossed a frozen river while nobody at the new mill was looking up"
    assert dropped(task_of(other, SECRET), guard_of(SECRET)) == ["1"]


def test_thirteen_words_count_and_twelve_do_not() -> None:
    words = SECRET.split()
    guard = guard_of(f"{SECRET} again and again")
    assert dropped(task_of(" ".join(words[:12]), " ".join(words[:13])), guard) == ["1"]


def test_the_number_of_words_can_be_chosen() -> None:
    assert dropped(task_of("geese crossed the frozen river", "crossed the frozen"), guard_of(SECRET, words=4)) == ["0"]


@pytest.mark.parametrize(
    "example",
    [
        Example("x", "q", ("no", SECRET)),
        Example("x", "q", ("no",), rationale=SECRET),
        Example("x", "q", ("no",), options=("no", SECRET)),
        Example("x", "q", ("no",), fields={"premise": SECRET}),
    ],
    ids=["reference", "rationale", "option", "field"],
)
def test_every_part_that_a_template_may_show_is_looked_at(example: Example) -> None:
    task = replace(task_of(), examples=[example])
    rest, hits = clean(task, guard_of(SECRET), "drop")
    assert len(rest.examples) == 0
    assert hits[0].example == "x"


def test_an_overlap_does_not_run_from_one_part_into_another() -> None:
    words = SECRET.split()
    example = Example("x", " ".join(words[:8]), (" ".join(words[8:]),))
    assert dropped(replace(task_of(), examples=[example]), guard_of(SECRET)) == []


def test_contaminated_exemplars_and_instructions_are_dropped_too() -> None:
    shots = (Example("good", "a", ("b",)), Example("bad", SECRET, ("b",)))
    rest, hits = clean(task_of("fine", exemplars=shots), guard_of(SECRET), "drop")
    assert [shot.id for shot in rest.exemplars] == ["good"]
    assert len(rest.examples) == 1
    assert (hits[0].example, hits[0].part, hits[0].examples) == ("bad", "exemplar input", 0)
    rest, hits = clean(task_of("fine", "too", instruction=SECRET, exemplars=shots[:1]), guard_of(SECRET), "drop")
    assert (len(rest.examples), len(rest.exemplars)) == (0, 0)
    assert (hits[0].example, hits[0].part, hits[0].examples) == ("*", "instruction", 2)


def test_modes_drop_warn_and_off() -> None:
    task, guard = task_of("fine", f"Look: {SECRET}.", "also fine"), guard_of(SECRET)
    rest, hits = clean(task, guard, "drop")
    assert [example.id for example in rest.examples] == ["0", "2"]
    hit = hits[0]
    assert (hit.task, hit.example, hit.benchmark, hit.item, hit.rule) == ("geese", "1", "b", "0", "n-gram")
    assert hit.ngram == "twelve grey geese crossed the frozen river while nobody at the old mill"
    warned, again = clean(task, guard, "warn")
    assert warned is task
    assert again == hits
    assert clean(task, guard, "off") == (task, [])
    with pytest.raises(ValueError, match="drop, warn, off"):
        clean(task, guard, "delete")


def test_a_clean_task_is_handed_back_untouched() -> None:
    task = task_of("fine")
    assert clean(task, guard_of(SECRET), "drop")[0] is task


def test_the_rest_of_a_lazy_task_stays_lazy_and_sliceable() -> None:
    made = []

    @dataclass(frozen=True)
    class Lazy(Sequence[Example]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index):
            made.append(index)
            return [Example(str(i), SECRET if i == 1 else "fine", ("yes",)) for i in range(5)][index]

    rest, _ = clean(replace(task_of(), examples=Lazy()), guard_of(SECRET), "drop")
    made.clear()
    assert len(rest.examples) == 4
    assert made == []
    assert [example.id for example in rest.examples[1:3]] == ["2", "3"]
    assert rest.examples[-1].id == "4"


@pytest.mark.parametrize(("items", "found"), [(BOILERPLATE_ITEMS, True), (BOILERPLATE_ITEMS + 1, False)])
def test_what_more_than_ten_items_share_is_boilerplate(items: int, found: bool) -> None:
    texts = [f"{SECRET} number {chr(97 + i) * 3} of the long series of stories" for i in range(items)]
    guard = guard_of(*texts)
    assert dropped(task_of(SECRET), guard) == (["0"] if found else [])
    assert dropped(task_of(texts[3]), guard) == ["0"]


def test_boilerplate_is_counted_in_items_of_one_benchmark() -> None:
    texts = [BenchmarkText("b", "only", str(i), f"{SECRET} {i}") for i in range(20)]
    texts += [BenchmarkText(f"b{i}", "0", "text", SECRET) for i in range(20)]
    assert len(Guard.build(texts).matches([SECRET], [0])) == 21


def test_a_short_text_counts_where_it_fills_a_sentence_next_to_its_answer() -> None:
    guard = guard_of(SHORT, answers=("Ada Byrd", "Ada"))
    sentence, inside = f'He asked: "{SHORT}"', "I know who painted the yellow lighthouse in 1907"
    assert dropped(task_of(f"{sentence} Ada.", sentence, f"{inside}: Ada", "Ada"), guard) == ["0"]
    answered = replace(task_of(), examples=[Example("x", SHORT, ("ADA BYRD",))])
    assert dropped(answered, guard) == ["x"]


def test_a_short_text_without_answers_counts_alone_and_one_of_four_words_never() -> None:
    assert dropped(task_of(f"Question: {SHORT}"), guard_of(SHORT)) == ["0"]
    assert dropped(task_of("Who painted the lighthouse?"), guard_of("Who painted the lighthouse?")) == []


def test_scripts_without_spaces_are_compared_in_26_characters() -> None:
    japanese = "昨日の夜に灰色の雁が十二羽凍った川を渡ったが古い水車小屋では誰も見ていなかった"
    guard = guard_of(japanese + "という話を祖母から聞いた")
    assert dropped(task_of(f"問題。{japanese[:26]}", f"問題。{japanese[:25]}"), guard) == ["0"]


def test_an_overlap_may_end_in_a_list_of_options_but_not_begin_there() -> None:
    listed = "(A) I only (B) II only (C) I and II only (D) I and III only"
    text = BenchmarkText("mmlu", "0", "question", "Which ideals are maximal", ("I only",), tail=listed)
    guard = Guard.build([text])
    assert dropped(task_of(f"Which numbers are prime? {listed}"), guard) == []
    assert dropped(task_of(f"Which ideals are maximal? {listed}"), guard) == ["0"]


@pytest.mark.parametrize(
    ("name", "dataset", "benchmark"),
    [
        ("hendrycks_test-anatomy", "", "mmlu"),
        ("my_MMLU_copy", "", "mmlu"),
        ("qa", "measuring_massive_multitask_language_understanding", "mmlu"),
        ("bigbench:navigate", "", "bbh"),
        ("snarks", "", "bbh"),
        ("qa", "bbh/word_sorting", "bbh"),
        ("mgsm_en", "", "mgsm"),
        ("tydiqa-goldp", "", "tydiqa"),
        ("gsm8k_test", "", "gsm8k"),
        ("gsm8k_train", "gsm8k", None),
        ("navigate_web_pages", "", None),
        ("task062_bigbench_repeat_copy_logic", "bigbench", None),
    ],
)
def test_tasks_named_like_a_benchmark_are_copies(name: str, dataset: str, benchmark: str | None) -> None:
    task = task_of("a", "b", name=name, dataset=dataset)
    hit = copy_of_benchmark(task)
    assert (hit and hit.benchmark) == benchmark
    if hit:
        rest, hits = clean(task, guard_of(SECRET), "drop")
        assert (len(rest.examples), hits, hit.examples, hit.rule) == (0, [hit], 2, "name")


def test_niv2_copies_of_mmlu_are_known_by_number() -> None:
    copies = [n for n in range(2000) if copy_of_benchmark(task_of("a", name=f"task{n:03}_x", collection="niv2"))]
    assert copies == [*range(664, 668), *range(685, 738)]
    assert copy_of_benchmark(task_of("a", name="task664_x", collection="jsonl")) is None


def test_no_task_of_the_papers_catalogue_is_named_like_a_benchmark() -> None:
    rows = read_catalog()
    assert len(rows) > 1800
    named = [row.task for row in rows if copy_of_benchmark(task_of(name=row.task, dataset=row.dataset))]
    assert named == []


def test_the_fingerprint_follows_texts_and_rules_and_not_their_order() -> None:
    texts = [BenchmarkText("b", str(i), "text", text) for i, text in enumerate((SECRET, SHORT))]
    known = Guard.build(texts).fingerprint
    assert known == Guard.build(texts[::-1]).fingerprint == fingerprint(texts)
    others = {Guard.build(texts[:1]).fingerprint, Guard.build(texts, words=8).fingerprint, known}
    assert len(others) == 3
    assert len(known) == 16


def test_a_guard_travels_to_worker_processes() -> None:
    guard = pickle.loads(pickle.dumps(guard_of(SECRET)))
    assert dropped(task_of(SECRET), guard) == ["0"]


def test_the_report_counts_examples_by_benchmark_and_task() -> None:
    guard = guard_of(SECRET)
    hits = clean(task_of(SECRET, SECRET), guard, "drop")[1] + clean(task_of("a", name="mgsm"), guard, "drop")[1]
    lines = report_lines(hits)
    assert lines[0] == "b: 2 training examples; tasks: 1"
    assert lines[1].split() == ["2", "n-gram", "jsonl/geese"]
    assert lines[3].split() == ["1", "name", "jsonl/mgsm"]
    assert json.loads(json.dumps(report_rows(hits)))[0]["item"] == "0"
    assert report_lines([]) == ["no training example overlaps with a benchmark"]


def test_benchmarks_are_read_from_ones_own_text_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(f"{SHORT}\n\n{SECRET}\n")
    (tmp_path / "other.jsonl").write_text('{"q": "one", "parts": [{"a": "two"}], "n": 3}\n')
    texts = [(text.benchmark, text.item, text.text) for text in load_benchmarks(tmp_path)]
    assert texts == [
        ("mine", "line 1", SHORT),
        ("mine", "line 3", SECRET),
        ("other", "line 1", "one"),
        ("other", "line 1", "two"),
    ]


def test_gsm8k_train_is_never_taken_for_a_benchmark(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    row = json.dumps({"question": SECRET, "answer": "It is so.\n#### 4"})
    (tmp_path / "gsm8k" / "train.jsonl").write_text(row)
    with pytest.raises(DataError, match=r"gsm8k: no benchmark file there; expected test.jsonl"):
        load_benchmarks(tmp_path)
    (tmp_path / "gsm8k" / "test.jsonl").write_text(row)
    assert [text.piece for text in load_benchmarks(tmp_path)] == ["question", "solution"]


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("mmlu/test/law_test.csv", "q,a,b,c,d,A\nq,a,b,c,A\n", r"law_test.csv:2: expected question, four options"),
        ("mgsm/mgsm_en.tsv", "q\t1\nno number\n", r"mgsm_en.tsv:2: expected question, tab, number"),
        ("bbh/bbh/navigate.json", '{"examples": [{"input": "q", "target": 1}]}', r"navigate.json: expected .*no text"),
        ("gsm8k/test.jsonl", '{"question": "q"}\n', r"test.jsonl:1: expected question and answer .*'answer'"),
        ("gsm8k/test.jsonl", "{\n", r"test.jsonl:1: not JSON"),
        ("tydiqa/dev/x_tydiqa_dev.json", '{"data": [{}]}', r"x_tydiqa_dev.json: expected SQuAD form"),
        ("nothing.csv", "", r"no benchmark there; expected one of mmlu, bbh"),
    ],
)
def test_a_malformed_benchmark_is_one_clear_line(tmp_path: Path, path: str, content: str, told: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(content)
    with pytest.raises(DataError, match=told) as error:
        load_benchmarks(tmp_path)
    assert "\n" not in str(error.value)


@lru_cache(maxsize=1)
def real_guard(folder: Path) -> Guard:
    return Guard.build(load_benchmarks(folder))


@pytest.mark.data
def test_every_example_of_the_57_copies_of_mmlu_is_found_by_its_text_alone(shared_data: Path) -> None:
    guard, niv2 = real_guard(shared_data), Niv2(shared_data / "niv2", "default", 1_000_000)
    copies = [name for name in niv2.files if "mmmlu" in name]
    assert len(copies) == 57
    for name in copies:
        task = niv2.task(name)
        assert copy_of_benchmark(task), name
        rest, hits = clean(replace(task, name="in_disguise", dataset=""), guard, "drop")
        assert len(rest.examples) == 0, name
        assert {hit.benchmark for hit in hits if hit.examples} >= {"mmlu"}


@pytest.mark.data
def test_nearly_every_item_of_every_benchmark_can_be_found(shared_data: Path) -> None:
    coverage = real_guard(shared_data).coverage()
    for benchmark in ("mmlu", "mgsm", "gsm8k", "open_ended"):
        items, found = coverage[benchmark]
        assert found == items > 0
    assert coverage["bbh"][0] - coverage["bbh"][1] == 251  # dyck_languages is all brackets; "not True and True is"
    assert coverage["tydiqa"][1] / coverage["tydiqa"][0] > 0.96  # questions of four words, context under another


@pytest.mark.data
def test_a_tenth_of_all_items_planted_in_capitals_is_found(shared_data: Path) -> None:
    guard = real_guard(shared_data)
    for benchmark, share in {
        "mmlu": 0.998,
        "bbh": 0.94,
        "mgsm": 1,
        "tydiqa": 0.96,
        "gsm8k": 1,
        "open_ended": 1,
    }.items():
        texts = [text for text in guard.texts if text.benchmark == benchmark]
        items = sorted({text.item for text in texts})[::10]
        shown = dict.fromkeys(items, "Solve this.")
        for text in texts:
            if text.item in shown:
                shown[text.item] += "\n".join(["", text.full.upper(), *text.answers])
        found = {match.owner for match in guard.matches(list(shown.values()), range(len(items)))}
        assert len(found) >= share * len(items), (benchmark, len(found), len(items))


@pytest.mark.data
def test_english_mgsm_is_found_in_the_test_split_of_gsm8k(shared_data: Path) -> None:
    texts = load_benchmarks(shared_data)
    gsm8k = Guard.build(text for text in texts if text.benchmark == "gsm8k")
    english = [text.text for text in texts if text.benchmark == "mgsm" and text.item.startswith("en/")]
    german = [text.text for text in texts if text.benchmark == "mgsm" and text.item.startswith("de/")]
    assert len(gsm8k.matches(english, range(250))) == 250
    assert len(gsm8k.matches(german, range(250))) == 0


@pytest.mark.data
def test_the_train_split_of_gsm8k_stays_in_training(shared_data: Path) -> None:
    cot = Cot(shared_data / "cot", 1_000_000)
    name = next(name for name in cot.files if "gsm8k" in name)
    task = cot.task(name)
    rest, hits = clean(task, real_guard(shared_data), "drop")
    assert len(task.examples) == 7_473
    assert len(rest.examples) >= 7_460  # seven: three problems told again with other numbers, four stock phrases
    assert {hit.benchmark for hit in hits} <= {"gsm8k", "mgsm"}
