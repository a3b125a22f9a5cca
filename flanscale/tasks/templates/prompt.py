"""What is an example as text? An input in parts, so that worked examples can be left out of it, and a target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One example as text. The parts make the input when they are put together as they are."""

    question: str
    target: str
    preamble: str = ""
    """What is said once, before all worked examples."""
    shots: tuple[str, ...] = ()
    """The worked examples, each with what parts it from the next."""

    @property
    def input(self) -> str:
        return self.preamble + "".join(self.shots) + self.question
