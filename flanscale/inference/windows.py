"""What does a model read of what is longer than its context? Ends of prompts, and pieces of options.

A decoder's start token stays where it is cut, as its rows have it in training. C positions of context.
"""

from __future__ import annotations

from collections.abc import Sequence

from flanscale.inference.scoring import Continuations


def end_of(prompt: Sequence[int], room: int, start: Sequence[int] = ()) -> list[int]:
    """The prompt where it has room, else its last tokens behind the start token that it has; at least one token."""
    own = max(room, 1) - len(start)
    return list(prompt) if len(prompt) <= room else [*start, *prompt[len(prompt) - own :]]


def within(asked: Continuations, context: int, start: Sequence[int] = ()) -> list[tuple[int, Continuations]]:
    """What a decoder reads, each with the place of the first option that it scores.

    A context loses its beginning where it is too long for the longest option: all options stand behind the same. Where
    an option alone is too long, each is read in windows of C, as long documents are in language modelling: every token
    is scored once, the first of a window behind the last of the window before, those of the last window behind C.
    """
    longest = max(map(len, asked.options))
    if longest <= context:  # the last token of an option is not read
        return [(0, Continuations(end_of(asked.context, context - longest + 1, start), asked.options))]
    return [
        (place, window)
        for place, option in enumerate(asked.options)
        for window in _windows(start or asked.context[-1:], option, context, start)
    ]


def behind_encoder(asked: Continuations, context: int) -> list[tuple[int, Continuations]]:
    """What an encoder-decoder reads: the last C tokens of a context, and behind it pieces of C tokens of an option."""
    read = end_of(asked.context, context)
    if max(map(len, asked.options)) <= context:
        return [(0, Continuations(read, asked.options))]
    return [
        (place, Continuations(read, [option[at : at + context]]))
        for place, option in enumerate(asked.options)
        for at in range(0, max(len(option), 1), context)
    ]


def _windows(before: Sequence[int], option: Sequence[int], context: int, start: Sequence[int]) -> list[Continuations]:
    found, done = [Continuations(before, [option[:context]])], context
    while done < len(option):
        count = min(context - len(start), len(option) - done)
        seen = context - len(start) - count + 1
        found.append(Continuations([*start, *option[done - seen : done]], [option[done : done + count]]))
        done += count
    return found
