"""Muffin from the Hub: the columns of each dataset's Parquet files become the fields that FLAN's templates name."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import DataError
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.muffin import FORMS, Muffin
from flanscale.tasks.muffin_table import HUB_FORMS, NOT_ON_THE_HUB
from flanscale.tasks.task import Example, Skips

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@dataclass(frozen=True)
class Case:
    """A row as its dataset card shows it, and what it becomes."""

    row: Mapping[str, Any]
    fields: Mapping[str, str]
    """Without those that are the row's own under the same name, and without the answer."""
    answer: str
    options: Sequence[str] = ()


PAIR = {"sentence1": "He ran.", "sentence2": "He sat.", "idx": 0}
NLI = {"premise": "He ran.", "hypothesis": "He moved."}
NLI_OPTIONS = ("yes", "it is not possible to tell", "no")
PARA = {"translation": {"en": "It rains, Ann.", "da": "Det regner.", "es": "Llueve, Ann."}}
KEYED = {"choices": {"text": ["rain", "sun", "wind", "ice"], "label": ["A", "B", "C", "D"]}, "answerKey": "D"}
ARC = Case({"id": "1", "question": "What melts?"} | KEYED, {}, "ice", ("rain", "sun", "wind", "ice"))
ANLI = Case(
    {"uid": "1", "reason": ""} | NLI | {"label": 2},
    {"context": "He ran.", "hypothesis": "He moved."},
    "No",
    ("Yes", "It's impossible to say", "No"),
)
SUMMARY = Case({"document": "It rained all day.", "summary": "Rain."}, {"text": "It rained all day."}, "Rain.")


def wmt(code: str, name: str) -> Case:
    both = {"lang1": "English", "lang2": name, "sent1": "It rains."}
    return Case({"translation": {code: "xyz.", "en": "It rains."}}, both, "xyz.")


CASES = {
    "aeslc": Case({"email_body": "Dear all,\nno.", "subject_line": "No\n"}, {"body": "Dear all, no."}, "No"),
    "anli_r1": ANLI,
    "anli_r2": ANLI,
    "anli_r3": ANLI,
    "arc_challenge": ARC,
    "arc_easy": ARC,
    "cnn_dailymail": Case(
        {"article": "LONDON (CNN) -- It rained .", "highlights": "Rain .\nMore .", "id": "1"},
        {"text": "It rained ."},
        "Rain. More.",
    ),
    "common_gen": Case(
        {"concept_set_idx": 0, "concepts": ["ski", "hill"], "target": "Ski down the hill."},
        {"concepts": "ski, hill", "concepts_newline": "ski\nhill"},
        "Ski down the hill.",
    ),
    "coqa": Case(
        {"source": "w", "story": "It rained.", "questions": ["What?", "When?"]}
        | {"answers": {"input_text": ["rain", "now"], "answer_start": [0, 1], "answer_end": [1, 2]}},
        {"text": "It rained.", "numbered_questions": "1. What?\n2. When?"},
        "1. rain\n2. now",
    ),
    "cosmos_qa": Case(
        {"id": "1", "context": "It rained.", "question": "Then?", "label": 1}
        | {"answer0": "Dry.", "answer1": "Wet.", "answer2": "Hot.", "answer3": "None."},
        {},
        "Wet.",
        ("Dry.", "Wet.", "Hot.", "None."),
    ),
    "definite_pronoun_resolution": Case(
        {"sentence": "Ann saw Eve; she waved.", "pronoun": "she", "candidates": ["Ann", "Eve"], "label": 1},
        {},
        "Eve",
        ("Ann", "Eve"),
    ),
    "drop": Case(
        {"section_id": "s", "query_id": "q", "passage": "Two, then one.", "question": "Who?"}
        | {"answers_spans": {"spans": ["Ann", "Eve"], "types": ["span", "span"]}},
        {"context": "Two, then one."},
        "Ann, Eve",
    ),
    "fix_punct": Case(PARA, {"no_punct": "It rains Ann"}, "It rains, Ann."),
    "gigaword": SUMMARY,
    "glue_mrpc": Case(PAIR | {"label": 1}, {}, "yes", ("no", "yes")),
    "hellaswag": Case(
        {
            "ind": 1,
            "activity_label": "a",
            "ctx_a": "x",
            "ctx_b": "y",
            "ctx": "[header] How to [title] Run. [step] First",
        }
        | {"endings": ["go.", "[substeps] stop.", "sit.", "lie."], "label": "1"},
        {"context": "How to \nRun. \nFirst"},
        "stop.",
        ("go.", "stop.", "sit.", "lie."),
    ),
    "lambada": Case(
        {"text": "it was raining in the street", "domain": "x"}, {"sentence": "it was raining in the"}, "street"
    ),
    "math_dataset": Case(
        {"question": "b'Solve 2*r = 4 for r.\\n'", "answer": "b'2\\n'"}, {"question": "Solve 2*r = 4 for r."}, "2"
    ),
    "mnli_mismatched": Case(NLI | {"label": 1, "idx": 0}, {}, "it is not possible to tell", NLI_OPTIONS),
    "multi_news": SUMMARY,
    "natural_questions": Case(
        {"question": "who rains", "answer": ["No one", "none"]}, {"question": "who rains?"}, "No one"
    ),
    "openbookqa": Case(
        {"id": "1", "question_stem": "What melts?", "fact1": "ice melts", "clarity": 1.0} | KEYED,
        {"question": "What melts?", "fact": "ice melts"},
        "ice",
        ("rain", "sun", "wind", "ice"),
    ),
    "para_crawl_enes": Case(PARA, {"lang1": "English", "lang2": "Spanish", "sent1": "It rains, Ann."}, "Llueve, Ann."),
    "paws_wiki": Case({"id": 1} | PAIR | {"label": 0}, {}, "no", ("no", "yes")),
    "piqa": Case({"goal": "Dry it", "sol1": "Towel.", "sol2": "Rain.", "label": 0}, {}, "Towel.", ("Towel.", "Rain.")),
    "qnli": Case({"question": "What?", "sentence": "Rain.", "label": 1, "idx": 0}, {}, "no", ("yes", "no")),
    "quac": Case(
        {"dialogue_id": "d", "wikipedia_page_title": "Rain", "background": "Wet.", "section_title": "s"}
        | {"context": "It falls. CANNOTANSWER", "turn_ids": ["1", "2"], "questions": ["What?", "Why?"]}
        | {"orig_answers": {"texts": ["It falls.", "CANNOTANSWER"], "answer_starts": [0, 10]}},
        {"title": "Rain", "background": "Wet.", "context": "It falls.", "question": "What?"},
        "It falls.",
    ),
    "record": Case(
        {
            "passage": "Ann met Eve.\n@highlight\nThey met",
            "query": "It was @placeholder who came",
            "entities": ["Ann", "Eve"],
        }
        | {"answers": ["Eve"], "idx": {"passage": 0, "query": 0}},
        {"passage": "Ann met Eve.", "query": "It was", "options_str": "OPTIONS:\n- Ann who came\n- Eve who came"},
        "Eve who came",
    ),
    "samsum": Case(
        {"id": "1", "dialogue": "Ann: Hi\r\nEve: <file_photo>", "summary": "They chat."},
        {"dialogue": "Ann: Hi\nEve:"},
        "They chat.",
    ),
    "sentiment140": Case(
        {"text": "rain again", "date": "d", "user": "u", "sentiment": 4, "query": "q"},
        {},
        "positive",
        ("negative", "positive"),
    ),
    "snli": Case(NLI | {"label": 0}, {}, "yes", NLI_OPTIONS),
    "squad_v1": Case(
        {"id": "1", "title": "The_rain", "context": "It fell.", "question": "What did?"}
        | {"answers": {"text": ["It", "it"], "answer_start": [0, 0]}},
        {"title": "The rain"},
        "It",
    ),
    "squad_v2": Case(
        {"id": "1", "title": "The_rain", "context": "It fell.", "question": "Why?"}
        | {"answers": {"text": [], "answer_start": []}},
        {"title": "The rain"},
        "unanswerable",
    ),
    "stsb": Case(PAIR | {"label": 3.8}, {}, "4", tuple("012345")),
    "trec": Case(
        {"text": "Who ?", "coarse_label": 3, "fine_label": 28},
        {},
        "human",
        ("abbreviation", "entity", "description", "human", "location", "numeric"),
    ),
    "trivia_qa": Case(
        {"question": "Who?", "question_id": "q"}
        | {
            "answer": {
                "aliases": ["A"],
                "normalized_aliases": ["ann", "anne"],
                "value": "Ann",
                "normalized_value": "ann",
            }
        },
        {},
        "ann",
    ),
    "true_case": Case(PARA, {"lower": "it rains, ann."}, "It rains, Ann."),
    "web_nlg_en": Case(
        {
            "gem_id": "g",
            "input": ["New_York | country | USA", "A | b | c"],
            "target": "New York is there.",
            "references": [],
        },
        {"input_string": "New York, country, USA; A, b, c"},
        "New York is there.",
    ),
    "wiki_lingua_english_en": Case({"gem_id": "g", "source": "Long text.", "target": "Text."}, {}, "Text."),
    "winogrande": Case(
        {"sentence": "Ann thanked Eve as _ helped.", "option1": "Ann", "option2": "Eve", "answer": "2"},
        {"context": "Ann thanked Eve as"},
        "Eve helped.",
        ("Ann helped.", "Eve helped."),
    ),
    "wmt14_enfr": wmt("fr", "French"),
    "wmt16_translate_csen": wmt("cs", "Czech"),
    "wmt16_translate_deen": wmt("de", "German"),
    "wmt16_translate_fien": wmt("fi", "Finnish"),
    "wmt16_translate_roen": wmt("ro", "Romanian"),
    "wmt16_translate_ruen": wmt("ru", "Russian"),
    "wmt16_translate_tren": wmt("tr", "Turkish"),
    "wnli": Case(PAIR | {"label": 0}, {}, "no", ("no", "yes")),
    "word_segment": Case(PARA, {"no_space": "Itrains,Ann."}, "It rains, Ann."),
    "wsc": Case(
        {"text": "Ann saw Eve when she, tired, sat.", "span1_index": 0, "span2_index": 4, "span1_text": "Ann"}
        | {"span2_text": "she", "idx": 0, "label": 1},
        {"context": "Ann saw Eve when *she*, tired, sat.", "text1": "Ann", "text2": "she"},
        "yes",
        ("no", "yes"),
    ),
    "xsum": Case({"document": "It rained.", "summary": "Rain.", "id": "1"}, {"text": "It rained."}, "Rain."),
    "yelp_polarity_reviews": Case(
        {"text": 'So \\""good\\"".\\nYes', "label": 1}, {"text": 'So "good". Yes'}, "positive", ("negative", "positive")
    ),
}


def write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], file: str = "0000.parquet") -> None:
    form = HUB_FORMS[name]
    path = folder / "hub" / form.repository / form.config / form.split / file
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), path)


def examples(folder: Path, name: str, limit: int = 100, skips: Skips | None = None) -> list[Example]:
    return list(Muffin(folder, limit, skips or Skips()).task(name).examples)


@pytest.fixture
def from_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a tiny file serves those tasks too that begin far inside theirs."""
    from dataclasses import replace

    from flanscale.tasks import muffin

    monkeypatch.setattr(muffin, "HUB_FORMS", {name: replace(form, first_row=0) for name, form in HUB_FORMS.items()})


def test_every_dataset_of_muffin_is_read_or_says_why_not() -> None:
    ways = [set(FORMS), set(HUB_FORMS), set(NOT_ON_THE_HUB)]
    assert set.union(*ways) == set(catalogued("muffin"))
    assert sum(map(len, ways)) == COUNTS["muffin"]
    assert set(CASES) == set(HUB_FORMS)


@pytest.mark.usefixtures("from_the_first_row")
@pytest.mark.parametrize("name", HUB_FORMS)
def test_a_row_becomes_flans_fields_with_its_answer_and_options(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    write(tmp_path, name, [case.row])
    (example,) = examples(tmp_path, name)
    own = {key: case.row[key] for key in example.fields if key in case.row and key != HUB_FORMS[name].answer}
    assert example.fields == own | dict(case.fields) | {"answer": case.answer, HUB_FORMS[name].answer: case.answer}
    assert (example.target, example.options) == (case.answer, tuple(case.options))
    assert example.id == "1"
    for field in re.findall(r"{(\w+)}", HUB_FORMS[name].shown):
        assert example.fields[field] in example.input
    assert example.target in (*example.options, *example.references)


@pytest.mark.data
@pytest.mark.usefixtures("from_the_first_row")
@pytest.mark.parametrize("name", HUB_FORMS)
def test_every_field_that_flans_templates_name_is_there(tmp_path: Path, shared_data: Path, name: str) -> None:
    from flanscale.tasks.templates.flan import _ALIASES

    patterns = json.loads(gzip.decompress((shared_data / "flan" / "templates.json.gz").read_bytes()))["PATTERNS"]
    named = set(re.findall(r"{(\w+)}", json.dumps(patterns[_ALIASES.get(name, name)])))
    write(tmp_path, name, [CASES[name].row])
    (example,) = examples(tmp_path, name)
    assert named - {"options_"} <= example.fields.keys()
    assert bool(example.options) == ("options_" in named)
    assert {name: text for name, text in example.fields.items() if name in named and not text} == {}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("snli", {"label": -1}),
        ("gigaword", {"summary": "UNK rain"}),
        ("arc_easy", {"choices": {"text": ["rain", "sun"], "label": ["A", "B"]}, "answerKey": "A"}),
        ("hellaswag", {"label": ""}),
        ("xsum", {"document": ""}),
        ("aeslc", {"subject_line": "\n"}),
        ("true_case", {"translation": {"en": "all lower", "da": "x", "es": "x"}}),
    ],
)
def test_rows_that_flan_leaves_out_or_that_are_empty_are_no_examples(
    tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    row = dict(CASES[name].row)
    write(tmp_path, name, [row, row | change, row])
    assert [example.id for example in examples(tmp_path, name)] == ["1", "3"]


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("glue_mrpc", {"label": 2}, "class 2, expected a number from 0 to 1"),
        ("piqa", {"label": -1}, "class -1"),
        ("winogrande", {"sentence": "no hole"}, "not the columns of allenai/winogrande"),
        ("arc_easy", {"answerKey": "Z"}, "not the columns of allenai/ai2_arc"),
    ],
)
def test_a_bad_row_is_named_or_left_out_and_counted(
    tmp_path: Path, name: str, change: dict[str, Any], why: str
) -> None:
    row, skips = dict(CASES[name].row), Skips(allowed=True)
    write(tmp_path, name, [row, row | change, row])
    assert [example.id for example in examples(tmp_path, name, skips=skips)] == ["1", "3"]
    assert skips.total == 1
    with pytest.raises(DataError, match=rf"0000\.parquet:row 2: .*{re.escape(why)}"):
        examples(tmp_path, name)


def test_absent_columns_are_told_by_name(tmp_path: Path) -> None:
    write(tmp_path, "xsum", [{"article": "It rained.", "summary": "Rain."}])
    with pytest.raises(DataError, match=r"0000\.parquet:row 1: no 'document'"):
        examples(tmp_path, "xsum")


def test_several_files_are_one_task_up_to_its_limit(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, "xsum", [{"document": f"Day {number}.", "summary": "Rain."}] * 2, f"{number:04}.parquet")
    found = examples(tmp_path, "xsum", limit=5)
    assert [example.id for example in found] == ["1", "2", "1-1", "1-2", "2-1"]
    assert [example.input for example in found] == ["Day 0.", "Day 0.", "Day 1.", "Day 1.", "Day 2."]


def test_a_row_of_several_questions_gives_an_example_each(tmp_path: Path) -> None:
    row = dict(CASES["quac"].row) | {"orig_answers": {"texts": ["It falls.", "So."], "answer_starts": [0, 1]}}
    write(tmp_path, "quac", [row])
    assert [(example.id, example.target) for example in examples(tmp_path, "quac")] == [
        ("1.0", "It falls."),
        ("1.1", "So."),
    ]


def test_tasks_that_share_a_file_take_slices_of_it_that_do_not_meet(tmp_path: Path) -> None:
    texts = [f"Line {number}." for number in range(60_500)]
    write(tmp_path, "true_case", [{"translation": {"en": text, "da": "x"}} for text in texts])
    taken = [
        {example.target for example in examples(tmp_path, name, 30_000)}
        for name in ("true_case", "fix_punct", "word_segment")
    ]
    assert [len(one) for one in taken] == [30_000, 30_000, 100]
    assert not taken[0] & taken[1]
    assert not (taken[0] | taken[1]) & taken[2]


def test_other_right_answers_are_references(tmp_path: Path) -> None:
    write(tmp_path, "natural_questions", [CASES["natural_questions"].row])
    write(tmp_path, "trivia_qa", [CASES["trivia_qa"].row])
    assert examples(tmp_path, "natural_questions")[0].references == ("No one", "none")
    assert examples(tmp_path, "trivia_qa")[0].references == ("ann", "anne")


def test_only_the_training_split_is_read(tmp_path: Path) -> None:
    write(tmp_path, "xsum", [CASES["xsum"].row])
    (tmp_path / "hub/EdinburghNLP/xsum/default/train").rename(tmp_path / "hub/EdinburghNLP/xsum/default/test")
    muffin = Muffin(tmp_path, 10)
    assert muffin.groups == {"muffin": []}
    assert muffin.missing["xsum"].startswith(f"no Parquet files in {tmp_path}/hub/EdinburghNLP/xsum/default/train: ")
    (tmp_path / "hub/EdinburghNLP/xsum/default/test").rename(tmp_path / "hub/EdinburghNLP/xsum/default/partial-train")
    assert Muffin(tmp_path, 10).groups == {"muffin": ["xsum"]}


def test_what_is_nowhere_says_why_and_what_else_to_do(tmp_path: Path) -> None:
    muffin = Muffin(tmp_path, 10)
    for name in NOT_ON_THE_HUB:
        assert muffin.missing[name].startswith(NOT_ON_THE_HUB[name])
        assert "collection=rendered" in muffin.missing[name]


def test_the_content_of_every_file_is_in_the_fingerprint(tmp_path: Path) -> None:
    write(tmp_path, "xsum", [CASES["xsum"].row])
    before = Muffin(tmp_path, 10).fingerprint("xsum")
    write(tmp_path, "xsum", [CASES["xsum"].row], "0001.parquet")
    assert Muffin(tmp_path, 10).fingerprint("xsum") != before
