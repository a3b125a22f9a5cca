"""Which answers can a vocabulary not spell? Those that would be learnt as its unknown token, counted for each task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flanscale.pipeline.ragged import Ragged

MUCH = 0.5  # share of a task's answers from which on it is warned of
NAMED = 3  # tasks in a line


def unspelt(texts: Ragged, unknown_id: int | None) -> int:
    """How many of the texts hold the unknown token; none where a vocabulary spells everything."""
    if unknown_id is None:
        return 0
    before = np.concatenate([[0], np.cumsum(texts.tokens == unknown_id)])
    return int(np.count_nonzero(before[texts.starts + texts.lengths] > before[texts.starts]))


def warning(shares: Mapping[str, float], tasks: int) -> str | None:
    """One line that names tasks of which more than half of the answers cannot be spelt; None where there is none.

    Args:
        shares: task → share of its answers that hold the unknown token.
        tasks: of the mixture.
    """
    bad = {task: share for task, share in shares.items() if share > MUCH}
    if not bad:
        return None
    return (
        f"the vocabulary cannot spell more than half of the answers of {len(bad):,} of {tasks:,} tasks, learnt"
        f" as its unknown token: {_named(bad)}; tokenizer=bytes spells everything"
    )


def summary(shares: Mapping[str, float], tasks: int) -> str | None:
    """One line about tasks of which some answers cannot be spelt; None where there is none."""
    some = {task: share for task, share in shares.items() if 0 < share <= MUCH}
    if not some:
        return None
    return f"the vocabulary cannot spell some answers of {len(some):,} of {tasks:,} tasks: {_named(some)}"


def _named(shares: Mapping[str, float]) -> str:
    """Tasks with their shares, the worst first."""
    worst = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
    more = f" and {len(worst) - NAMED:,} more" if len(worst) > NAMED else ""
    return ", ".join(f"{task} ({share:.0%})" for task, share in worst[:NAMED]) + more
