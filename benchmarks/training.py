"""How fast is a training step of a T5 or a decoder, beside transformers on the same cores or card?

One command: `python benchmarks/training.py --peer PYTHON`, where PYTHON is the interpreter of an environment with
benchmarks/requirements.txt; `--device gpu --precision bfloat16 --rows 64` where JAX and torch see a GPU. What each side
does is said in benchmarks/README.md. Also here: how two sides take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

VOCABULARY, EOS = 32128, 1
MODEL = "t5_1_0_small"  # 60.5 million parameters
OPTIMIZERS = {
    "adamw": {"learning_rate": 1e-4, "b1": 0.9, "b2": 0.98, "weight_decay": 0.01},
    "adafactor": {"learning_rate": 1e-3, "decay_rate": 0.8},
}

Round = Callable[[int], dict[str, Any]]  # one measurement, by its number; what it did, in numbers
Build = Callable[[argparse.Namespace], tuple[dict[str, Any], Round]]  # what a side says of itself, when warmed up


# --- two sides in turns -------------------------------------------------------------------------------------------


@dataclass
class Side:
    """A process that measures when it is asked to and sleeps in between; it speaks JSON, a line at a time."""

    process: subprocess.Popen[str]

    @staticmethod
    def start(python: str, name: str, arguments: Sequence[str]) -> Side:
        command = [python, str(Path(sys.argv[0]).resolve()), *arguments, "--side", name]
        return Side(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def said(self) -> dict[str, Any]:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit(f"a side ended with {self.process.wait()}: {' '.join(map(str, self.process.args))}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, number: int) -> dict[str, Any]:
        print(number, file=self.process.stdin, flush=True)
        return self.said()

    def end(self) -> None:
        self.process.communicate()


def serve(options: argparse.Namespace, build: Build) -> None:
    """One side: builds, warms up, and measures as often as standard input asks."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to standard error
    if options.device == "cpu":
        os.environ["JAX_PLATFORMS"], os.environ["CUDA_VISIBLE_DEVICES"] = "cpu", ""
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    about, measure = build(options)
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        done = measure(int(line))
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        done |= {"seconds": seconds, "cpu": cpu, "peak_gib": peak_gib(options)}
        print(json.dumps(done), file=answers, flush=True)


def peak_gib(options: argparse.Namespace) -> float:
    """The most memory that this process has held: the card's, or on a CPU the machine's."""
    if options.device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if options.side == "flanscale":
        import jax

        return float(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]) / 2**30
    import torch

    return float(torch.cuda.max_memory_allocated()) / 2**30


@dataclass(frozen=True)
class Turns:
    """What both sides did, round by round."""

    about: dict[str, dict[str, Any]]
    rounds: dict[str, list[dict[str, Any]]]

    def rates(self, side: str, per: str = "seconds") -> list[float]:
        return [done["tokens"] / done[per] for done in self.rounds[side]]

    def ratios(self, per: str = "seconds") -> list[float]:
        return [a / b for a, b in zip(self.rates("flanscale", per), self.rates("transformers", per), strict=True)]

    def show(self, unit: str) -> None:
        for side, rounds in self.rounds.items():
            rate = statistics.median(self.rates(side))
            ms = ", ".join(f"{1000 * done['seconds'] / done['calls']:.0f}" for done in rounds)
            print(f"  {side:13} {rate:10,.0f} {unit}   ms a call, by round: {ms}")
        for per, words in (("seconds", "wall clock"), ("cpu", "CPU seconds")):
            ratios = self.ratios(per)
            listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"  ratio by {words:12} {statistics.median(ratios):6.2f}   rounds: {listed}")
        medians = {side: statistics.median(self.rates(side)) for side in self.rounds}
        print(json.dumps({"unit": unit, **medians, "ratio": statistics.median(self.ratios())}))


def take_turns(options: argparse.Namespace, arguments: Sequence[str]) -> Turns:
    """Both sides built and warmed up, then measured one after the other, `options.rounds` times.

    Ours starts first: the peer reads the weights that it leaves in `--folder`.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        sides, about = {}, {}
        for name, python in (("flanscale", sys.executable), ("transformers", options.peer)):
            sides[name] = Side.start(python, name, [*common(options), *arguments, "--folder", folder])
            ending.callback(sides[name].end)
            about[name] = sides[name].said()
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        loads = []
        for number in range(options.rounds):
            loads.append(os.getloadavg()[0])
            for name, side in sides.items():
                rounds[name].append(side.ask(number))
    print(f"  load average when each round began: {', '.join(f'{load:.1f}' for load in loads)}")
    return Turns(about, rounds)


def parser_of(words: str | None) -> argparse.ArgumentParser:
    """The options that all comparisons with transformers share."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--peer", help="Python of an environment with benchmarks/requirements.txt")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="peer: autocast; in generation its weights",
    )
    parser.add_argument("--model", default=MODEL, help="of conf/model, if transformers has its like")
    parser.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adamw")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of our side: model.remat=full")
    parser.add_argument("--threads", type=int, default=2, help="cores that each side may use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=("flanscale", "transformers"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def common(options: argparse.Namespace) -> list[str]:
    names = ("device", "precision", "model", "optimizer", "threads")
    words = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    return [*words, *(f"--set={override}" for override in options.set)]


def begin(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Checks that there is a peer and prints what the figures are measured on."""
    from input_pipeline import machine

    if not options.peer:
        parser.error("--peer PYTHON: whose environment has torch and transformers?")
    print(machine("jax", "flax"))


# --- both sides' models -------------------------------------------------------------------------------------------


def our_config(options: argparse.Namespace, *overrides: str) -> Any:
    """The configuration of a cell as the options say."""
    from flanscale.config.compose import Composer

    knobs = [f"optimizer.{name}={value}" for name, value in OPTIMIZERS[options.optimizer].items()]
    fixed = ["optimizer.schedule=constant", "optimizer.warmup_steps=0", "optimizer.clip_norm=null"]
    chosen = [f"model={options.model}", f"optimizer={options.optimizer}", f"trainer.precision={options.precision}"]
    return Composer().compose(
        [*chosen, "mixture.count=1", "trainer.z_loss=0", *fixed, *knobs, *overrides, *options.set]
    )


def our_model(options: argparse.Namespace, *overrides: str) -> tuple[Any, Any]:
    """(configuration, model), the process set up as a run of the project is."""
    from flanscale.models import build_model
    from flanscale.training import keep_freed_memory

    keep_freed_memory()
    config = our_config(options, *overrides)
    return config, build_model(config.model, VOCABULARY, config.trainer.precision)


def leave_weights(folder: Path | None, model: Any, params: Any) -> None:
    """The parameters as a folder that transformers loads, where anybody wants them."""
    from flanscale.weights.config_write import write_config
    from flanscale.weights.export import write_folder

    if folder is None:
        return
    (folder / "model").mkdir(parents=True)
    write_folder(folder / "model", model, params, write_config(model.config, model.vocab_size, eos_id=EOS))


def devices() -> dict[str, Any]:
    import jax

    return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}


def reuse_freed_memory() -> None:
    """glibc's malloc keeps freed memory for both sides, as flanscale.training.memory sets it for every run."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def their_model(options: argparse.Namespace, dropout: float, dtype: str = "float32") -> tuple[Any, dict[str, Any]]:
    """transformers' model of the weights that our side left, and what it runs on; freed memory is kept, as by ours."""
    reuse_freed_memory()
    folder = options.folder / "model"
    if not folder.exists():
        raise SystemExit(f"{folder}: no weights here, which our side leaves before its first step")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("highest")
    if AutoConfig.from_pretrained(folder).is_encoder_decoder:
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dropout_rate=dropout, dtype=getattr(torch, dtype))
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    device = "cuda" if options.device == "gpu" else "cpu"
    about = {package: importlib.metadata.version(package) for package in ("torch", "transformers")}
    about["attention"] = model.config._attn_implementation
    about["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return model.to(device), about


def their_optimizer(options: argparse.Namespace, parameters: Any) -> Any:
    knobs = OPTIMIZERS[options.optimizer]
    if options.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        fixed = {"relative_step": False, "scale_parameter": True, "warmup_init": False}
        return Adafactor(parameters, lr=knobs["learning_rate"], decay_rate=-knobs["decay_rate"], **fixed)
    import torch

    rest = {"lr": knobs["learning_rate"], "weight_decay": knobs["weight_decay"], "fused": True}
    return torch.optim.AdamW(parameters, betas=(knobs["b1"], knobs["b2"]), **rest)


@dataclass
class OurStep:
    """The project's own step, fed as its loop feeds it: a batch is placed while the step before is under way."""

    options: argparse.Namespace
    widths: tuple[int, int]
    rows: int
    dropout: float

    def __post_init__(self) -> None:
        shape = (f"trainer.batch_rows={self.rows}", *self._widths(), f"model.dropout={self.dropout}")
        config, model = our_model(self.options, *shape)
        import jax

        from flanscale.models import batch_sharding, build_mesh
        from flanscale.training import build_optimizer
        from flanscale.training.footprint import Setting, with_least_remat
        from flanscale.training.step import abstract_state, build_step, init_state

        model = with_least_remat(Setting(model, config.optimizer, config.trainer))
        self.config, self.model = config, model
        mesh, optimizer = build_mesh(config.trainer.mesh), build_optimizer(config.optimizer, 1000)
        jax.set_mesh(mesh)
        abstract = abstract_state(model, optimizer, mesh)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        init = jax.jit(lambda key: init_state(model, optimizer, key), out_shardings=shardings)
        self.state = init(jax.random.key(0))
        leave_weights(self.options.folder, model, self.state.params)
        self.sharding, self.key = batch_sharding(mesh), jax.random.key(1)
        self.step = build_step(model, optimizer, abstract, z_loss=config.trainer.z_loss)

    def _widths(self) -> tuple[str, str]:
        return f"trainer.input_tokens={self.widths[0]}", f"trainer.target_tokens={self.widths[1]}"

    def __call__(self, batches: Sequence[dict[str, Any]]) -> list[float]:
        """The loss of each step, all of them finished."""
        import jax

        from flanscale.training.distributed import place

        outcomes = []
        for batch in batches:
            self.state, outcome = self.step(self.state, place(self.sharding, batch), self.key)
            outcomes.append(outcome)
            if len(outcomes) > 1:
                jax.block_until_ready(outcomes[-2])
        jax.block_until_ready(self.state.params)
        return [float(outcome.loss) for outcome in outcomes]


@dataclass
class TheirStep:
    """The usual loop: loss, backward, optimizer; autocast where bfloat16 is asked for."""

    options: argparse.Namespace
    dropout: float
    compiled: bool = False

    def __post_init__(self) -> None:
        self.model, self.about = their_model(self.options, self.dropout)
        import torch

        self.model.train()
        self.optimizer = their_optimizer(self.options, self.model.parameters())
        self.called = torch.compile(self.model) if self.compiled else self.model

    def __call__(self, batches: Sequence[dict[str, Any]]) -> list[float]:
        """The loss of each step, all of them finished."""
        import torch

        losses, kind = [], self.model.device.type
        for batch in batches:
            with torch.autocast(kind, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
                loss = self.called(**{name: torch.as_tensor(rows).to(kind) for name, rows in batch.items()}).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        return [loss.item() for loss in losses]


# --- this comparison: rows of one length, nothing packed, nothing padded ------------------------------------------


def tokens_of(options: argparse.Namespace) -> tuple[Any, Any]:
    """Random inputs [B, S] and targets [B, T], the same on both sides."""
    import numpy as np

    rng = np.random.default_rng(0)
    inputs, targets = (rng.integers(3, 32000, (options.rows, width)) for width in options.tokens)
    return inputs, targets


def decoder_rows(options: argparse.Namespace, bos: int | None) -> tuple[Any, Any]:
    """What a decoder reads [B, S + T], behind its start token or else token 0, and predicts: every one of them."""
    import numpy as np

    targets = np.concatenate(tokens_of(options), axis=1)
    return np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=bos or 0), targets


def flops_a_token(config: Any) -> float:
    """Operations of a training step for each token of full rows, as the project counts them."""
    from flanscale.sizing.flops import training_flops

    widths = (config.trainer.input_tokens, config.trainer.target_tokens)
    return training_flops(config.model, VOCABULARY, *widths) / sum(widths)


def fastest_products() -> float:
    """FLOP/s of the best of some matrix products in float32: what no step made of them can pass."""
    import jax
    import jax.numpy as jnp

    product, best = jax.jit(jnp.matmul), 0.0
    for m, k, n in ((2048, 512, 2048), (2048, 2048, 512), (2048, 2048, 2048)):
        a, b = jnp.ones((m, k)), jnp.ones((k, n))
        for _ in range(7):
            began = time.perf_counter()
            jax.block_until_ready(product(a, b))
            best = max(best, 2 * m * k * n / (time.perf_counter() - began))
    return best


def ours(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    import numpy as np

    step = OurStep(options, tuple(options.tokens), options.rows, options.dropout[0])
    if step.model.config.architecture == "decoder":
        inputs, targets = decoder_rows(options, step.model.config.bos_id)
        read = {"decoder": inputs}
    else:
        inputs, targets = tokens_of(options)
        read = {"encoder": inputs, "decoder": np.pad(targets[:, :-1], ((0, 0), (1, 0)))}
    batch = {"decoder_target_tokens": targets.astype(np.int32)}
    batch["decoder_loss_weights"] = np.ones(targets.shape, np.float32)
    for stack, tokens in read.items():
        batch[f"{stack}_input_tokens"] = tokens.astype(np.int32)
        batch[f"{stack}_segment_ids"] = np.ones(tokens.shape, np.int32)
        batch[f"{stack}_positions"] = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    about = devices() | {"attention": step.model.implementation, "remat": step.model.config.remat}
    about["flops"] = flops_a_token(step.config)
    if options.device == "cpu":
        about["limit"] = fastest_products()
    return about | _warmed_up(options, step, batch), _round(options, step, batch)


def theirs(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    step = TheirStep(options, options.dropout[0], options.peer_compile)
    if step.model.config.is_encoder_decoder:
        inputs, targets = tokens_of(options)
        batch = {"input_ids": inputs, "labels": targets}
    else:
        inputs, targets = decoder_rows(options, step.model.config.bos_token_id)
        batch = {"input_ids": inputs, "labels": targets, "shift_labels": targets}  # shifted already
    return step.about | _warmed_up(options, step, batch), _round(options, step, batch)


def _warmed_up(options: argparse.Namespace, step: Callable[[list[Any]], list[float]], batch: Any) -> dict[str, Any]:
    began = time.perf_counter()
    losses = step([batch])
    first = time.perf_counter() - began
    return {"first_step_seconds": first, "losses": losses + step([batch] * (options.warmup - 1))}


def _round(options: argparse.Namespace, step: Callable[[list[Any]], list[float]], batch: dict[str, Any]) -> Round:
    def measure(number: int) -> dict[str, Any]:
        step([batch] * options.steps)
        return {"calls": options.steps, "tokens": options.steps * options.rows * sum(options.tokens)}

    return measure


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, nargs=2, default=(256, 64), metavar=("INPUT", "TARGET"))
    parser.add_argument("--dropout", type=float, nargs="+", default=(0.0, 0.1))
    parser.add_argument("--steps", type=int, default=5, help="of a round")
    parser.add_argument("--warmup", type=int, default=3, help="steps before the first round")
    parser.add_argument("--peer-compile", action="store_true", help="torch.compile on the peer's side")
    options = parser.parse_args()
    if options.side:
        serve(options, {"flanscale": ours, "transformers": theirs}[options.side])
        return
    begin(options, parser)
    if any(options.dropout) and our_config(options).model.architecture == "decoder":
        parser.error("--dropout 0: transformers' decoders have none where ours have it")
    own = ["--rows", options.rows, "--tokens", *options.tokens, "--steps", options.steps, "--warmup", options.warmup]
    flags = ["--peer-compile"] if options.peer_compile else []
    for dropout in options.dropout:
        shape = f"{options.rows} × {options.tokens[0]}+{options.tokens[1]} tokens"
        print(f"\n{options.model}, {shape}, {options.precision}, {options.threads} threads, dropout {dropout}")
        turns = take_turns(options, [*map(str, own), *flags, "--dropout", str(dropout)])
        for name, about in turns.about.items():
            print(f"  {name:13} {json.dumps(about)}")
        turns.show("tokens/s")
        if options.precision == "float32" and options.device == "cpu":
            about = turns.about["flanscale"]
            for name in turns.rounds:
                share = statistics.median(turns.rates(name)) * about["flops"] / about["limit"]
                print(
                    f"  {name:13} {share:.0%} of {about['limit'] / 1e9:.0f} GFLOP/s, the fastest matrix products here"
                )
        if dropout:
            print("  dropout draws one mask for all positions of a row here, as T5X, and one for each in the peer")


if __name__ == "__main__":
    main()
