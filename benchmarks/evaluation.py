"""How many items of a benchmark does a model answer in a second, beside lm-evaluation-harness and transformers?

One command: `python benchmarks/evaluation.py --peer PYTHON --data DIR`, where PYTHON is the interpreter of an
environment with benchmarks/requirements.txt and DIR holds mmlu/, bbh/, tydiqa/ and tokenizer/t5.spiece.model. What each
side does is said in benchmarks/README.md. The weights are random: no answer ends early, and scores mean nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from training import Round, begin, devices, leave_weights, our_model, parser_of, serve, take_turns, their_model

DECODER = (  # of 55 million parameters, in T5's vocabulary
    "model=smollm2_135m",
    *("model.d_model=512", "model.n_layers=12", "model.n_heads=8", "model.n_kv_heads=8", "model.head_dim=64"),
    *("model.d_ff=1408", "model.vocab_size=32128", "model.bos_id=null", "model.scan=false"),
)


class Case(NamedTuple):
    """One line of a suite, and how many items of each subtask are asked."""

    model: tuple[str, ...]
    line: str
    items: int | None
    new: int = 0
    batch: int = 8  # of the peer: the fastest of those tried


CASES = {
    "letters": Case(DECODER, "mmlu/letters", 9),
    "cloze": Case(DECODER, "mmlu/cloze", 9),
    "bbh": Case(DECODER, "bbh/cot", 8, new=128, batch=32),
    "bbh-sc8": Case(DECODER, "bbh/cot-sc8", 2, new=128, batch=32),
    "tydiqa": Case(DECODER, "tydiqa/direct", 16, new=32, batch=16),
    "t5": Case(("model=t5_1_0_small", "model.scan=false"), "mmlu/letters-0shot", 9),
}


def ours(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    from dataclasses import replace

    from flanscale.evaluation.opening import suite_of

    case = CASES[options.case]
    most = options.items or case.items
    spiece = options.data / "tokenizer" / "t5.spiece.model"
    given = [
        *case.model, "collection=niv2", "tokenizer=t5", f"tokenizer.vocabulary={spiece}", f"data.root={options.data}",
        "evaluation.suite=speed", f"evaluation.asks=[{case.line}]", f"evaluation.items={most or 'null'}",
        f"evaluation.batch_size={options.rows}", f"trainer.precision={options.precision}", *options.set,
    ]  # fmt: skip
    config, model = our_model(options, *given)
    import jax

    from flanscale.evaluation.asking import ask
    from flanscale.inference.engine import Engine
    from flanscale.inference.language_model import TrainedModel
    from flanscale.pipeline.tokenizers import load_tokenizer

    params = jax.jit(model.init)(jax.random.key(0))
    leave_weights(options.folder, model, params)
    suite = suite_of(config)
    (line,) = suite.lines
    if options.case == "letters":  # one token each, so that the peer reads a context once for all four
        letters = tuple(f" {letter}" for letter in "ABCD")
        items = tuple(replace(item, options=letters) for item in line.asked.items)
        line = replace(line, asked=replace(line.asked, items=items))
    if case.new:
        line = replace(line, setting=replace(line.setting, max_new_tokens=case.new, stop=()))
    tokenizer = load_tokenizer(config.tokenizer)
    asked = TrainedModel(Engine(model, params, options.rows), tokenizer, 4096)
    if options.folder:
        _leave_questions(options, line.asked.items, asked, case)

    def answer() -> list[Any]:
        return [record for batch in ask(line, asked, suite.sampling) for record in batch]

    began = time.perf_counter()
    records = answer()
    about = {"first_call_seconds": time.perf_counter() - began, "items": len(records)}
    if options.folder:
        scores = {record.key: [option.logprob for option in record.options] for record in records}
        (options.folder / "ours.json").write_text(json.dumps(scores))
    return devices() | about, lambda number: {"calls": 1, "tokens": len(answer())}


def _leave_questions(options: argparse.Namespace, items: Any, asked: Any, case: Case) -> None:
    """What the peer is asked: the same token ids, so that it need not tokenise."""
    from flanscale.evaluation.protocol import Choice

    if case.new:
        prompts = asked._prompts([item.prompt.text() for item in items])
        rows = [{"key": item.key, "ids": ids} for item, ids in zip(items, prompts, strict=True)]
    else:
        parted = asked._continuations([Choice(item.prompt.text(), item.options) for item in items])
        rows = [
            {"key": item.key, "context": list(one.context), "options": [list(option) for option in one.options]}
            for item, one in zip(items, parted, strict=True)
        ]
    (options.folder / "questions.json").write_text(json.dumps(rows))


def theirs(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    model, about = their_model(options, 0.0, options.precision)
    model.eval()
    case, rows = CASES[options.case], json.loads((options.folder / "questions.json").read_text())
    answer = _generating(model, rows, case) if case.new else _scoring(model, rows, case, options)
    began = time.perf_counter()
    scores = answer()
    about |= {"first_call_seconds": time.perf_counter() - began, "batch": case.batch}
    if not case.new:
        own = json.loads((options.folder / "ours.json").read_text())
        about["largest difference of a log-likelihood"] = max(
            abs(a - b)
            for row, theirs in zip(rows, scores, strict=True)
            for a, b in zip(own[row["key"]], theirs, strict=True)
        )

    def measure(number: int) -> dict[str, Any]:
        answer()
        return {"calls": 1, "tokens": len(rows)}

    return about, measure


def _scoring(model: Any, rows: list[dict[str, Any]], case: Case, options: argparse.Namespace) -> Any:
    from lm_eval.models.huggingface import HFLM
    from transformers import T5Tokenizer

    folder = options.folder / "vocabulary"
    folder.mkdir()
    shutil.copy(options.data / "tokenizer" / "t5.spiece.model", folder / "spiece.model")
    tokenizer = T5Tokenizer.from_pretrained(folder, extra_ids=0)
    backend = "seq2seq" if model.config.is_encoder_decoder else "causal"
    harness = HFLM(pretrained=model, tokenizer=tokenizer, backend=backend, batch_size=case.batch, max_length=4096)
    asked = [
        ((str(number), str(place)), row["context"], option)
        for number, row in enumerate(rows)
        for place, option in enumerate(row["options"])
    ]

    def answer() -> list[list[float]]:
        found = iter(harness._loglikelihood_tokens(asked, disable_tqdm=True))
        return [[next(found)[0] for _ in row["options"]] for row in rows]

    return answer


def _generating(model: Any, rows: list[dict[str, Any]], case: Case) -> Any:
    import torch

    samples = 8 if "-sc8" in case.line else 1
    how = {"min_new_tokens": case.new, "max_new_tokens": case.new, "num_beams": 1, "num_return_sequences": samples}
    how |= {"do_sample": True, "temperature": 0.7, "top_k": 0} if samples > 1 else {"do_sample": False}
    prompts = sorted((row["ids"] for row in rows), key=len)
    size = max(1, case.batch // samples)

    @torch.inference_mode()
    def answer() -> None:
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            width = max(map(len, batch))
            ids = torch.tensor([[0] * (width - len(one)) + one for one in batch])
            mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch])
            model.generate(ids, attention_mask=mask, use_cache=True, pad_token_id=0, **how)

    return answer


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--case", choices=tuple(CASES), nargs="+", default=tuple(CASES))
    parser.add_argument("--items", type=int, help="of each subtask at most, in place of a case's own number")
    parser.add_argument("--rows", type=int, default=32, help="answers that our side writes together")
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmarks and the vocabulary")
    options = parser.parse_args()
    if options.side:
        options.case = options.case[0]
        serve(options, {"flanscale": ours, "transformers": theirs}[options.side])
        return
    begin(options, parser)
    for name in options.case:
        case = CASES[name]
        print(
            f"\n{name}: {case.line}, {options.items or case.items} items of a subtask at most, {options.precision},"
            f" {options.threads} threads"
        )
        own = ["--case", name, "--rows", str(options.rows), "--data", str(options.data.absolute())]
        turns = take_turns(options, [*own, *(["--items", str(options.items)] if options.items else [])])
        for side, about in turns.about.items():
            print(f"  {side:13} {json.dumps(about)}")
        turns.show("items/s")


if __name__ == "__main__":
    main()
