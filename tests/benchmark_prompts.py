"""One hash of all that a benchmark asks in a setting: a benchmark's version stands for it."""

from __future__ import annotations

import hashlib

from flanscale.evaluation.item import Ask, Benchmark

CHANGED = "a changed prompt bumps the benchmark's version: scores of two versions are not compared"


def prompt_hashes(benchmark: Benchmark) -> dict[str, str]:
    """Sixteen characters for each setting, over the prompts and options of every item of every split."""
    hashes = {}
    for setting in benchmark.settings:
        whole = hashlib.sha256()
        for split in benchmark.splits:
            for item in benchmark.asked(Ask(benchmark.name, setting.name, split=split)).items:
                whole.update("\x00".join((item.key, item.prompt.text(), *item.options, "\x01")).encode())
        hashes[setting.name] = whole.hexdigest()[:16]
    return hashes
