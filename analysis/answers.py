"""What does a study say, in words: a sentence a question, with its number, its interval and what it does not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.contrasts import Contrast, overall
from analysis.panels import Panel
from analysis.summary import Estimate
from analysis.tables import signed

MARGIN = 2.0
"""Normalised points: a difference below is too small to matter, fixed before anything is looked at."""

VERDICTS = {
    "finetuning": ("Finetuning helps", "Finetuning harms", "Finetuning"),
    "volume": ("More tasks help", "More tasks harm", "The number of tasks"),
    "cot": ("Training with CoT helps", "Training with CoT harms", "Training with CoT"),
    "size": ("Larger models score higher", "Larger models score lower", "Model size"),
    "size_gain": (
        "Larger models gain more by finetuning",
        "Larger models gain less by finetuning",
        "For the gain by finetuning, model size",
    ),
    "volume_less_cot": (
        "More tasks add more than CoT data do",
        "CoT data add more than more tasks do",
        "Which of more tasks and CoT data adds more",
    ),
}
"""What is said of a question that does better, worse, and what it is about."""
LOSSES = VERDICTS | {
    "size": ("Larger models have lower losses", "Larger models have higher losses", "Model size"),
}
"""The same where less is better."""


def answers(panel: Panel, found: Sequence[Contrast]) -> list[str]:
    """The panel's answers, a sentence each, over all sizes: what is asked of each size is in the tables."""
    if not found:
        return [f"There is nothing to compare: {_what_there_is(panel)}."]
    shown = overall(found)
    told = [sentence(each) for each in shown if each.question.kind in VERDICTS or each.question.kind == "level"]
    return [*told, *plateaus(shown)]


def in_brief(analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]]) -> list[str]:
    """One sentence an effect: of the number of tasks, of rationales, of size, of each other level, all arms in it.

    Of the panels that the answers are about; of a study with a single number of tasks above 0, that of finetuning at
    all.
    """
    told = []
    for panel, found in _main(analysed, asked):
        lines = _brief(found)
        told += [f"{panel.title}:", *lines] if lines and len(analysed) > 1 else lines
    return told


def _main(analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]]) -> list[tuple[Panel, Sequence[Contrast]]]:
    """The panels that a study's answers are about: the normalised average, else all."""
    pairs = list(zip(analysed, asked, strict=True))
    return pairs[-1:] if analysed[-1].is_average else pairs


def _brief(found: Sequence[Contrast]) -> list[str]:
    by_effect: dict[str, list[Contrast]] = {}
    for each in overall(found):
        question = each.question
        if question.kind in ("volume", "finetuning", "cot", "size", "level"):
            by_effect.setdefault(question.text if question.kind == "level" else question.kind, []).append(each)
    if "volume" in by_effect:
        by_effect.pop("finetuning", None)
    return [_together(each) for each in by_effect.values()]


def _together(found: Sequence[Contrast]) -> str:
    """One effect in every arm: its verdict where all arms have the same, and the numbers."""
    better, worse, subject = _words(found[0])
    told = all(each.effect for each in found) and len({each.better for each in found}) == 1
    lead = subject if not told else better if found[0].better else worse
    wheres = [each.question.text.partition(", ")[2] for each in found]
    numbers = [f"{_signed(each)}{', ' if where else ''}{where}" for each, where in zip(found, wheres, strict=True)]
    return f"{lead}: {'; '.join(numbers)}."


def of_study(analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]]) -> list[str]:
    """The study's answers, a sentence each: of the normalised average, and what is against it, else of every panel."""
    told, main = [], _main(analysed, asked)
    for panel, found in main:
        lines = [*answers(panel, found), *against(panel, found, analysed, asked), form(panel)]
        told += [f"{panel.title}: {each}" if len(main) > 1 else each for each in lines if each]
    told.append(one_choice_of_tasks(analysed[-1], asked[-1]))
    return [each for each in told if each]


def against(
    panel: Panel, found: Sequence[Contrast], analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]]
) -> Iterator[str]:
    """Effects of the other panels that go the other way than this one's."""
    own = {(each.question.kind, each.question.text): each for each in overall(found) if each.effect}
    for other, theirs in zip(analysed, asked, strict=True):
        for each in overall(theirs) if other is not panel else ():
            mine = own.get((each.question.kind, each.question.text))
            if each.question.kind in VERDICTS and mine and each.effect and mine.better != each.better:
                yield f"The other way on {other.title}: {sentence(each)}"


def form(panel: Panel) -> str:
    """What is said of the curve; empty where there is none."""
    return panel.comparison.sentence if len([count for count in panel.counts if count > 0]) > 1 else ""


def sentence(contrast: Contrast) -> str:
    """One answer: an effect, none that matters, or not told; and its number."""
    question, estimate = contrast.question, contrast.estimate
    better, worse, subject = _words(contrast)
    where = question.text.partition(", ")[2]
    number = f"{_signed(contrast)}{', ' if where else ''}{where}"
    if contrast.p is None:
        return f"{subject}: {number}, of single runs: nothing says how far another seed would be off."
    if contrast.effect:
        return f"{better if contrast.better else worse}: {number}."
    if equivalent(contrast):
        number = f"{_within(estimate)} points{', ' if where else ''}{where}"
        return f"{subject} makes no difference of {MARGIN:g} points or more: {number}."
    low, high = estimate.interval or (0.0, 0.0)
    if not low <= 0 <= high:
        chance = f"one interval of as many as were asked for is off zero so far by luck, p = {contrast.p:.2f}"
        return f"{subject} may make a difference: {number}, but {chance}."
    return f"{subject} makes no difference that these runs can tell: {number}."


def equivalent(contrast: Contrast) -> bool:
    """Whether the difference lies within `MARGIN`, which nothing is known of for losses."""
    estimate = contrast.estimate
    return not contrast.falls and abs(estimate.value) + estimate.half_width_90 < MARGIN


def plateaus(found: Sequence[Contrast]) -> Iterator[str]:
    """For every arm that gets better: from which number of tasks on by less than `MARGIN` any more."""
    gains = {
        (each.question.arm, each.question.size)
        for each in found
        if each.question.kind == "volume" and each.effect and each.better
    }
    arms: dict[tuple[str, str], list[Contrast]] = {}
    for each in found:
        place = (each.question.arm, each.question.size)
        if each.question.kind == "after" and each.p is not None and place in gains:
            arms.setdefault(place, []).append(each)
    for (arm, _), steps in arms.items():
        flat: Contrast | None = None
        for each in reversed(steps):  # from the largest count down, as long as no gain is left
            if not equivalent(each):
                break
            flat = each
        who, last = f" {arm}" if arm else "", steps[-1]
        score, rise, rises, falls = (
            ("loss", "fall", "falls", "rises") if last.falls else ("score", "rise", "rises", "falls")
        )
        gain = f"{_signed(last)} {last.question.text.removeprefix('Δ ')}"
        if flat is not None:
            gain = f"{_within(flat.estimate)} points {flat.question.text.removeprefix('Δ ')}"
            yield f"The {rise}{who} has ended, to less than {MARGIN:g} points: {gain}."
        elif last.effect:
            yield f"The {score}{who} {f'still {rises}' if last.better else falls} at the end: {gain}."
        else:
            yield f"Whether the {rise}{who} has ended is not told by these runs: {gain}."


def one_choice_of_tasks(panel: Panel, found: Sequence[Contrast]) -> str:
    """What a study with one draw of tasks cannot say; empty where it has several, or asks for no numbers of tasks."""
    if panel.draws > 1 or not any(each.question.kind == "volume" for each in found):
        return ""
    return (
        "Every number of tasks is one choice of tasks here, so that how many and which cannot be told apart: a study"
        " with several values of mixture.order_seed can."
    )


def _words(contrast: Contrast) -> tuple[str, str, str]:
    question = contrast.question
    if question.kind in VERDICTS:
        return (LOSSES if contrast.falls else VERDICTS)[question.kind]
    axis, _, pair = question.text.partition(": ")
    level, _, reference = pair.partition(" − ")
    name = f"{axis} {level}"
    what, better, worse = ("losses", "lower", "higher") if contrast.falls else ("scores", "higher", "lower")
    return (
        f"With {name}, {what} are {better} than with {reference}",
        f"With {name}, {what} are {worse} than with {reference}",
        f"Taking {name} in place of {reference}",
    )


def _signed(contrast: Contrast) -> str:
    return f"{signed(contrast.estimate, contrast.unit.digits)} {contrast.unit.of}"


def _within(estimate: Estimate) -> str:
    """With the 90 % interval, which is what lies within the margin."""
    low, high = estimate.value - estimate.half_width_90, estimate.value + estimate.half_width_90
    return f"{estimate.value:+.1f} [{low:+.1f}, {high:+.1f}; 90 %]"


def _what_there_is(panel: Panel) -> str:
    return f"no two arms with scores differ in one thing alone ({', '.join(f'{n:,}' for n in panel.counts)} tasks)"
