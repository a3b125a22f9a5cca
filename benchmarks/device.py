"""What does this machine's accelerator make of the project? Everything worth knowing in at most eight minutes.

`benchmarks/device.sh` sets up and calls this. Every case is a process of its own with a time limit of its own: one that
fails or hangs costs its line and no more. The most valuable come first; what the whole time does not reach says so.
Under `--out` are `device.jsonl`, a line for each figure with card, driver, versions and flags, and what each case said
in `logs/`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

LEAST = 10  # seconds: a case that would have fewer is not started
ROUNDS = 3
PACKAGES = (
    *("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "flax"),
    *("optax", "orbax-checkpoint", "numpy", "torch", "triton", "transformers"),
)
FLAGS = ("XLA_", "JAX_", "TORCH", "PYTORCH", "NVIDIA_", "CUDA_", "CUBLAS")  # how the names of the variables begin

Line = dict[str, Any]


# --- what is measured ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A program of this folder that prints JSON lines."""

    part: str
    name: str
    command: Sequence[str]  # script and arguments
    limit: int  # seconds
    rounds: int = 0  # how often a side of a comparison is asked to measure
    tell: Callable[[list[Line]], list[Line]] = list  # what is told of the lines
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A model in training: what both sides are told."""

    name: str
    model: str
    rows: int
    tokens: tuple[int, int]
    optimizer: str = "adamw"
    overrides: tuple[str, ...] = ()

    def words(self) -> list[str]:
        shape = ["--rows", str(self.rows), "--tokens", *map(str, self.tokens), "--dropout", "0"]
        chosen = ["--model", self.model, "--optimizer", self.optimizer]
        return [*chosen, *shape, *(f"--set={override}" for override in self.overrides)]


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    machine: tuple[str, ...]  # device, precision and threads of every case
    trained: tuple[Trained, ...]
    remat: tuple[str, ...]  # what is tried beside the project's own choice, the most wanted first
    steps: int
    generation: tuple[str, ...]
    evaluated: tuple[str, ...]
    examples: int  # of each task, in the evaluation
    recovery: tuple[str, ...]
    attention: tuple[str, ...]
    finetuning: tuple[str, ...]
    peer: tuple[str, ...]  # of the peer's training
    minutes: float  # for everything
    patience: float = 1.0  # times the limits


CARD = Scale(
    machine=("--device=gpu", "--precision=bfloat16", f"--threads={os.cpu_count()}"),
    trained=(
        Trained("Llama-3.2-1B 8×2048", "llama3_2_1b", 8, (1024, 1024)),
        Trained("T5-base 64×(512+128)", "t5_base", 64, (512, 128)),
        Trained("T5-XL 8×(1024+256)", "t5_xl", 8, (1024, 256), "adafactor"),
    ),
    remat=("full", "none", "attention", "dots"),
    steps=10,
    generation=("--model", "llama3_2_1b", "--rows", "32", "--prompt", "512", "--new", "64"),
    evaluated=("t5_base", "llama3_2_1b"),
    examples=10,
    recovery=(),
    attention=("--device=gpu", "--precision=bfloat16"),
    finetuning=("--model=t5_base", "--rows=16", "--examples=64", "--tokens=500000", "--rounds=3"),
    peer=("--peer-compile",),
    minutes=7.5,  # and half a minute to set up
)

SMALL = (
    "d_model=64",
    "n_layers=2",
    "n_heads=4",
    "n_kv_heads=2",
    "head_dim=16",
    "d_ff=128",
    "vocab_size=32128",
    "bos_id=0",
)
LITTLE_LLAMA = tuple(f"model.{knob}" for knob in SMALL)
TINY = Scale(
    machine=("--device=cpu", "--precision=float32", "--threads=2"),
    trained=(
        Trained("tiny Llama 2×32", "llama3_2_1b", 2, (16, 16), overrides=LITTLE_LLAMA),
        Trained("tiny T5 2×(16+16)", "t5_micro", 2, (16, 16)),
        Trained("tiny T5 2×(16+8)", "t5_micro", 2, (16, 8), "adafactor"),
    ),
    remat=("full",),
    steps=2,
    generation=(
        *("--model", "llama3_2_1b", *(f"--set={knob}" for knob in LITTLE_LLAMA)),
        *("--rows", "2", "--prompt", "16", "--new", "8"),
    ),
    evaluated=("t5_micro",),
    examples=1,
    recovery=("--model", "nano", "--steps", "200", "--every", "50"),
    attention=("--divide=16", "--products=256", "--repeats=2"),
    finetuning=("--model=t5_micro", "--rows=2", "--examples=4", "--tokens=2000", "--rounds=2"),
    peer=(),
    minutes=60,
    patience=5.0,  # of a machine with other things to do
)


def cases(scale: Scale, folder: Path, peer: str, data: Path | None) -> Iterator[Case]:
    """Everything, the most valuable first; `folder` is where our sides leave the peer's their weights."""
    yield recovery("embedded study", scale)
    yield Case("attention", "forward + backward", ["attention.py", *scale.attention], 100)
    models = range(len(scale.trained))
    yield from (training(scale, n, "auto", folder) for n in models)
    yield from (their_training(scale, n, folder, peer) for n in models)
    yield from generation(scale, folder, peer)
    yield from (evaluation(scale, model, data) for model in scale.evaluated)
    yield from (training(scale, n, choice, None) for choice in scale.remat for n in models)
    if data is not None:
        yield finetuning(scale, peer, data)
    if scale is CARD:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_exclude_nondeterministic_ops=true"
        yield recovery("deterministic operations alone", scale, XLA_FLAGS=flags)


def recovery(name: str, scale: Scale, **environment: str) -> Case:
    """Memory is not taken beforehand: a killed process may give its own back late."""
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return Case("recovery", name, ["recovery.py", *scale.recovery], 120, environment=environment)


def training(scale: Scale, number: int, remat: str, folder: Path | None) -> Case:
    """Our step; with a folder it leaves its weights for the peer."""
    trained = scale.trained[number]
    left = ["--folder", str(folder / str(number))] if folder else []
    words = ["--steps", str(scale.steps), "--side", "flanscale", f"--set=model.remat={remat}", *left]
    command = ["training.py", *trained.words(), *scale.machine, *words]
    return Case("training", f"{trained.name}, remat={remat}", command, 120, ROUNDS, partial(rates, trained))


def their_training(scale: Scale, number: int, folder: Path, peer: str) -> Case:
    trained = scale.trained[number]
    words = ["--steps", str(scale.steps), "--side", "transformers", "--folder", str(folder / str(number))]
    command = ["training.py", *trained.words(), *scale.machine, *words, *scale.peer]
    return Case("peers", trained.name, command, 120, ROUNDS, partial(rates, trained), peer)


def generation(scale: Scale, folder: Path, peer: str) -> Iterator[Case]:
    shared = [*scale.generation, *scale.machine, "--calls", "1", "--folder", str(folder / "generation")]
    for side, python in (("flanscale", sys.executable), ("transformers", peer)):
        command = ["generation.py", *shared, "--peer-static", "--side", side]
        yield Case("generation", side, command, 100, ROUNDS, medians, python)


def evaluation(scale: Scale, model: str, data: Path | None) -> Case:
    asked = ["--examples", str(scale.examples), *(["--data", str(data)] if data else [])]
    return Case("evaluation", model, ["evaluation.py", "--model", model, *scale.machine, *asked], 75)


def finetuning(scale: Scale, peer: str, data: Path) -> Case:
    """Real instruction data, packed here and grouped by length in transformers; both sides share the card."""
    command = ["finetuning.py", "--data", str(data), "--peer", peer, *scale.machine, *scale.finetuning]
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return Case("finetuning", "real tokens", command, 150, environment=shared)


# --- what is told of it -------------------------------------------------------------------------------------------


def medians(lines: list[Line]) -> list[Line]:
    """Of a side: what it said of itself, and the medians of its rounds."""
    about, rounds = lines[0], lines[1:]
    if not rounds:
        return [about]
    told = {
        "tokens/s": statistics.median(done["tokens"] / done["seconds"] for done in rounds),
        "ms": statistics.median(1000 * done["seconds"] / done["calls"] for done in rounds),
        "peak GiB": max(done["peak_gib"] for done in rounds),
    }
    return [told | about]


def rates(trained: Trained, lines: list[Line]) -> list[Line]:
    """Of a side in training: with the operations that the project counts for the model, on both sides the same."""
    told = medians(lines)[0]
    if "tokens/s" in told:
        flops = told["tokens/s"] * flops_of(trained)
        peak = peak_of(told["device"])
        told = {"TFLOP/s": flops / 1e12, "MFU": None if peak is None else flops / peak} | told
    return [told]


@cache
def flops_of(trained: Trained) -> float:
    """Operations a token."""
    from training import flops_a_token, our_config

    chosen = {"model": trained.model, "optimizer": trained.optimizer, "set": [*trained.overrides]}
    widths = [f"trainer.{side}_tokens={n}" for side, n in zip(("input", "target"), trained.tokens, strict=True)]
    return flops_a_token(our_config(argparse.Namespace(precision="float32", **chosen), *widths))


def peak_of(device: str) -> float | None:
    """FLOP/s of a card at best."""
    from flanscale.chips import CHIPS

    kinds = [(kind, chip.peak_flops) for chip in CHIPS.values() for kind in chip.kinds if device.startswith(kind)]
    return max(kinds, key=lambda kind: len(kind[0]), default=("", None))[1]


# --- one after another --------------------------------------------------------------------------------------------


def run(case: Case, log: Path, limit: float) -> tuple[list[Line], str | None]:
    """The lines that a case printed, and why it did not end well."""
    script, *arguments = case.command
    asked = "".join(f"{number}\n" for number in range(case.rounds))
    with log.with_suffix(".out").open("w") as out, log.with_suffix(".err").open("w") as err:
        process = subprocess.Popen(
            [case.python, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            text=True,
            env=os.environ | case.environment,
            start_new_session=True,
        )
        why = None
        try:
            process.communicate(asked, timeout=limit)
        except subprocess.TimeoutExpired:
            why = f"not done after {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):  # nor what it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if why is None and process.returncode:
        why = f"ended with {process.returncode}: {_last_words(log.with_suffix('.err'))}"
    return list(_json_lines(log.with_suffix(".out"))), why


def _json_lines(path: Path) -> Iterator[Line]:
    for line in path.read_text().splitlines():
        with suppress(json.JSONDecodeError):
            if line.startswith("{"):
                yield json.loads(line)


def _last_words(path: Path) -> str:
    """The last line of an error, or else the last line."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Memory)\b.*: ", line)]
    return (named or lines or ["it said nothing"])[-1][:300]


def told_by(case: Case, log: Path, left: float, patience: float) -> Iterator[Line]:
    """What the record holds of a case."""
    own = [f"{name}={value}" for name, value in case.environment.items()]
    what = {"part": case.part, "case": case.name, "command": shlex.join([*own, *case.command])}
    if left < LEAST:
        yield what | {"failed": "not reached in the whole time"}
        return
    began = time.monotonic()
    lines, why = run(case, log, min(case.limit * patience, left))
    seconds = {"seconds of the case": round(time.monotonic() - began, 1)}
    for line in case.tell(lines) if lines else []:
        yield what | line | seconds
    if why or not lines:
        yield what | {"failed": why or "it printed nothing"} | seconds


def machine() -> Line:
    """What every line is measured on."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "card": _card(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "flags": {name: value for name, value in sorted(os.environ.items()) if name.startswith(FLAGS)},
        "date": time.strftime("%Y-%m-%d"),
    }


def _card() -> str:
    """Each card's name, memory and driver; empty where there is none."""
    ask = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    cards = [line.split(", ") for line in said.splitlines()]
    return "; ".join(f"{name}, {memory}, driver {driver}" for name, memory, driver in cards)


def shown(line: Line) -> str:
    """A line of the table."""
    hidden = {"part", "case", "what", "command", "seconds of the case", "failed", "flops", "limit", "device"}
    versions = {name for name in ("jax", "torch", "transformers") if isinstance(line.get(name), str)}
    names = [name for name, value in line.items() if name not in hidden | versions and value is not None]
    figures = [f"{name} {_number(line[name])}" for name in names]
    failed = [f"FAILED: {line['failed']}"] if "failed" in line else []
    return f"{line['part']:<11} {line.get('what', line['case']):<42} {', '.join([*figures, *failed])}"


def _number(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_number, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--tiny", action="store_true", help="everything small, on the CPU")
    parser.add_argument("--only", nargs="+", metavar="PART", help="recovery, attention, training, …")
    parser.add_argument("--minutes", type=float, help="for everything")
    parser.add_argument("--peer", default=sys.executable, help="Python with torch and transformers")
    options = parser.parse_args()
    scale = TINY if options.tiny else CARD
    data = os.environ.get("FLANSCALE_SHARED_DATA")
    end = time.monotonic() + 60 * (options.minutes or scale.minutes)
    if options.tiny:
        os.environ["JAX_PLATFORMS"] = "cpu"
    else:
        if not _card():
            parser.error("nvidia-smi shows no card here; --tiny is what a CPU can do")
        os.environ.setdefault("JAX_PLATFORMS", "cuda,cpu")  # an error where JAX sees none
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")  # every case has the card to itself
    logs, here, told = options.out / "logs", machine(), []
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, (options.out / "device.jsonl").open("w") as record:
        every = list(cases(scale, Path(folder), options.peer, Path(data).absolute() if data else None))
        parts = list(dict.fromkeys(case.part for case in every))
        if unknown := set(options.only or []) - set(parts):
            parser.error(f"--only {' '.join(unknown)}: the parts are {', '.join(parts)}")
        chosen = [case for case in every if case.part in (options.only or parts)]
        for number, case in enumerate(chosen, start=1):
            print(f"[{number}/{len(chosen)}] {case.part}: {case.name}", file=sys.stderr, flush=True)
            for line in told_by(case, logs / f"{number:02}-{case.part}", end - time.monotonic(), scale.patience):
                told.append(shown(line))
                print(json.dumps(line | {"machine": here}, ensure_ascii=False), file=record, flush=True)
    about = [here["card"] or f"no card, {here['cores']} cores", f"Python {here['python']}"]
    about += [f"{name} {version}" for name, version in here["versions"].items()]
    table = "\n".join([", ".join(about), *told])
    (options.out / "table.txt").write_text(f"{table}\n")
    print(table)


if __name__ == "__main__":
    main()
