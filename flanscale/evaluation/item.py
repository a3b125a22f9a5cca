"""What is a benchmark? Items that are asked in named settings, read from files here or made by a held-out collection.

A benchmark never sees a model: it gives prompts in parts, so that shots can be left out where they do not fit, and says
what becomes of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from flanscale.errors import ConfigError


@dataclass(frozen=True)
class Prompt:
    """Three parts that make a prompt when they are put together as they are: each ends as the next one needs it."""

    preamble: str
    shots: tuple[str, ...]
    question: str

    def text(self, shots: int | None = None) -> str:
        """The prompt with the last `shots` of its shots; with all by default."""
        kept = self.shots if shots is None else self.shots[len(self.shots) - shots :]
        return "".join((self.preamble, *kept, self.question))


@dataclass(frozen=True)
class Item:
    """One question.

    With `options`, texts that may follow the prompt as they are (a leading space included), the most likely one is the
    answer, and `gold` is the place of the right one. Otherwise the model writes, and `references` are right answers as
    the setting's extraction gives them; there may be none where no rule can tell right from wrong.
    """

    key: str
    """Unique in its benchmark, the same in every setting and for good: `test/anatomy/7`."""
    subtask: str
    prompt: Prompt
    references: tuple[str, ...]
    options: tuple[str, ...] = ()
    gold: int | None = None
    cluster: str = ""
    """Items of one cluster err together, as translations of one problem do; the item alone where it is empty."""
    listed: tuple[str, ...] = ()
    """Texts that the question itself lists as (A), (B), …, where a letter is the answer; they may be alike."""


Extract = Callable[[str, Item], str | None]
"""The answer in what a model wrote; None where there is none."""


@dataclass(frozen=True)
class Setting:
    """One way to ask a benchmark, and what the answers are worth."""

    name: str
    """In lower case with underscores: direct, cot, letters, cloze, zero_shot_cot."""
    shots: int
    """Worked examples, where nothing else is asked for."""
    extract: Extract | None = None
    """None: options are ranked."""
    metrics: tuple[str, ...] = ("exact",)
    """Names of `metrics.METRICS`; the first is the headline."""
    max_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    """Texts that end an answer, and are not part of it."""
    rank: str = "sum"
    """By which options are ranked: the sum of log-probabilities, that per_token or per_byte, or pmi."""
    neutral: str = ""
    """The prompt of the unconditional probabilities that pmi takes off."""


@dataclass(frozen=True)
class Floor:
    """What guessing scores on a subtask, in percent."""

    paper: float
    """As the normalised averages of Chung et al. (2022) have it."""
    chance: float
    """Counted from the data: the mean of one over the options; 0 where answers are free."""
    majority: float = 0.0
    """Always the most frequent answer."""


@dataclass(frozen=True)
class Asked:
    """What of a benchmark can be asked here, in one setting."""

    items: tuple[Item, ...]
    floors: Mapping[str, Floor]
    """By subtask."""
    missing: tuple[str, ...] = ()
    """Subtasks of the whole benchmark that are not here: an average without them is no average of the benchmark."""
    notes: tuple[str, ...] = ()
    """What a reader of the scores must know, a sentence each."""
    categories: Mapping[str, str] = field(default_factory=dict)
    """By subtask, of those that have one: what they are averaged by besides."""


@dataclass(frozen=True)
class Benchmark:
    """Its first setting and its first split are those that are asked where nothing else is said."""

    name: str
    version: int
    """Raised whenever any prompt changes: scores are compared within one version."""
    settings: tuple[Setting, ...]
    read: Callable[[str, int, str], Asked]
    """From a setting's name, a number of shots and a split.

    Raises:
        ConfigError: there are not so many worked examples.
        DataError: a file is malformed, or nothing is here.
    """
    splits: tuple[str, ...] = ("test",)
    in_order: bool = False
    """Whether a part of it is its first items, as published, rather than items drawn at random once and for all."""

    def setting(self, ask: Ask) -> Setting:
        """
        Raises:
            ConfigError: it has no such setting.
        """
        named = {setting.name: setting for setting in self.settings}
        if (name := ask.setting or self.settings[0].name) not in named:
            near = get_close_matches(name, named, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(f"{ask}: {self.name} has no setting {name!r}{hint}; it has {', '.join(named)}")
        return named[name]

    def split_of(self, ask: Ask) -> str:
        """
        Raises:
            ConfigError: it has no such split.
        """
        if (split := ask.split or self.splits[0]) not in self.splits:
            raise ConfigError(f"{ask}: {self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        return split

    def asked(self, ask: Ask) -> Asked:
        """
        Raises:
            ConfigError: it has no such setting or split, or as `read`.
            DataError: as `read`.
        """
        setting, split = self.setting(ask), self.split_of(ask)
        return self.read(setting.name, setting.shots if ask.shots is None else ask.shots, split)


@dataclass(frozen=True)
class Ask:
    """One line of a suite: a benchmark in one setting, `mmlu/letters-0shot-test`; its name is that of its scores.

    After the setting may stand, in this order, a number of shots (`5shot`), that of samples of which the most frequent
    answer counts (`sc8`, self-consistency), and a split. What is not said is the benchmark's own choice.
    """

    benchmark: str
    setting: str = ""
    shots: int | None = None
    samples: int = 1
    split: str = ""

    @staticmethod
    def parse(text: str) -> Ask:
        """
        Raises:
            ConfigError: it has another form.
        """
        form = r"(?P<b>[a-z0-9_]+)(/(?P<s>[a-z0-9_]+)(-(?P<n>\d+)shot)?(-sc(?P<k>\d+))?(-(?P<p>[a-z][a-z0-9_]*))?)?"
        found = re.fullmatch(form, text)
        if not found or found["k"] in ("0", "1"):
            raise ConfigError(
                f"{text!r} is no line of a suite: expected benchmark, benchmark/setting or"
                " benchmark/setting-5shot-sc8-split, of which the parts behind the setting may be left out"
            )
        shots = None if found["n"] is None else int(found["n"])
        return Ask(found["b"], found["s"] or "", shots, int(found["k"] or 1), found["p"] or "")

    def __str__(self) -> str:
        return f"{self.benchmark}/{self.mode}" if self.setting else self.benchmark

    @property
    def mode(self) -> str:
        """What follows the benchmark's name in the names of its scores."""
        parts = [
            self.setting,
            *([] if self.shots is None else [f"{self.shots}shot"]),
            *([] if self.samples == 1 else [f"sc{self.samples}"]),
            *([self.split] if self.split else []),
        ]
        return "-".join(parts)
