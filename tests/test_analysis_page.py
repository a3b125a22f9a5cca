"""What a reviewer sees of a study: bars beside their numbers, tables that other programs read, charts that move."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report_page import charts_of
from synthetic_study import AXES, write_study

from analysis import contrasts, figures, forest, interactive, panels, published, report, sources, spending, tables
from analysis.contrasts import Contrast
from analysis.panels import Panel
from analysis.report import Report
from analysis.runs import Study
from analysis.subtasks import by_subtask, read_subtasks
from flanscale.run_directory import read_state, write_state

CHROMIUM = shutil.which("chromium")
PDFTOTEXT = shutil.which("pdftotext")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Report]:
    root = tmp_path_factory.mktemp("page")
    index = write_study(root, lower_bound=20.0)
    return sources.read(index), report.build(index, root / "reports")


@pytest.fixture(scope="module")
def analysed(written: tuple[Study, Report]) -> list[Panel]:
    return panels.analyse(written[0])


@pytest.fixture(scope="module")
def asked(written: tuple[Study, Report], analysed: list[Panel]) -> list[list[Contrast]]:
    return contrasts.ask(written[0], analysed)[0]


def test_bars_are_where_their_numbers_say(analysed: list[Panel], asked: list[list[Contrast]]) -> None:
    found = [(panel, each) for panel, some in zip(analysed, asked, strict=True) for each in some]
    [drawn] = forest.forests(found)
    ticks = [(position, float(label)) for position, label in drawn.ticks]
    (left, low), (right, high) = ticks[0], ticks[-1]
    assert (left, right) == (0, 100)
    assert (drawn.zero, 0.0) in ticks
    rows = [row for _, group in drawn.groups for row in group]
    assert len(rows) == len(found)
    by_text: dict[str, list[tuple[Panel, Contrast]]] = {}
    for panel, each in found:
        by_text.setdefault(each.question.text, []).append((panel, each))
    for text, group in drawn.groups:
        for row, (_, each) in zip(group, by_text[text], strict=True):
            assert each.estimate.interval is not None
            ends = (each.estimate.interval[0], each.estimate.value, each.estimate.interval[1])
            at = [low + (high - low) * place / 100 for place in (row.left, row.mark, row.right)]
            assert at == pytest.approx(ends, abs=(high - low) * 1e-4)
            sides = ("told", "told") if each.question.kind == "volume_less_cot" else ("worse", "better")
            assert row.verdict == (sides[each.estimate.value > 0] if each.effect else "open")


def test_single_runs_have_bars_that_tell_nothing(tmp_path: Path) -> None:
    study = sources.read(write_study(tmp_path, axes=AXES | {"seed": [0]}))
    analysed = panels.analyse(study)
    found = [each for each in contrasts.ask(study, analysed)[0][-1] if each.question.kind == "volume"]
    [drawn] = forest.forests([(analysed[-1], each) for each in found])
    assert {row.verdict for _, rows in drawn.groups for row in rows} == {"single"}
    assert {row.p for _, rows in drawn.groups for row in rows} == {"–"}
    assert forest.forests([]) == []


def test_the_effect_on_every_task_averages_to_the_effect(
    written: tuple[Study, Report], analysed: list[Panel], asked: list[list[Contrast]]
) -> None:
    scored, damaged = read_subtasks(written[0])
    assert damaged == []
    panel, found = analysed[0], contrasts.overall(asked[0])
    frame = by_subtask(panel, found, scored)
    assert len(frame) == 24
    assert frame["mean"].astype(float).mean() == pytest.approx(np.mean([m.value for m in panel.means]), abs=0.06)
    for each in found:
        differences = [float(text.split()[0]) for text in frame[each.question.text]]
        assert np.mean(differences) == pytest.approx(each.estimate.value, abs=0.06)
    widest = frame[[each.question.text for each in found]].map(lambda text: abs(float(text.split()[0]))).max(axis=1)
    assert list(widest) == sorted(widest, reverse=True)


def test_tasks_of_a_cell_that_is_not_at_hand_are_not_made_up(
    written: tuple[Study, Report], analysed: list[Panel], asked: list[list[Contrast]]
) -> None:
    scored, _ = read_subtasks(written[0])
    one, *others = scored
    assert by_subtask(analysed[0], asked[0], {cell: scored[cell] for cell in others}).empty
    place = (analysed[0].benchmark, analysed[0].setting)
    renamed = {f"{name}s": value for name, value in scored[one][place].items()}
    assert by_subtask(analysed[0], asked[0], dict(scored) | {one: {place: renamed}}).empty


def test_one_table_is_three_files_that_other_programs_read(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "a_name": ["50 % & more", "a|b, $x_1$", "→ −"],
            "value": ["+1.0", "–", "-2.5"],
            "p": ["< 0.001", "0.2", "new\nline"],
        }
    )
    written = tables.write(frame, tmp_path / "new" / "t")
    assert [path.name for path in written] == ["t.csv", "t.md", "t.tex"]
    as_csv, markdown, latex = (path.read_text() for path in written)
    assert list(csv.reader(as_csv.splitlines(keepends=True))) == [list(frame.columns), *frame.to_numpy().tolist()]
    head, marks, *rows = markdown.splitlines()
    assert (head, marks) == ("| a\\_name | value | p |", "| --- | ---: | --- |")
    assert rows[1] == r"| a\|b, \$x\_1\$ | – | 0.2 |"
    assert r"\begin{tabular}{lrl}" in latex
    assert r"50 \% \& more & +1.0 & $<$ 0.001 \\" in latex
    assert r"a$|$b, \$x\_1\$ & -- & 0.2 \\" in latex
    assert r"$\to$ $-$ & $-$2.5 & new line \\" in latex


def test_the_tables_beside_a_report_say_what_it_says(written: tuple[Study, Report], analysed: list[Panel]) -> None:
    folder = written[1].tables
    kinds = ("contrasts", "forms", "parameters", "scores")
    assert {path.name for path in folder.iterdir()} == {
        f"{kind}{end}" for kind in kinds for end in (".csv", ".md", ".tex")
    }
    scores = pd.read_csv(folder / "scores.csv")
    last = f"{analysed[-1].title} of procedural direct, procedural cot"
    assert list(scores["panel"].unique()) == [*(panel.title for panel in analysed[:-1]), last]
    own = scores[scores["panel"] == last].drop(columns="panel").reset_index(drop=True)
    assert own.equals(tables.scores(analysed[-1]))


def test_what_a_study_took_is_what_its_runs_recorded(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=AXES | {"mixture.count": [0, 9], "seed": [0]}, records=False)
    document = json.loads(index.read_text())
    for number, cell in enumerate(document["cells"].values()):
        cell["devices"] = 2 if number else 4
    index.write_text(json.dumps(document))
    for run in (tmp_path / "runs").iterdir():
        write_state(run, replace(read_state(run), seconds=900.0))
    spent = spending.spent(sources.read(index))
    assert set(spent) == {"nano", "micro", "all"}
    assert spent["all"].cells == 6
    assert spent["all"].device_hours == pytest.approx((4 + 2 * 5) * 900 / 3600)
    assert spent["all"].flops == pytest.approx(6e12)
    assert spent["all"].dollars is None
    for run in sorted((tmp_path / "runs").iterdir()):
        config = run / "config.yaml"
        config.write_text(config.read_text() + "cluster: {dollars_per_hour: 3.0, watts: 700}\n")
    priced = spending.spent(sources.read(index))
    assert priced["all"].dollars == pytest.approx(3.0 * 3.5)
    assert priced["all"].kilowatt_hours == pytest.approx(0.7 * 3.5)
    for damage in ("{", (run / "state.json").read_text().replace("900.0", '"ten"')):
        (run / "state.json").write_text(damage)
        rest = spending.spent(sources.read(index))["all"]
        assert (rest.whole, rest.device_hours) == (False, pytest.approx(3.0))
        assert spending.cost(sources.read(index))["dollars"].iloc[-1] == "≥ 9.00"


def test_realised_mixtures_are_listed_once_an_arm(tmp_path: Path) -> None:
    index = write_study(tmp_path, records=False)
    for number, run in enumerate(sorted((tmp_path / "runs").iterdir())):
        *rows, last = (run / "metrics.jsonl").read_text().splitlines()
        shares = {"mixture/share/flan": 0.75, "mixture/share/cot": 0.25, "mixture/max_epochs": 1.0 + number}
        if "mixture/tasks" in rows[0]:
            (run / "metrics.jsonl").write_text("\n".join([*rows, json.dumps(json.loads(last) | shares)]) + "\n")
    frame = spending.mixtures(sources.read(index))
    assert list(frame["tasks asked"]) == ["9", "9", "89", "89", "282", "282", "1,836", "1,836"]
    assert set(frame["CoT"]) == {"yes", "no"}
    assert set(frame["flan, %"]) == {"75.0"}
    assert len(set(frame["most epochs of a task"])) == 8


def test_the_papers_scores_stand_beside_the_same_models_and_no_others(tmp_path: Path) -> None:
    def over(models: list[str], settings: dict[str, list[str]]) -> list[Panel]:
        axes = {"model": models, "mixture.count": [0, 9, 1836]}
        index = write_study(tmp_path / models[0], axes=axes, settings=settings, averaged=settings, records=False)
        return panels.analyse(sources.read(index))

    both = ["direct", "cot"]
    all_six = {"mmlu": both, "bbh": both, "tydiqa": ["direct"], "mgsm": ["cot"]}
    palm = over(["palm_8b", "palm_62b", "palm_540b"], all_six)
    mmlu, average = published.counterparts(palm[0], palm), published.counterparts(palm[-1], palm)
    table = published.table_3().set_index(["params_b", "n_tasks"])
    for model, size in (("palm_8b", 8), ("palm_62b", 62), ("palm_540b", 540)):  # of which table 5 has another run
        assert mmlu[model] == {n: table.loc[(size, n), "mmlu_direct"] for n in (0, 9, 1836)}
        assert average[model] == {n: table.loc[(size, n), "norm_avg"] for n in (0, 9, 1836)}
    assert published.counterparts(palm[-1], palm[:3]) == {}, "an average over other members"
    few = over(["nano", "micro"], {"mmlu": both})
    assert published.counterparts(few[0], few) == {}
    figure, drawn = figures.scaling_figure(palm)
    assert {each.curve for each in drawn if each.kind == "published"} == {"palm_8b", "palm_62b", "palm_540b"}
    assert "published" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_panels_share_a_scale_or_say_that_they_do_not(tmp_path: Path) -> None:
    settings = {"procedural": ["direct"], "other": ["direct"]}

    def drawn(name: str, share: float) -> tuple[set[tuple[float, float]], list[str]]:
        def truth(axes: Any, setting: str) -> float:
            return 10 + 20 * np.log10(axes["mixture.count"] / 8) * (share if next(turns) % 2 else 1)

        turns = itertools.count()
        axes = {"mixture.count": [9, 89, 1836], "seed": [0, 1]}
        index = write_study(
            tmp_path / name, axes=axes, settings=settings, averaged=settings, truth=truth, records=False
        )
        figure, _ = figures.scaling_figure(panels.analyse(sources.read(index))[:2])
        FigureCanvasAgg(figure).draw()
        return {axes.get_ylim() for axes in figure.axes}, [text.get_text() for text in figure.texts]

    same, quiet = drawn("alike", 1.0)
    assert len(same) == 1
    assert not any("scales differ" in text for text in quiet)
    own, told = drawn("apart", 0.05)
    assert len(own) == 2
    assert any("vertical scales differ between panels" in text for text in told)


def test_the_names_at_the_ends_of_curves_do_not_lie_on_each_other(analysed: list[Panel]) -> None:
    figure, _ = figures.scaling_figure(analysed[-1:])
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in ("nano", "micro")]
    assert len(boxes) == len(analysed[-1].curves)
    for lower, upper in itertools.pairwise(sorted(boxes, key=lambda box: box.y0)):
        assert lower.y1 <= upper.y0 + 1


def test_arms_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    axes = {"model": ["nano"], "mixture.count": [89], "mixture": ["paper_a", "equal"], "seed": [0, 1]}
    [panel, *_] = panels.analyse(sources.read(write_study(tmp_path, axes=axes, records=False)))
    assert figures.x_axis(panel) == "arms"
    assert figures.arm_names(panel) == ["mixture paper_a", "mixture equal"]


def test_the_charts_show_what_the_figure_shows(written: tuple[Study, Report], analysed: list[Panel]) -> None:
    drawn = pd.read_csv(written[1].csv)
    charts = charts_of(written[1].html.read_text())
    shown = [chart for chart in charts if chart["scores"]]
    assert [chart["title"] for chart in shown] == [panel.title for panel in (analysed[-1], *analysed[:-1])]
    for panel, chart in zip((analysed[-1], *analysed[:-1]), shown, strict=True):
        rows = drawn[(drawn["benchmark"] == panel.benchmark) & (drawn["setting"] == panel.setting)]
        for kind, own in rows[rows["kind"].isin(["mean", "run"])].groupby("kind"):
            dots = [trace for trace in chart["traces"] if ("error_y" in trace) == (kind == "mean") and "text" in trace]
            values = sorted(value for trace in dots for value in trace["y"])
            assert all(min(abs(np.array(values) - value)) < 0.001 for value in own["value"])
    raw = shown[1]["raw"]
    assert raw == {"low": 20.0, "factor": 0.8}
    assert shown[0]["raw"] is None, "an average has no percent of its own"
    losses = [chart for chart in charts if not chart["scores"]]
    assert [chart["title"] for chart in losses] == ["nano", "micro"]
    assert losses[0]["traces"][0]["y"][0] == pytest.approx(2.0)


def test_a_study_without_losses_has_no_chart_of_them(written: tuple[Study, Report]) -> None:
    study = written[0]
    quiet = {cell: replace(record, losses=()) for cell, record in study.records.items()}
    assert interactive.loss_charts(replace(study, records=quiet)) == []


def test_many_losses_are_thinned_to_what_a_browser_draws(
    written: tuple[Study, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "MOST_VERTICES", 50)
    charts = interactive.loss_charts(written[0])
    lines = [trace for chart in charts for trace in chart.traces]
    assert len(lines) == len([record for record in written[0].records.values() if record.losses])
    assert sum(len(trace["x"]) for trace in lines) <= 50 + len(lines)


def browsed(page: Path, tmp_path: Path, script: str, width: int = 1280) -> Any:
    """What a script finds in the page, opened in a frame of that width (a window of Chromium has at least 500)."""
    assert CHROMIUM is not None
    html = re.sub("<meta http-equiv[^>]*>", "", page.read_text())
    html = html.replace("</body>", f"<script>(async () => {{{script}}})().then(parent.told)</script></body>")
    wrapper = tmp_path / "wrapper.html"
    frame = f'<iframe id="page" style="border:0;width:{width}px;height:900px" srcdoc="{escape(html)}"></iframe>'
    wrapper.write_text(
        '<meta charset="utf-8"><p id="found"></p>'
        '<script>told = (it) => { document.getElementById("found").textContent = JSON.stringify(it); }</script>' + frame
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=5000", "--dump-dom", wrapper.as_uri()]
    quiet = {**os.environ, "HOME": str(tmp_path)}
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=quiet).stdout
    [found] = re.findall('<p id="found">(.*?)</p>', dom, re.DOTALL)
    return json.loads(unescape(found))


SWITCH = """
const form = document.getElementById("controls"), plots = [...document.querySelectorAll(".plot")];
const state = () => plots.filter((plot) => !plot.closest(".chart").hidden && plot.data).map((plot) =>
  [plot.data.length, Math.max(...plot.data.flatMap((trace) =>
   trace.y.filter(Number.isFinite))), plot._fullLayout.yaxis.range]);
const change = async () => {
  form.dispatchEvent(new Event("change", { bubbles: true }));
  await new Promise((then) => setTimeout(then, 20));
  return state();
};
const box = (value) => form.querySelector(`[value="${value}"]`);
const all = state();
box("nano").checked = false; const one = await change(); box("nano").checked = true;
box("without CoT").checked = false; const arm = await change(); box("without CoT").checked = true;
form.elements.scale.value = "raw"; const raw = await change(); form.elements.scale.value = "normalised";
form.elements.ends.value = "same"; const same = await change(); form.elements.ends.value = "own";
form.elements.panel.value = "1"; const panel = await change(); form.elements.panel.value = "";
return { all, one, arm, raw, same, panel, again: await change() };
"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_sizes_arms_panels_and_points_can_be_switched(written: tuple[Study, Report], tmp_path: Path) -> None:
    found = browsed(written[1].html, tmp_path, SWITCH)
    charts, losses = 3, 2
    assert len(found["all"]) == charts + losses
    assert found["again"] == [[traces, most, pytest.approx(ends)] for traces, most, ends in found["all"]]
    for name in ("one", "arm"):
        assert all(some[0] < every[0] for some, every in zip(found[name][:charts], found["all"], strict=False))
    assert len(found["panel"]) == 1 + losses
    assert found["raw"][0] == found["all"][0]
    for raw, points in zip(found["raw"][1:charts], found["all"][1:charts], strict=True):
        assert raw[1] == pytest.approx(20 + 0.8 * points[1])
    assert len({tuple(each[2]) for each in found["same"][:charts]}) == 1


LAID_OUT = """
const texts = [...document.querySelectorAll("body *")].filter((each) => each.getClientRects().length
  && !each.closest(".still, script, style")
  && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
return { width: document.documentElement.scrollWidth, inner: innerWidth, height: document.documentElement.scrollHeight,
         smallest: Math.min(...texts.map((each) => parseFloat(getComputedStyle(each).fontSize))) };
"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_phone_shows_it_whole_and_legibly(written: tuple[Study, Report], tmp_path: Path) -> None:
    wide, narrow = (browsed(written[1].html, tmp_path, LAID_OUT, width) for width in (1280, 390))
    assert narrow["width"] <= narrow["inner"] == 390
    assert narrow["smallest"] >= 9
    assert narrow["height"] <= 2 * wide["height"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None or PDFTOTEXT is None, reason="needs Chromium and pdftotext")
def test_printing_shows_what_is_folded_away(
    written: tuple[Study, Report], analysed: list[Panel], asked: list[list[Contrast]], tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    assert PDFTOTEXT is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    pdf = tmp_path / "printed.pdf"
    command = [CHROMIUM, *flags, f"--print-to-pdf={pdf}", written[1].html.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)})
    text = subprocess.run([PDFTOTEXT, "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    for each in asked[-1]:
        assert tables.signed(each.estimate).split()[0] in text
    assert "weighted SSE" in text
    assert "degrees of freedom" in text
    assert written[0].points[0].run in text.replace("\n", "")
    assert "trained with CoT" in text, "the figure"


def test_an_untouched_checkpoint_that_stands_in_both_arms_is_one(
    analysed: list[Panel], asked: list[list[Contrast]]
) -> None:
    panel = analysed[-1]
    [at_zero] = [each for each in asked[-1] if each.question.text.endswith("at 0 tasks")]
    errors = {mean.cells: mean.estimate.se for mean in panel.means if mean.count == 0}
    assert len(errors) == 2
    assert at_zero.estimate.se == pytest.approx(np.hypot(*errors.values()))


def test_results_without_tasks_are_named(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=AXES | {"model": ["nano"]})
    one, other, *_ = sorted((tmp_path / "runs").iterdir())
    (one / "evaluations" / "suite-0" / "result.json").write_text("{}")
    (other / "evaluations" / "suite-0" / "result.json").write_text('{"format": 1, "lines": []}')
    html = report.build(index, tmp_path / "out").html.read_text()
    assert "result.json cannot be read (KeyError: &#39;lines&#39;)" in html
    assert "2 evaluated cells have none at hand" in html
