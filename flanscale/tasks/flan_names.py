"""Which task of the catalogue does a name in the rendered Flan 2022 collection mean? FLAN writes other names into rows.

Facts of google-research/FLAN at e9e4ec6, `flan/v2`, where `prep.add_source_info` names every row:

- Flan 2021 (`task_configs_v1.py`, `utils.reset_split_maxes_on_flan_v0_configs`): the data set in TensorFlow Datasets
  with its version, `super_glue/wsc.fixed:1.0.2`; `TFDS_NAMES` has those that are not the catalogue's name anyhow.
- CoT (`task_configs.py`): `cot_` before the seven data sets of good rationales and `stream_` before the two others,
  where the catalogue, after FLAN's table, has `stream_` before seven.
- `_ii` after a CoT or dialog task (`input_inversion` in FLAN's own code) is the task turned round, which the paper's
  count of tasks does not count: its rows are rows of the task.
- P3 (`constants_t0.py`): the prompt, in code behind `t0_task_adaptation:` or `huggingface:bigscience__p3/`.
- NIv2: the task file's name, with or without what follows its first dot.

Copies write these names with other separators (`glue_mnli:2.0.0`, `squad_v1_1_3_0_0`): only letters and digits count.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from flanscale.tasks.catalog import catalogued

TFDS_NAMES = {
    "ai2_arc/ARC-Challenge": "arc_challenge",
    "ai2_arc/ARC-Easy": "arc_easy",
    "gem/common_gen": "common_gen",
    "gem/dart": "dart",
    "gem/e2e_nlg": "e2e_nlg",
    "gem/web_nlg_en": "web_nlg_en",
    "gem/wiki_lingua_english_en": "wiki_lingua_english_en",
    "glue/cola": "cola",
    "glue/mnli": "mnli_matched",
    "mnli": "mnli_matched",
    "glue/qnli": "qnli",
    "glue/sst2": "sst2",
    "glue/stsb": "stsb",
    "glue/wnli": "wnli",
    "imdb_reviews/plain_text": "imdb_reviews",
    "math_dataset/algebra__linear_1d": "math_dataset",
    "natural_questions_open": "natural_questions",
    "squad/v1.1": "squad_v1",
    "squad/v2.0": "squad_v2",
    "story_cloze/2016": "story_cloze",
    "super_glue/cb": "cb",
    "super_glue/copa": "copa",
    "super_glue/multirc": "multirc",
    "super_glue/record": "record",
    "super_glue/rte": "rte",
    "super_glue/wic": "wic",
    "super_glue/wsc.fixed": "wsc",
    "trivia_qa/rc": "trivia_qa",
    "wmt14_translate/fr-en": "wmt14_enfr",
    **{
        f"wmt16_translate/{tongue}-en": f"wmt16_translate_{tongue}en" for tongue in ("cs", "de", "fi", "ro", "ru", "tr")
    },
}
NEVER_RENDERED = {
    **dict.fromkeys(
        (
            *("dmcc_python", "dr_repair_error_comments", "dr_repair_line_numbers", "dr_repair_no_errors"),
            *("dr_repair_plain_code", "task_master"),
        ),
        "FLAN could not release it, so no copy of the collection has it",
    ),
    "mnli_mismatched": "FLAN calls the rows of both MNLI tasks glue/mnli; all of them are mnli_matched's",
    "trivia_qa_wiki_missing": "it is in FLAN's table but not in its code, so no copy of the collection has it",
}
"""Tasks of the catalogue for which no row can be found → why (`flan/v2/README.md`, `task_configs_v1.py`)."""

_BEFORE = re.compile(
    r"^(t0_task_adaptation:|(huggingface[:_])?(bigscience(__|/)p3/)?|program_synthesis_)", re.IGNORECASE
)
_VERSION = re.compile(r"[:_ ]\d+[._]\d+[._]\d+$")
_INVERTED = re.compile(r"_input_inversion(?=_|$)|_ii$")


@lru_cache(maxsize=1 << 14)
def catalogue_name(raw: str, group: str) -> str | None:
    """The task of a catalogue's group that rows named `raw` belong to; None where the catalogue has none."""
    if raw in catalogued(group):
        return raw
    bare = _BEFORE.sub("", raw)
    known = _spellings(group)
    for text in (bare, _VERSION.sub("", bare), bare.partition(".")[0] if group == "niv2" else bare):
        spelt = _spelt(text)
        if group in ("cot", "muffin"):
            spelt = _INVERTED.sub("", spelt)
        if spelt in known:
            return known[spelt]
    return None


@cache
def _spellings(group: str) -> dict[str, str]:
    """Every spelling of a group's tasks, in letters and digits alone → task."""
    tasks = catalogued(group)
    known = {_spelt(name): name for name in tasks}
    if group == "cot":
        known |= {_spelt(f"{kind}_{row.dataset}"): name for name, row in tasks.items() for kind in ("cot", "stream")}
    elif group == "muffin":
        known |= {_spelt(name): task for name, task in TFDS_NAMES.items()}
    elif group == "niv2":
        known |= {_spelt(name.partition(".")[0]): name for name in tasks}
    return known


def _spelt(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
