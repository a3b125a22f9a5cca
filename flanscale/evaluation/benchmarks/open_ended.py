"""How are open-ended instructions asked? As their authors asked them, with or without a chain of thought.

The 252 user-oriented instructions of Self-Instruct (Wang et al. 2022). The prompt is the one that stands with
every prediction that they publish (`human_eval/predictions` of yizhongw/self-instruct): the instruction, the input
behind `Input:` where there is one, `Output:`. The chain of thought is triggered as in Kojima et al. (2022), and as
Chung et al. (2022, §6) trigger it in open-ended questions: by a phrase, without an example.

No rule can tell right from wrong here, so there are no references and no scores: people judge the answers of two
models side by side. Nothing ends an answer but the model: writing on after it is a fault that they must see. Chung et
al. draw five samples at temperature 0.7 of each answer, of which `preference.shown` chooses one.

All are one subtask: the applications that motivated them are 71 for 252 instructions, too few each to say anything of.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.item import Asked, Benchmark, Item, Prompt, Setting
from flanscale.tasks import benchmark_files as files

VERSION = 1
SUBTASK = "user_oriented"
TRIGGER = {"direct": "", "cot": f" {files.THINK}"}
NOTE = (
    "Chung et al. (2022) judged 190 prompts of their own, which are not public: win rates on the user-oriented"
    " instructions cannot be compared with theirs"
)


def benchmark(folder: Path) -> Benchmark:
    """Of a folder with `user_oriented_instructions.jsonl`."""
    settings = tuple(
        # 251 of the 252 experts' own answers have at most as many of T5's tokens
        Setting(name, shots=0, extract=_whole, metrics=(), max_new_tokens=512)
        for name in TRIGGER
    )
    return Benchmark("open_ended", VERSION, settings, partial(_read, folder))


def _read(folder: Path, setting: str, shots: int, split: str) -> Asked:
    if shots:
        raise ConfigError(f"open_ended/{setting}-{shots}shot: open_ended has no worked examples; ask it with 0shot")
    items: dict[str, Item] = {}
    for item in _items(folder, TRIGGER[setting]):
        if item.key in items:
            raise DataError(f"{_path(folder)}: {item.cluster} is the id of two instructions")
        items[item.key] = item
    if not items:
        raise DataError(f"{_path(folder)}: no instructions here")
    return Asked(tuple(items.values()), floors={}, notes=(NOTE,))


def _items(folder: Path, trigger: str) -> Iterator[Item]:
    for row in files.open_ended(folder):
        if not row.instruction.strip() or not row.instances:
            raise DataError(f"{_path(folder)}: {row.id} has no {'instances' if row.instruction.strip() else 'words'}")
        for number, (given, _) in enumerate(row.instances):
            shown = f"\n\nInput: {given.strip()}" if given.strip() else ""
            prompt = Prompt("", (), f"{row.instruction.strip()}{shown}\nOutput:{trigger}")
            yield Item(f"{row.id}/{number}", SUBTASK, prompt, references=(), cluster=row.id)


def _whole(text: str, item: Item) -> str | None:
    return text.strip() or None


def _path(folder: Path) -> Path:
    return folder / "user_oriented_instructions.jsonl"
