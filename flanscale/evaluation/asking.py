"""How is a line of a suite asked? Prompts are made to fit, answers are read, and every item gets its record."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flanscale.evaluation.item import Item, Setting
from flanscale.evaluation.metrics import METRICS
from flanscale.evaluation.preference import shown
from flanscale.evaluation.protocol import Choice, LanguageModel, Question, Sampling, Scored, Written, ordered
from flanscale.evaluation.records import ANSWERED, CONTAMINATED, DUPLICATES, NO_ANSWER, SKIPPED, Option, Record, Sample
from flanscale.evaluation.smooth import is_right, rank
from flanscale.evaluation.suites import Line, prompt_hash
from flanscale.evaluation.vote import vote

DECIMALS = 6


def ask(
    line: Line,
    model: LanguageModel,
    sampling: Sampling,
    *,
    done: Container[str] = (),
    contaminated: Container[str] = (),
) -> Iterator[list[Record]]:
    """The records of a line's items, a batch at a time; of those that are done perhaps again, and then the same.

    Args:
        sampling: of lines with several samples.
        done: keys of items whose records are there.
        contaminated: keys of items that training may have seen.

    Raises:
        NonFiniteLogits: the model gave no token.
    """
    fitted = _fit(line, model)
    asked = [one for one in fitted if one.fits]
    skipped = [_record(one, SKIPPED, contaminated) for one in fitted if not one.fits and one.item.key not in done]
    if skipped:
        yield skipped
    known = {place for place, one in enumerate(asked) if one.item.key in done}
    if line.setting.extract is None:
        yield from _ranked(line, model, asked, known, contaminated)
    else:
        yield from _written(line, model, asked, known, sampling, contaminated)


@dataclass(frozen=True)
class _Fitted:
    """An item with as many of its shots, the last ones, as the model has room for."""

    item: Item
    shots: int
    tokens: int
    fits: bool

    @property
    def prompt(self) -> str:
        return self.item.prompt.text(self.shots)


def _fit(line: Line, model: LanguageModel) -> list[_Fitted]:
    """Every item; shots are dropped one by one from the front, the question never."""
    items = line.asked.items
    limits = _limits(line.setting, model, items)
    fitted: dict[int, _Fitted] = {}
    left = {place: len(item.prompt.shots) for place, item in enumerate(items)}
    while left:
        counts = model.tokens([items[place].prompt.text(shots) for place, shots in left.items()])
        for (place, shots), tokens in zip(list(left.items()), counts, strict=True):
            fits = tokens <= limits[place]
            if fits or shots == 0:
                fitted[place] = _Fitted(items[place], shots, tokens, fits)
                del left[place]
            else:
                left[place] = shots - 1
    return [fitted[place] for place in range(len(items))]


def _limits(setting: Setting, model: LanguageModel, items: Sequence[Item]) -> list[int]:
    """The most tokens of each item's prompt."""
    if setting.extract is not None:
        return [model.context_limit(setting.max_new_tokens)] * len(items)
    texts = list(dict.fromkeys(option for item in items for option in item.options))
    tokens = dict(zip(texts, model.tokens(texts), strict=True))
    return [model.context_limit(max(tokens[option] for option in item.options)) for item in items]


# --- written answers --------------------------------------------------------------------------------------------------


def _written(
    line: Line,
    model: LanguageModel,
    asked: Sequence[_Fitted],
    done: Container[int],
    sampling: Sampling,
    contaminated: Container[str],
) -> Iterator[list[Record]]:
    setting, samples = line.setting, line.ask.samples
    questions = [Question(f"{line.name}/{one.item.key}", one.prompt, samples) for one in asked]
    drawn = sampling if samples > 1 else Sampling()
    for batch in model.generate(
        questions, max_new_tokens=setting.max_new_tokens, stop=setting.stop, sampling=drawn, done=done
    ):
        yield [_judged(asked[place], setting, texts, contaminated) for place, texts in sorted(batch.items())]


def _judged(one: _Fitted, setting: Setting, texts: Sequence[Written], contaminated: Container[str]) -> Record:
    """Several samples vote, or, where nothing tells right from wrong, the one that is shown to people counts."""
    assert setting.extract
    samples = tuple(
        Sample(w.text, setting.extract(w.text, one.item), w.tokens, w.ended, round(w.logprob, DECIMALS)) for w in texts
    )
    chosen = shown(samples) if not setting.metrics else None
    answer = vote(sample.answer for sample in samples) if chosen is None else chosen.answer
    status = NO_ANSWER if answer is None else ANSWERED
    scores = points(setting, answer, one.item.references)
    return _record(one, status, contaminated, answer=answer, scores=scores, samples=samples)


def judged(setting: Setting, item: Item, texts: Sequence[Written]) -> Record:
    """The record of texts that were written behind the whole prompt of an item."""
    return _judged(_Fitted(item, len(item.prompt.shots), 0, fits=True), setting, texts, ())


def points(setting: Setting, answer: str | None, references: Sequence[str]) -> dict[str, float]:
    """What an answer is worth under each metric; nothing where no reference says so."""
    if not references:
        return {}
    return {name: 0.0 if answer is None else METRICS[name](answer, references) for name in setting.metrics}


# --- ranked options ---------------------------------------------------------------------------------------------------


def _ranked(
    line: Line,
    model: LanguageModel,
    asked: Sequence[_Fitted],
    done: Container[int],
    contaminated: Container[str],
) -> Iterator[list[Record]]:
    neutral = _neutral(line.setting, model, asked)
    choices = [Choice(one.prompt, one.item.options) for one in asked]
    for batch in model.score(choices, done=done):
        yield [
            _chosen(asked[place], line.setting, scored, neutral[asked[place].item.options], contaminated)
            for place, scored in sorted(batch.items())
        ]


def _neutral(
    setting: Setting, model: LanguageModel, asked: Sequence[_Fitted]
) -> Mapping[tuple[str, ...], Sequence[Scored]]:
    """What the model thinks of options behind the neutral prompt: once for all items with the same ones."""
    kinds = list(dict.fromkeys(one.item.options for one in asked))
    scores = ordered(model.score([Choice(setting.neutral, options) for options in kinds]))
    return dict(zip(kinds, scores, strict=True))


def _chosen(
    one: _Fitted,
    setting: Setting,
    scored: Sequence[Scored],
    neutral: Sequence[Scored],
    contaminated: Container[str],
) -> Record:
    item = one.item
    assert item.gold is not None
    options = tuple(
        Option(
            logprob=round(sum(own.logprobs), DECIMALS),
            unconditional=round(sum(alone.logprobs), DECIMALS),
            tokens=len(own.logprobs),
            bytes=len(text.removeprefix(" ").encode()),
            greedy=own.greedy,
        )
        for text, own, alone in zip(item.options, scored, neutral, strict=True)
    )
    place = rank(options, setting.rank)
    right = is_right(item.listed or item.options, place, item.gold)
    return _record(
        one,
        NO_ANSWER if place is None else ANSWERED,
        contaminated,
        answer=None if place is None else item.options[place].strip(),
        scores=dict.fromkeys(setting.metrics, 100.0 * right),
        options=options,
    )


def _record(
    one: _Fitted,
    status: str,
    contaminated: Container[str],
    *,
    answer: str | None = None,
    scores: Mapping[str, float] | None = None,
    samples: tuple[Sample, ...] = (),
    options: tuple[Option, ...] = (),
) -> Record:
    item = one.item
    texts = item.listed or item.options
    flags = [DUPLICATES] if len(set(texts)) < len(texts) else []
    return Record(
        key=item.key,
        subtask=item.subtask,
        cluster=item.cluster,
        prompt_hash=prompt_hash(item),
        prompt_tokens=one.tokens,
        shots=one.shots,
        dropped=len(item.prompt.shots) - one.shots,
        status=status,
        reference=item.references[0] if item.references else None,
        answer=answer,
        scores=scores or {},
        samples=samples,
        options=options,
        gold=item.gold,
        flags=(*flags, *([CONTAMINATED] if item.key in contaminated else [])),
    )
