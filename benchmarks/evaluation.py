"""How many items of a benchmark does a model answer and are scored in a second?

One command: `python benchmarks/evaluation.py --model t5_base --data DIR` (the project's own environment); prints a JSON
line. With `--data` the held-out tasks of Super-NaturalInstructions in DIR, in T5's vocabulary; without it the embedded
ones. The weights are random, so that no answer ends early.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from training import devices, our_model, parser_of


def overrides(options: argparse.Namespace) -> list[str]:
    widths = ["trainer.input_tokens=1024", "trainer.target_tokens=128"]
    rest = [f"evaluation.items={options.examples}", f"evaluation.batch_size={options.batch}"]
    if options.data is None:
        return [*rest, *widths]
    vocabulary = f"tokenizer.vocabulary={options.data / 'tokenizer' / 't5.spiece.model'}"
    return [
        "collection=niv2",
        "evaluation=niv2",
        "tokenizer=t5",
        vocabulary,
        f"data.root={options.data}",
        *rest,
        *widths,
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, help="folder with niv2/ and tokenizer/")
    parser.add_argument("--examples", type=int, default=10, help="of each task")
    parser.add_argument("--batch", type=int, default=64, help="items answered together")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    config, model = our_model(options, *overrides(options))
    import jax

    from flanscale.evaluation import heldout
    from flanscale.inference.engine import Engine
    from flanscale.inference.language_model import TrainedModel, context_of
    from flanscale.pipeline.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(config.tokenizer)
    params = jax.jit(model.init)(jax.random.key(0))
    asked = TrainedModel(Engine(model, params, config.evaluation.batch_size), tokenizer, context_of(config))
    benchmark, items = heldout.asked_of(config)
    seconds = []
    for _ in range(2):  # the first compiles
        began = time.perf_counter()
        answers = heldout.answer(items, asked, config.evaluation)
        heldout.summarise(answers, benchmark, config.evaluation)
        seconds.append(time.perf_counter() - began)
    settings = "+".join(config.evaluation.settings)
    figures = {"items": len(items), "items/s": len(items) / seconds[1], "first": seconds[0], "then": seconds[1]}
    print(json.dumps(devices() | {"what": f"{options.model}, {benchmark} {settings}"} | figures))


if __name__ == "__main__":
    main()
