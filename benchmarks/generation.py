"""How fast does a T5 or a decoder answer greedily, beside transformers' generate on the same cores or card?

One command: `python benchmarks/generation.py --peer PYTHON`, where PYTHON is the interpreter of an environment with
benchmarks/requirements.txt. What each side does is said in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from training import (
    EOS,
    Round,
    begin,
    devices,
    leave_weights,
    our_model,
    parser_of,
    serve,
    take_turns,
    their_model,
)


def prompts_of(options: argparse.Namespace) -> Any:
    """Random prompts [B, P] that end in EOS, as an encoder reads them."""
    import numpy as np

    prompts = np.random.default_rng(0).integers(3, 32000, (options.rows, options.prompt))
    prompts[:, -1] = EOS
    return prompts


def ours(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    _, model = our_model(options)
    import jax
    import numpy as np

    from flanscale.evaluation.protocol import ordered
    from flanscale.inference.engine import Engine
    from flanscale.inference.programs import Drawing
    from flanscale.inference.writing import Limits, write

    params = jax.jit(model.init)(jax.random.key(0))
    leave_weights(options.folder, model, params)
    bos = model.config.bos_id if model.config.architecture == "decoder" else None
    prompts = [[*([] if bos is None else [bos]), *prompt] for prompt in prompts_of(options).tolist()]
    engine, limits = Engine(model, params, options.rows), Limits(options.new, eos_ids=(-1,))  # no row may end early
    keys = np.zeros((len(prompts), 1, 2), np.uint32)  # which nothing is drawn by

    def generate() -> list[list[int]]:
        return [answer.tokens for (answer,) in ordered(write(engine, prompts, limits, Drawing(), keys))]

    return devices() | _first(options, generate), _round(options, generate)


def theirs(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    model, about = their_model(options, 0.0, options.precision)
    import torch

    model.eval()
    prompts, start = torch.as_tensor(prompts_of(options)).to(model.device), 1  # an answer stands behind its start token
    if not model.config.is_encoder_decoder:  # or behind the prompt
        if (bos := model.config.bos_token_id) is not None:
            prompts = torch.nn.functional.pad(prompts, (1, 0), value=bos)
        start = prompts.shape[1]
    how = {"min_new_tokens": options.new, "max_new_tokens": options.new, "do_sample": False, "num_beams": 1}
    if options.peer_static:
        how["cache_implementation"] = "static"

    @torch.inference_mode()
    def generate() -> list[list[int]]:
        tokens = model.generate(prompts, attention_mask=torch.ones_like(prompts), use_cache=True, **how)
        answers: list[list[int]] = tokens[:, start:].tolist()
        return answers

    return about | _first(options, generate), _round(options, generate)


def _first(options: argparse.Namespace, generate: Any) -> dict[str, Any]:
    """The first answers, with what it took to compile."""
    began = time.perf_counter()
    answers = generate()
    return {"first_call_seconds": time.perf_counter() - began} | _noted(options, answers)


def _noted(options: argparse.Namespace, answers: list[list[int]]) -> dict[str, Any]:
    """Leaves the answers for the comparison of both sides' tokens."""
    assert all(len(answer) == options.new for answer in answers)
    (options.folder / f"{options.side}.json").write_text(json.dumps(answers))
    both = [options.folder / f"{side}.json" for side in ("flanscale", "transformers")]
    if not all(path.exists() for path in both):
        return {}
    one, other = (json.loads(path.read_text()) for path in both)
    same = sum(a == b for mine, yours in zip(one, other, strict=True) for a, b in zip(mine, yours, strict=True))
    return {"equal tokens": f"{same} of {options.rows * options.new}"}


def _round(options: argparse.Namespace, generate: Any) -> Round:
    def measure(number: int) -> dict[str, Any]:
        for _ in range(options.calls):
            generate()
        return {"calls": options.calls, "tokens": options.calls * options.rows * options.new}

    return measure


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=(8, 32), help="prompts answered together")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of each prompt, its EOS among them")
    parser.add_argument("--new", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--calls", type=int, default=2, help="of a round")
    parser.add_argument(
        "--peer-static", action="store_true", help="a static cache, with which a GPU's steps are compiled"
    )
    options = parser.parse_args()
    if options.side:
        options.rows = options.rows[0]
        serve(options, {"flanscale": ours, "transformers": theirs}[options.side])
        return
    begin(options, parser)
    for rows in options.rows:
        shape = f"{rows} prompts of {options.prompt} tokens, {options.new} new ones"
        print(f"\n{options.model}, {shape}, {options.precision}, {options.threads} threads")
        own = ["--rows", rows, "--prompt", options.prompt, "--new", options.new, "--calls", options.calls]
        flags = ["--peer-static"] if options.peer_static else []
        turns = take_turns(options, [*map(str, own), *flags])
        for name, about in turns.about.items():
            print(f"  {name:13} {json.dumps(about)}")
        turns.show("new tokens/s")


if __name__ == "__main__":
    main()
