"""What figures and the report promise: what is drawn is listed, nothing is hidden, nothing breaks the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from report_page import charts_of
from rich.console import Console
from synthetic_study import AXES, write_study

from analysis import figures, panels, published, report, scaling, sources
from analysis.figures import CountAxis
from analysis.report import AnalysisError, Report
from flanscale.orchestration.running.provenance import record_attempt
from flanscale.orchestration.running.sources import COMMIT_VARIABLE, SNAPSHOT_VARIABLE

NIV2 = {"mixture.count": [8, 64, 512], "seed": [0, 1, 2]}
NIV2_SETTINGS = {"niv2_rouge_l": ["direct"]}


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A study with three points that have no score, and its report."""
    root = tmp_path_factory.mktemp("quickstart")
    index = write_study(root, states={5: "failed", 18: "missing", 19: "running"})
    return index, report.build(index, root / "reports")


def printed(built: Report, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(built.text)
    return console.export_text()


DAMAGE: dict[str, tuple[bytes | None, str]] = {  # None: cut short
    "state.json": (b"{}", "state.json cannot be read (KeyError: 'format')"),
    "state.json ": (b"[]", "state.json cannot be read (TypeError: "),
    "config.yaml": (b"model: [", "config.yaml cannot be read (ParserError: "),
    "metrics.jsonl": (b'{"step": 1}\n{"loss": 2}\n', "metrics.jsonl:2 cannot be read (KeyError: 'step')"),
    "provenance.json": (b'{"format": 2, "att', "provenance.json cannot be read (JSONDecodeError: "),
    "evaluations/suite-0/procedural.direct.jsonl.gz": (None, "direct.jsonl.gz cannot be read (EOFError: "),
    "evaluations/suite-0/result.json": (None, "result.json cannot be read (JSONDecodeError: "),
}


def test_damaged_runs_are_told_and_the_others_are_reported(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=AXES | {"model": ["nano"], "seed": [0]})
    runs_there = sorted((tmp_path / "runs").iterdir())
    for run, (name, (content, _)) in zip(runs_there, DAMAGE.items(), strict=False):
        file = run / name.strip()
        file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    built = report.build(index, tmp_path / "reports")
    text = Page(built.html.read_text()).text
    for run, (_, told) in zip(runs_there, DAMAGE.values(), strict=False):
        assert f"{run.name}/" in text
        assert told in text
    assert "Δ volume" in printed(built)


def test_the_commit_of_the_runs_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = write_study(tmp_path, axes=AXES | {"model": ["nano"]}, records=False)
    monkeypatch.setenv(SNAPSHOT_VARIABLE, "abcdef")
    monkeypatch.setenv(COMMIT_VARIABLE, "c0ffee")
    record_attempt(sorted((tmp_path / "runs").iterdir())[0], 1)
    assert "runs: commitc0ffee" in Page(report.build(index, tmp_path / "reports").html.read_text()).text


def test_the_csv_lists_every_mark_and_every_curve(quickstart: tuple[Path, Report]) -> None:
    index, built = quickstart
    drawn = pd.read_csv(built.csv)
    analysed = panels.analyse(sources.from_directories(index))
    assert set(drawn["kind"]) == {"run", "mean", "power_law"}
    for panel in analysed:
        rows = drawn[(drawn["benchmark"] == panel.benchmark) & (drawn["setting"] == panel.setting)]
        means = rows[rows["kind"] == "mean"]
        untouched = 2  # drawn once a size, though it serves two arms
        assert len(means[means["tasks"] == 0]) == untouched
        assert len(means[means["tasks"] > 0]) == len([mean for mean in panel.means if mean.count > 0])
        for mean in panel.means:
            if mean.count > 0:
                row = means[(means["curve"] == mean.curve.label) & (means["tasks"] == mean.count)].iloc[0]
                assert row["value"] == pytest.approx(mean.value, rel=1e-5)
                assert (row["low"], row["high"]) == pytest.approx(mean.interval, rel=1e-4)
        for curve, vertices in rows[rows["kind"] == "power_law"].groupby("curve"):
            tasks = vertices["tasks"].to_numpy()
            assert vertices["value"].to_numpy() == pytest.approx(
                panel.fits["power_law"].predict(str(curve), tasks), rel=1e-4
            )
            assert (vertices["low"] <= vertices["value"]).all()
            assert (vertices["value"] <= vertices["high"]).all()


def test_the_fits_beside_the_figure_are_complete_json(quickstart: tuple[Path, Report]) -> None:
    _, built = quickstart
    text = built.fits.read_text()
    assert "NaN" not in text
    for panel in json.loads(text):
        assert all(panel[name] for name in panel if name != "warnings")
        assert len(panel["cells"]) == 32 - 3
        assert set(panel["fits"]) == set(scaling.FORMS)
        assert {each["name"] for each in panel["fits"]["power_law"]["parameters"]} == {"a", "b", "c"}
        assert panel["runs_per_cell"] == [1, 2]
        assert len(panel["excluded"]["no score"]) == 3
        assert len(panel["excluded"]["not finetuned"]) == 4
        assert panel["comparison"]["verdict"] in ("preferred", "tied", "not identifiable")


def test_the_same_study_gives_the_same_bytes(quickstart: tuple[Path, Report], tmp_path: Path) -> None:
    index, built = quickstart
    again = report.build(index, tmp_path)
    for one, other in zip(vars(built).values(), vars(again).values(), strict=True):
        if isinstance(one, Path):
            files = sorted(one.iterdir()) if one.is_dir() else [one]
            assert files
            for file in files:
                assert file.read_bytes() == (other / file.relative_to(one)).read_bytes(), file.name


def test_what_is_missing_is_named(quickstart: tuple[Path, Report]) -> None:
    index, built = quickstart
    html = built.html.read_text()
    study = sources.from_directories(index)
    assert len(study.incomplete()) == 3
    for point, record in study.incomplete():
        assert point.cell in html
        assert f"<td>{record.state}</td>" in html
    assert "nonfinite_loss: not finite at step 50" in html
    assert "3 of 40 points have no score" in html
    assert "3 of 40 points have no score yet" in built.figure_svg.read_text()
    text = " ".join(printed(built).split())
    assert "* fewer runs than planned" in text
    assert "1 failed" in text
    assert "1 missing" in text


def test_the_terminal_table_fits_80_columns(quickstart: tuple[Path, Report]) -> None:
    text = printed(quickstart[1])
    assert "…" not in text
    [row] = [line for line in text.splitlines() if line.startswith(" micro   yes")][1:2]
    assert len(re.findall(r"\d+\.\d ± \d+\.\d", row)) == 5


class Page(HTMLParser):
    """Collects what a page would load, run, or leave open, and its text."""

    VOID = frozenset({"meta", "br", "img", "hr", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [
            value for name, value in attrs if name in ("src", "href", "xlink:href") and value and value[0] != "#"
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(quickstart: tuple[Path, Report]) -> None:
    html = quickstart[1].html.read_text()
    read = Page(html)
    assert read.open == []
    assert read.loaded == []
    assert {"svg", "table"} <= read.tags
    [policy] = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', html)
    scripts = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    named = [f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts]
    assert f"script-src {' '.join(named)};" in unescape(policy)
    assert "default-src 'none'" in policy


def test_user_text_is_escaped(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    index = write_study(tmp_path, title=f"{evil} & more", axes=NIV2 | {"init": [evil, "b"]}, records=False)
    document = json.loads(index.read_text()) | {"overrides": [f"a={evil}"], "study": evil}
    index.write_text(json.dumps(document))
    html = report.build(index, tmp_path / "out").html.read_text()
    read = Page(html)
    assert "img" not in read.tags
    assert html.count("</script>") == 3
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt; &amp; more" in html
    charts = charts_of(html)
    hovering = [text for chart in charts for trace in chart["traces"] for text in trace.get("text", ())]
    assert any("&lt;img" in text for text in hovering)
    assert not any("<img" in text for text in hovering)


def test_markup_in_a_title_does_not_reach_the_terminal(tmp_path: Path) -> None:
    index = write_study(tmp_path, title="[red]counts[/red] [x", axes=NIV2, records=False)
    assert "[red]counts[/red] [x" in printed(report.build(index, tmp_path / "out"))


def test_a_study_of_one_size_one_panel_and_no_arms(tmp_path: Path) -> None:
    index = write_study(tmp_path, name="niv2", axes=NIV2, settings=NIV2_SETTINGS, averaged=["niv2_rouge_l"])
    built = report.build(index, tmp_path / "reports")
    drawn = pd.read_csv(built.csv)
    assert set(drawn["benchmark"]) == {"niv2_rouge_l"}
    assert set(drawn["curve"]) == {"nano"}
    assert "trained with CoT" not in built.figure_svg.read_text()
    assert "NIV2 ROUGE-L · direct prompt" in printed(built)
    assert "CoT" not in printed(built)
    [panel] = json.loads(built.fits.read_text())
    assert panel["comparison"]["verdict"] == "not identifiable"


@pytest.mark.parametrize(
    "axes",
    [
        {"mixture.count": [89], "seed": [0]},
        {"mixture.count": [0], "seed": [0, 1]},
        {"mixture.count": [0, 89], "cot": [False, True]},
        {"model": ["nano", "micro", "mini"], "mixture.count": [9, 89], "seed": [0]},
        {"mixture.count": [8, 64], "optimizer.learning_rate": [0.1, 0.2]},
        {"seed": [0, 1, 2]},
    ],
)
def test_studies_too_small_to_fit_are_reported_all_the_same(tmp_path: Path, axes: dict[str, list[object]]) -> None:
    built = report.build(write_study(tmp_path, axes=axes), tmp_path / "reports")
    curve = len([count for count in axes.get("mixture.count", [9]) if count]) > 1
    assert ("not identifiable" if curve else "a curve needs two numbers") in Page(built.html.read_text()).text
    assert "±" in printed(built)
    assert built.figure_png.read_bytes()[:4] == b"\x89PNG"


def test_a_whole_arm_without_scores_leaves_the_others(tmp_path: Path) -> None:
    without = {number: "queued" for number in range(40) if number % 4 >= 2}
    built = report.build(write_study(tmp_path, states=without, records=False), tmp_path / "reports")
    assert set(pd.read_csv(built.csv)["curve"]) == {"nano, without CoT", "micro, without CoT"}
    assert "–" in printed(built)


@pytest.mark.parametrize("state", ["planned", "failed", "missing"])
def test_a_study_without_scores_is_one_clear_line(tmp_path: Path, state: str) -> None:
    index = write_study(tmp_path, states=dict.fromkeys(range(40), state))
    with pytest.raises(AnalysisError, match=f"nothing to report yet: no run of study quickstart .*36 {state}") as error:
        report.build(index, tmp_path / "reports")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "reports").exists()


def test_zero_tasks_get_a_slot_of_their_own_left_of_the_axis() -> None:
    axis = CountAxis((0, 9, 89, 282, 1836))
    low, high = axis.span
    assert axis.position(0) < low
    assert (axis.position(9), axis.position(1836)) == pytest.approx((low, high))
    assert axis.position(89) - axis.position(9) == pytest.approx(axis.position(890) - axis.position(90), abs=0.01)


def test_tick_labels_that_would_collide_give_way_to_the_ends() -> None:
    assert CountAxis((0, 9, 89, 282, 1836)).labelled() == [0, 9, 89, 282, 1836]
    assert CountAxis((100, 500, 1000, 1800, 1836)).labelled() == [100, 500, 1000, 1836]
    assert CountAxis((64,)).labelled() == [64]


def test_no_legend_or_panel_reaches_outside_the_figure(tmp_path: Path) -> None:
    axes = AXES | {"model": ["nano", "micro", "mini"], "seed": [0]}
    study = sources.from_directories(write_study(tmp_path, axes=axes, records=False))
    own = panels.analyse(study)
    for shown in (own, own[:1], [own[-1], published.task_count_panel()]):
        figure, _ = figures.scaling_figure(shown, sizes=figures.sizes(study), note="3 of 60 points have no score yet")
        FigureCanvasAgg(figure).draw()
        texts = [text for axes in figure.axes for text in axes.texts]
        boxes = [figure.legends[0].get_window_extent(), *(each.get_tightbbox() for each in (*figure.axes, *texts))]
        for box in boxes:
            assert box.x0 >= -1
            assert box.x1 <= figure.bbox.width + 1
            assert box.y1 <= figure.bbox.height + 1


def test_the_title_of_a_panel_stays_within_its_panel(tmp_path: Path) -> None:
    settings = {"procedural_letters_exact_match": ["direct", "cot"]}
    study = write_study(tmp_path, axes=AXES | {"seed": [0]}, records=False, settings=settings, averaged=settings)
    two = panels.analyse(sources.from_directories(study))[:2]
    figure, _ = figures.scaling_figure(two)
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    titles = [axes.get_title("left") for axes in (left, right)]
    assert ["".join(title.split()) for title in titles] == ["".join(panel.title.split()) for panel in two]
    shown = [text for axes in (left, right) for text in axes.findobj(Text) if text.get_text() in titles]
    boxes = [text.get_window_extent() for text in shown]
    assert boxes[0].x1 < right.get_tightbbox().x0
    assert boxes[1].x1 < figure.bbox.width


def test_sizes_get_ordered_colours_that_are_told_apart() -> None:
    for k in range(1, 7):
        colours = figures.palette(k)
        lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in colours]
        assert lightness == sorted(lightness)
        assert max(lightness) < 0.85


def test_the_published_tables_are_whole_and_flag_the_doubtful_cell() -> None:
    table = published.table_3()
    assert sorted(table["n_tasks"].unique()) == [0, 9, 89, 282, 1836]
    assert len(table) == 15
    assert len(published.table_5()) == 15
    [doubtful] = table[table["suspect"].notna()].to_dict("records")
    assert (doubtful["params_b"], doubtful["n_tasks"], doubtful["suspect"]) == (62, 89, "norm_avg")


def test_the_papers_marks_have_no_error_bars(tmp_path: Path) -> None:
    files = figures.write([published.task_count_panel()], tmp_path / "paper")
    means = pd.read_csv(files.csv).query("kind == 'mean'")
    assert len(means) == 15
    assert means["low"].isna().all()


def test_noise_that_is_stated_in_vain_is_said(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=AXES | {"model": ["nano"]}, records=False)
    assert "stated noise is not used" in printed(report.build(index, tmp_path / "out", seed_noise=2.0), width=200)
    once = write_study(tmp_path / "once", axes=AXES | {"model": ["nano"], "seed": [0]}, records=False)
    assert "not used" not in printed(report.build(once, tmp_path / "out", seed_noise=2.0), width=200)


def test_the_terminal_begins_with_a_sentence_an_effect(quickstart: tuple[Path, Report]) -> None:
    said = printed(quickstart[1], width=200).splitlines()
    number = r"[+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\] points"
    assert said[0] == "Task count × size × rationales"
    without, with_cot = "9 → 1,836 tasks without CoT", "9 → 282 tasks with CoT"  # a point of 1,836 has no score
    patterns = [
        rf"More tasks help: {number}, {without}; {number}, {with_cot}\.",
        rf"Training with CoT helps: {number}, mean over task counts\.",
        rf"Larger models score higher: {number}, nano → micro, mean over task counts\.",
    ]
    assert said[2].strip() == "Normalised average:"
    for line, pattern in zip(said[3:6], patterns, strict=True):
        assert re.fullmatch(pattern, line.strip()), line
    assert said[6].strip() == ""


def test_a_benchmark_on_which_it_is_the_other_way_is_told(quickstart: tuple[Path, Report]) -> None:
    """In the synthetic truth rationales help where they are asked for, and harm direct answers."""
    text = " ".join(Page(quickstart[1].html.read_text()).text.split())
    assert "Training with CoT helps: +" in text
    assert re.search(r"The other way on Procedural · direct prompt: Training with CoT harms: -\d", text)


def test_what_cannot_be_written_is_one_line_and_leaves_the_last_report(tmp_path: Path, monkeypatch: Any) -> None:
    index = write_study(tmp_path, axes=AXES | {"model": ["nano"]}, records=False)
    (tmp_path / "file").touch()
    with pytest.raises(AnalysisError, match=r"cannot be written to .*file: (File exists|Not a directory)") as error:
        report.build(index, tmp_path / "file")
    assert "\n" not in str(error.value)
    built = report.build(index, tmp_path / "out")
    before = built.html.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(AnalysisError, match="No space left on device"):
        report.build(index, tmp_path / "out")
    assert built.html.read_bytes() == before
    assert not [path for path in built.html.parent.iterdir() if path.name.startswith(".")]
