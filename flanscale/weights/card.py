"""What should somebody know who finds these weights? The README.md of an exported folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import yaml

from flanscale import __version__
from flanscale.config.checks import leaves
from flanscale.models import Params
from flanscale.run_directory import Code, identity_of, read_attempts, read_mixture, read_rows
from flanscale.schema import RunConfig
from flanscale.tracking.keys import AVERAGE, eval_key, scored

SEQ2SEQ, CAUSAL = "AutoModelForSeq2SeqLM", "AutoModelForCausalLM"


def card(run_dir: Path, config: RunConfig, config_json: Mapping[str, Any], params: Params) -> str:
    """A model card: what it learnt, how it answers, what it scored, and everything needed to make it again."""
    parts = [_front_matter(config), _title(config, params), _learnt(run_dir, config), _use(config), _scores(run_dir)]
    return "\n\n".join(part for part in [*parts, _provenance(run_dir, config, config_json)] if part) + "\n"


def _front_matter(config: RunConfig) -> str:
    task = "text2text-generation" if config.model.architecture == "encoder_decoder" else "text-generation"
    head = {"library_name": "transformers", "pipeline_tag": task, "tags": ["flanscale", "instruction-finetuning"]}
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---"


def _title(config: RunConfig, params: Params) -> str:
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    arm = "with rationales" if config.cot else "without rationales"
    return (
        f"# {config.model.name}, {config.mixture.count:,} tasks, {arm}\n\n"
        f"One cell of a flanscale study: {count:,} parameters, finetuned on {config.mixture.count:,} tasks of the"
        f" collection {config.collection.name} for {config.trainer.steps:,} steps."
    )


def _learnt(run_dir: Path, config: RunConfig) -> str:
    start = "random parameters"
    if config.init.hf is not None:
        start = f"the pretrained weights `{Path(config.init.hf).name}` (content {config.fingerprints.get('init')})"
    elif config.init.run is not None:
        start = f"the last checkpoint of {config.fingerprints.get('init')}"
    lines = ["## What it learnt", "", f"It started from {start}."]
    if config.mixture.count and (content := read_mixture(run_dir)):
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in content["tasks"]:
            groups.setdefault(str(row["group"]), []).append(row)
        lines += ["", f"Realised mixture, fingerprint `{content['fingerprint']}`:", ""]
        lines += ["| group | tasks | examples | share of the draws |", "| --- | ---: | ---: | ---: |"]
        for name, rows in groups.items():
            examples, share = sum(row["examples"] for row in rows), sum(row["weight"] for row in rows)
            lines.append(f"| {name} | {len(rows):,} | {examples:,} | {share:.1%} |")
        lines += [
            "",
            "The texts keep the licences of their datasets; whoever passes these weights on should read them.",
        ]
    return "\n".join(lines)


def _use(config: RunConfig) -> str:
    seq2seq = config.model.architecture == "encoder_decoder"
    kind = SEQ2SEQ if seq2seq else CAUSAL
    lines = [
        "## How it answers",
        "",
        "It was trained on instructions as plain text, without a chat template, and answers by greedy decoding.",
        "",
        "```python",
        f"from transformers import AutoTokenizer, {kind}",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        f'model = {kind}.from_pretrained("FOLDER")',
        'prompt = tokenizer("Is the sky blue on a clear day?", return_tensors="pt")',
        "new = model.generate(**prompt, max_new_tokens=32)",
        f"print(tokenizer.decode(new[0]{'' if seq2seq else '[prompt.input_ids.shape[1]:]'}, skip_special_tokens=True))",
        "```",
    ]
    return "\n".join(lines)


def _scores(run_dir: Path) -> str:
    rows = [row for row in read_rows(run_dir) if any(key.startswith("eval/") for key in row)]
    if not rows:
        return ""
    last = rows[-1]
    lines = ["## What it scored", "", "| benchmark | setting | score (%) | standard error | items |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    for benchmark, setting in sorted(scored(last)):
        score, stderr, items = (last.get(eval_key(benchmark, setting, field)) for field in ("score", "stderr", "n"))
        lines.append(f"| {benchmark} | {setting} | {_number(score)} | {_number(stderr)} | {items} |")
    if AVERAGE in last:
        members = ", ".join(last.get(f"{AVERAGE}_members") or [])
        lines += ["", f"Normalised average {_number(last[AVERAGE])} over: {members}."]
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else str(value)


def _provenance(run_dir: Path, config: RunConfig, config_json: Mapping[str, Any]) -> str:
    attempts = read_attempts(run_dir)
    last = attempts[-1] if attempts else None
    code = last.code if last and last.code else Code()
    commit = f"{code.commit}{' with local changes' if code.dirty else ''}" if code.commit else "unknown"
    table = {
        "cell": identity_of(run_dir),
        "flanscale": f"{last.flanscale if last else __version__}, commit {commit}",
        "written as": f"{config_json['architectures'][0]}, {config_json['dtype']}",
        "JAX": (last.packages or {}).get("jax", "unknown") if last else "unknown",
        "devices": ", ".join(last.devices or []) if last and last.devices else "unknown",
        **{f"fingerprint of {name}": f"`{value}`" for name, value in sorted(config.fingerprints.items())},
    }
    science = {name: value for name, field, value in leaves(config) if field.metadata["changes_result"]}
    lines = ["## Where it comes from", "", "| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in table.items()), ""]
    lines += [
        "Every knob that changes the result:",
        "",
        "```yaml",
        yaml.safe_dump(science, sort_keys=True).rstrip(),
        "```",
    ]
    return "\n".join(lines)
