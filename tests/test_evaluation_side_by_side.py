"""Side by side: a sheet that tells raters nothing of whose answer is whose, and judgements that find their way back."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.preference import win_rates
from flanscale.evaluation.records import Record, Sample
from flanscale.evaluation.side_by_side import Contender, Sheet, read_judgements, write_sheet

HOSTILE = (
    """</div></form></script><script>document.title="owned"</script><img src=x onerror=alert(1)>" onclick='x' &amp;"""
)
PROMPTS = {f"hash-{key}": f"What is {key}?" for key in map(str, range(40))}
CHROMIUM = shutil.which("chromium")


def record(key: str, *texts: str, prompt_hash: str | None = None, subtask: str = "", cluster: str = "") -> Record:
    samples = tuple(Sample(text, text or None, 9, True, -20.0 - place) for place, text in enumerate(texts))
    status, answer = ("answered", texts[0]) if texts else ("skipped", None)
    asked = prompt_hash or f"hash-{key}"
    return Record(key, subtask, cluster, asked, 9, 0, 0, status, None, answer, {}, samples)


def contender(model: str, keys: Sequence[str], **more: Any) -> Contender:
    return Contender(model, [record(key, f"{model} says {key}", **more) for key in keys])


def sheet_of(folder: Path, one: Contender, other: Contender, seed: int = 0) -> Sheet:
    return write_sheet(folder / "sheet", one, other, PROMPTS, seed)


def forty(folder: Path, seed: int = 0) -> Sheet:
    """Items 0…39; what a contender says of each names it, so that tests know whose it is."""
    keys = [str(key) for key in range(40)]
    return sheet_of(folder, contender("Ada", keys, subtask="odd"), contender("Bob", keys, subtask="odd"), seed)


def pairs(sheet: Sheet) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sheet.pairs.read_text().splitlines()]


def firsts(sheet: Sheet) -> dict[str, bool]:
    """By key, whether Ada's answer stands first."""
    return {pair["key"]: pair["answers"][0].startswith("Ada") for pair in pairs(sheet)}


class Page(HTMLParser):
    """What a browser would make of a sheet: its tags with their attributes, and the words of each text box."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.sources: dict[str, str] = {}
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if "text" in (dict(attrs).get("class") or "").split():
            self._inside = "text"
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "text":
            self.texts[-1] += data
        elif self._inside:
            self.sources[self._inside] = self.sources.get(self._inside, "") + data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]


def page(sheet: Sheet) -> Page:
    return Page(sheet.html.read_text(encoding="utf-8"))


# --- what raters see ------------------------------------------------------------------------------------------------


def test_every_item_shows_its_prompt_and_both_answers_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    assert sheet.items == len(pairs(sheet)) == 40
    assert page(sheet).texts == [text for pair in pairs(sheet) for text in (pair["prompt"], *pair["answers"])]
    assert [form["data-key"] for form in page(sheet).all("form")] == [pair["key"] for pair in pairs(sheet)]


def test_every_item_can_be_won_by_either_or_tied_and_each_answer_failed(tmp_path: Path) -> None:
    found = page(forty(tmp_path))
    for better in ("1", "2", "tie"):
        assert len(found.all("input", type="radio", name="better", value=better)) == 40
    for failed in ("1", "2"):
        assert len(found.all("input", type="checkbox", name="failed", value=failed)) == 40


def test_what_raters_get_is_the_same_whoever_wrote_it_and_however_it_was_drawn(tmp_path: Path) -> None:
    """But for the sheet's id: were there a trace of the models, the seed or the order, these would differ."""

    ids = set()

    def seen(folder: str, one: str, other: str, seed: int) -> list[str]:
        records = [record(str(key), f"one says {key}") for key in range(40)]
        sheet = sheet_of(tmp_path / folder, Contender(one, records), Contender(other, records), seed)
        ids.add(name := pairs(sheet)[0]["sheet"])
        return [path.read_text().replace(name, "ID") for path in (sheet.html, sheet.pairs)]

    first = seen("a", "Ada", "Bob", 0)
    assert seen("b", "Bob", "Ada", 0) == first
    assert seen("c", "Ada", "Bob", 1) == first
    assert seen("d", "Cy", "Dee", 2) == first
    assert len(ids) == 4, "a key fits its own sheet alone"


def test_the_key_alone_tells_whose_answer_stands_first(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    key = json.loads(sheet.key.read_text())
    assert (key["one"], key["other"]) == ("Ada", "Bob")
    assert {name: item["first"] == 0 for name, item in key["items"].items()} == firsts(sheet)


def test_the_order_is_a_fair_coin_of_seed_and_key_alone(tmp_path: Path) -> None:
    found = firsts(forty(tmp_path))
    assert 10 <= sum(found.values()) <= 30
    assert firsts(forty(tmp_path)) == found
    assert firsts(forty(tmp_path, seed=1)) != found
    some = ["7", "3", "21"]
    assert firsts(sheet_of(tmp_path, contender("Ada", some), contender("Bob", some))) == {
        key: found[key] for key in some
    }


def test_the_sample_that_the_paper_would_show_is_shown(tmp_path: Path) -> None:
    texts = [("worse", -30.0), ("repeats", -2.0), ("best", -18.0), ("middle", -20.0)]
    samples = tuple(Sample(text, text, 9, True, logprob) for text, logprob in texts)
    several = Record("1", "", "", "hash-1", 9, 0, 0, "answered", None, "worse", {}, samples)
    sheet = sheet_of(tmp_path, Contender("Ada", [several]), contender("Bob", ["1"]))
    assert sorted(pairs(sheet)[0]["answers"]) == ["Bob says 1", "best"]


def test_texts_of_models_and_benchmarks_are_text_and_never_page(tmp_path: Path) -> None:
    key = f'"{HOSTILE}'
    one, other = (Contender(name, [record(key, HOSTILE, prompt_hash="hash")]) for name in ("Ada", "Bob"))
    sheet = write_sheet(tmp_path / "sheet", one, other, {"hash": HOSTILE}, seed=0)
    harmless = page(forty(tmp_path / "harmless"))
    found = page(sheet)
    assert found.texts == [HOSTILE] * 3
    assert [form["data-key"] for form in found.all("form")] == [key]
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in harmless.tags}
    assert len(found.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_the_page_reaches_for_nothing_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    found = page(sheet)
    assert not any({"src", "href", "action"} & set(attributes) for _, attributes in found.tags)
    assert "://" not in sheet.html.read_text()
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"] or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found.sources[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_half_a_character_and_no_words_can_be_shown(tmp_path: Path) -> None:
    one, other = Contender("Ada", [record("1", "a \ud83d b")]), Contender("Bob", [record("1", "  ")])
    assert sorted(pairs(sheet_of(tmp_path, one, other))[0]["answers"]) == ["", "a ? b"]


# --- what cannot be compared ----------------------------------------------------------------------------------------


def test_items_without_an_answer_of_both_are_left_out_and_counted(tmp_path: Path) -> None:
    one = Contender("Ada", [record("1", "a"), record("2"), record("3", "c")])
    other = Contender("Bob", [record("3", "c"), record("1", "a"), record("2", "b")])
    sheet = sheet_of(tmp_path, one, other)
    assert [pair["key"] for pair in pairs(sheet)] == ["1", "3"]
    assert (sheet.items, sheet.left_out) == (2, 1)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            Contender("Bob", [record("1", "a"), record("2", "b", prompt_hash="x"), record("3", "c", prompt_hash="y")]),
            "Ada and Bob: 2 of 3 items had another prompt, the first is 2; ask both in the same setting and version",
        ),
        (
            contender("Bob", ["1", "4"]),
            "Ada and Bob: 3 items were asked of one of them only, the first is 2",
        ),
        (contender("Ada", ["1", "2", "3"]), "Ada: both models have this name; give them two"),
        (
            Contender("Bob", [record("1"), record("2"), record("3")]),
            "Ada and Bob: no item has an answer of both, so there is nothing to judge",
        ),
    ],
)
def test_what_was_not_asked_alike_is_refused_in_one_line(tmp_path: Path, other: Contender, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        sheet_of(tmp_path, contender("Ada", ["1", "2", "3"]), other)
    assert str(refused.value) == says
    assert not list(tmp_path.iterdir())


def test_a_prompt_that_is_not_at_hand_is_refused(tmp_path: Path) -> None:
    gone = {"prompt_hash": "gone"}
    with pytest.raises(ConfigError, match=r"^1: its prompt is not at hand"):
        sheet_of(tmp_path, contender("Ada", ["1"], **gone), contender("Bob", ["1"], **gone))


# --- what comes back ------------------------------------------------------------------------------------------------


def saved(sheet: Sheet, name: str, lines: Sequence[dict[str, Any]]) -> Path:
    """A file as the page saves it; what a line does not say is that Ann sees a tie."""
    usual = {"sheet": pairs(sheet)[0]["sheet"], "rater": "Ann", "better": "tie", "failed": []}
    path = sheet.html.with_name(name)
    path.write_text("".join(f"{json.dumps({**usual, **line})}\n" for line in lines))
    return path


def better(sheet: Sheet, model: str, key: str) -> str:
    """The place of a model's answer."""
    return "1" if firsts(sheet)[key] == (model == "Ada") else "2"


def test_judgements_count_for_the_model_whatever_its_place(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    lines = [{"key": key, "better": better(sheet, "Ada", key)} for key in map(str, range(30))]
    lines += [{"key": "30", "better": better(sheet, "Bob", "30")}, {"key": "31"}]
    judged = read_judgements([saved(sheet, "ann.jsonl", lines)], sheet.key)
    assert (judged.models, judged.items) == (("Ada", "Bob"), 40)
    found = win_rates(judged.judgements)[0]
    assert (found.wins, found.losses, found.ties) == (30, 1, 1)


def test_failures_count_for_the_model_whatever_its_place(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    lines = [{"key": key, "failed": [better(sheet, "Bob", key)]} for key in map(str, range(40))]
    assert win_rates(read_judgements([saved(sheet, "ann.jsonl", lines)], sheet.key).judgements)[0].failed == (0, 100)


def test_a_judgement_knows_its_items_subtask_and_cluster(tmp_path: Path) -> None:
    known = {"subtask": "plans", "cluster": "task_1"}
    sheet = sheet_of(tmp_path, contender("Ada", ["1"], **known), contender("Bob", ["1"], **known))
    (found,) = read_judgements([saved(sheet, "ann.jsonl", [{"key": "1"}])], sheet.key).judgements
    assert (found.key, found.subtask, found.cluster, found.rater) == ("1", "plans", "task_1", "Ann")


def test_a_rater_may_change_their_mind_and_others_may_differ(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    early = saved(sheet, "early.jsonl", [{"key": "1", "better": better(sheet, "Ada", "1")}, {"key": "2"}])
    late = saved(sheet, "late.jsonl", [{"key": "1"}, {"key": "1", "rater": "Cy"}])
    found = read_judgements([early, late], sheet.key).judgements
    assert {(each.key, each.rater): each.points for each in found} == {
        ("1", "Ann"): 0.5,
        ("2", "Ann"): 0.5,
        ("1", "Cy"): 0.5,
    }


def test_raters_without_a_name_are_told_apart_by_their_files(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    files = [saved(sheet, name, [{"key": "1", "rater": " "}]) for name in ("a.jsonl", "b.jsonl")]
    assert len(read_judgements(files, sheet.key).judgements) == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"key": "1", "sheet": "other"}, "of sheet other, but .*sheet.key.json is the key of"),
        ({"key": "99"}, "99 is no item of the sheet"),
        ({"key": "1", "better": "3"}, "better is '3'; expected 1, 2 or tie"),
        ({"key": "1", "better": ["1"]}, "expected a judgement with sheet, rater, key, better and failed"),
        ({"key": "1", "failed": None}, "expected a judgement with sheet, rater, key, better and failed"),
        ({}, "expected a judgement with sheet, rater, key, better and failed"),
    ],
)
def test_a_line_that_is_no_judgement_of_the_sheet_is_named(tmp_path: Path, line: dict[str, Any], says: str) -> None:
    sheet = forty(tmp_path)
    path = saved(sheet, "ann.jsonl", [{"key": "0"}, line])
    with pytest.raises(DataError, match=rf"ann\.jsonl:2: {says}"):
        read_judgements([path], sheet.key)


def test_a_sheet_of_other_answers_or_another_order_takes_no_judgements_of_this_one(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    old = saved(sheet, "ann.jsonl", [{"key": "1"}])
    with pytest.raises(DataError, match="is the key of"):
        read_judgements([old], forty(tmp_path / "again", seed=1).key)
    assert read_judgements([old], forty(tmp_path / "same").key).judgements


def test_another_file_than_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my.json").write_text("{}")
    with pytest.raises(DataError, match=r"my\.json: expected the key of a sheet"):
        read_judgements([], tmp_path / "my.json")


# --- in a browser ---------------------------------------------------------------------------------------------------

RATER = """
const typed = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
document.getElementById("rater").value = "Ann";
URL.createObjectURL = (blob) => { blob.text().then((text) => { document.title = text; }); return "#"; };
typed("1"); typed("n"); typed("t"); typed("n"); typed("n"); typed("p"); typed("1"); typed("2");
document.querySelectorAll(".item:not([hidden]) [name=failed]")[0].click();
document.getElementById("save").click();
"""


def browsed(html: Path) -> str:
    """The page as Chromium has it after its scripts."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={html.parent / 'profile'}"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=3000", "--dump-dom", html.as_uri()]
    quiet = {**os.environ, "HOME": str(html.parent)}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=quiet).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_keys_of_a_rater_become_a_file_that_is_read(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    html = re.sub("<meta http-equiv.*", "", sheet.html.read_text()).replace(
        "</body>", f"<script>{RATER}</script></body>"
    )
    sheet.html.write_text(html)
    dom = browsed(sheet.html)
    assert "3 of 40 judged" in dom
    (tmp_path / "ann.jsonl").write_text(re.findall("<title>(.*?)</title>", dom, re.DOTALL)[0])
    found = read_judgements([tmp_path / "ann.jsonl"], sheet.key).judgements
    first = firsts(sheet)
    assert [(each.rater, each.key) for each in found] == [("Ann", "0"), ("Ann", "1"), ("Ann", "2")]
    assert [each.points for each in found] == [float(first["0"]), 0.5, float(not first["2"])]
    assert found[2].failed == ((True, False) if first["2"] else (False, True))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_runs_the_sheets_script_under_its_policy_and_no_models(tmp_path: Path) -> None:
    one, other = (Contender(name, [record("1", HOSTILE), record("2", "b")]) for name in ("Ada", "Bob"))
    dom = browsed(sheet_of(tmp_path, one, other).html)
    assert dom.count('autocomplete="off" hidden=""') == 1, "one of two items is shown at a time"
    assert "<title>Which answer is better?</title>" in dom


def test_files_in_which_nobody_has_judged_are_one_clear_line(tmp_path: Path) -> None:
    sheet = forty(tmp_path)
    with pytest.raises(DataError, match="no judgement in it"):
        read_judgements([saved(sheet, "empty.jsonl", [])], sheet.key)
