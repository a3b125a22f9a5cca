"""A language model whose tokens are letters and whose answers a test decides."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field

from flanscale.evaluation.protocol import Choice, Question, Sampling, Scored, Written


@dataclass
class FakeModel:
    """Answers in batches of two, the last question first."""

    says: Callable[[str, int], str] = lambda prompt, sample: ""
    """What it writes behind a prompt, for each sample."""
    thinks: Callable[[str, str], float] = lambda prompt, option: -float(len(option))
    """The log-probability of an option behind a prompt."""
    room: int = 10_000
    spells: Callable[[str], str] = lambda text: text
    asked: list[str] = field(default_factory=list)
    """Every prompt that it was given, in the order in which it answered."""
    given: list[dict] = field(default_factory=list)
    """How it was asked, call by call."""

    def tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    def context_limit(self, new_tokens: int) -> int:
        return self.room - new_tokens

    def spelled(self, texts: Sequence[str]) -> list[str]:
        return [self.spells(text) for text in texts]

    def generate(
        self,
        questions: Sequence[Question],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        sampling: Sampling,
        done: Container[int] = (),
    ) -> Iterator[dict[int, list[Written]]]:
        self.given.append({"max_new_tokens": max_new_tokens, "stop": tuple(stop), "sampling": sampling})
        for batch in _batches(len(questions), done):
            answers = {}
            for place in batch:
                question = questions[place]
                self.asked.append(question.prompt)
                assert len(question.prompt) <= self.context_limit(max_new_tokens)
                texts = [self.says(question.prompt, sample) for sample in range(question.samples)]
                answers[place] = [
                    Written(text[:max_new_tokens], min(len(text), max_new_tokens), len(text) < max_new_tokens, -1.0)
                    for text in texts
                ]
            yield answers

    def score(self, choices: Sequence[Choice], done: Container[int] = ()) -> Iterator[dict[int, list[Scored]]]:
        for batch in _batches(len(choices), done):
            self.asked += [choices[place].prompt for place in batch]
            yield {
                place: [
                    Scored((self.thinks(choices[place].prompt, option),), greedy=False)
                    for option in choices[place].options
                ]
                for place in batch
            }


def _batches(count: int, done: Container[int]) -> Iterator[list[int]]:
    places = list(range(count))[::-1]
    for start in range(0, count, 2):
        batch = places[start : start + 2]
        if not all(place in done for place in batch):
            yield batch
