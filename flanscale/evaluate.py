"""One evaluation, top to bottom: suite → ask → score → log. Of parameters at hand, or of a run that has ended."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flanscale.config.overrides import parse_override
from flanscale.errors import ConfigError, DataError, Preempted
from flanscale.evaluation.answering import Answered, answers
from flanscale.evaluation.opening import check_suite, context_of, suite_of
from flanscale.evaluation.results import result_of
from flanscale.evaluation.suites import Suite
from flanscale.inference.language_model import TrainedModel
from flanscale.inference.weights import fingerprint
from flanscale.run_directory import checkpoint_steps, identity_of, read_rows, read_state, recorded, run_of_evaluation
from flanscale.run_directory.evaluations import check_weights, read_records, read_result, write_result
from flanscale.schema import RunConfig
from flanscale.tasks.reading import safe_name
from flanscale.tracking.keys import ITEMS, evaluation_row
from flanscale.tracking.tracker import tracked

log = logging.getLogger(__name__)

CONTEXT = 2048
"""Positions of a prompt where neither the model nor the user says how many."""
Seen = Mapping[str, Collection[str]]
"""Benchmark → keys of items that training may have seen."""


def evaluate(
    config: RunConfig,
    model: TrainedModel,
    folder: Path,
    *,
    source: str,
    learned: Collection[str] = (),
    seen: Seen | None = None,
    writes: bool = True,
    reached: Callable[[int], None] = lambda items: None,
) -> dict[str, Any]:
    """The document of a suite's results; of an evaluation that is over, the one that is there.

    Args:
        folder: for its records and results; they are gone on from.
        source: where the parameters come from, in words.
        learned: names of the tasks that they learnt.
        writes: whether this process is the one that keeps records.
        reached: told how many items have been answered.

    Raises:
        ConfigError: records are damaged, or of other weights.
        DataError: no line of the suite can be asked here, or one asks what was learnt.
        NonFiniteWeights: the parameters are not numbers.
        NonFiniteLogits: the model gave no token.
    """
    check_suite(config)
    suite = suite_of(config)
    _check(suite, learned)
    about: dict[str, Any] = {
        "weights": fingerprint(model.engine.params),
        "source": source,
        "precision": model.engine.model.dtype,
        "context": context_of(config),
    }
    check_weights(folder, about["weights"], writes=writes)
    if (result := read_result(folder)) is not None:
        log.info("%s: the results are there already", folder)
        return result
    answered = answers(suite, model, folder, writes=writes, seen=seen or {}, reached=reached)
    result = result_of(suite, answered, model, about) | {"flips": flips(folder, suite, answered, about)}
    if writes:
        write_result(folder, result)
    return result


def evaluate_run(
    config: RunConfig, run_dir: Path, folder: Path, model_at: Callable[[int | None], TrainedModel], **about: Any
) -> dict[str, Any]:
    """The document of a suite's results for a run, or for the checkpoint of it that the suite scores highest.

    Args:
        model_at: gives the model at the step of a checkpoint; None: that which the run stands for.
        about: see `evaluate`.

    Raises:
        DataError: nothing has a score that checkpoints could be chosen by.
        ConfigError, NonFiniteWeights, NonFiniteLogits: see `evaluate`.
    """
    steps = checkpoint_steps(run_dir) if config.evaluation.checkpoint == "suite" else []
    if not steps:
        source = f"step {config.trainer.steps} of {run_dir.name}"
        return evaluate(config, model_at(None), folder, source=source, **about)
    if (result := read_result(folder)) is not None:
        log.info("%s: the results are there already", folder)
        return result
    reached, writes = about.pop("reached", lambda items: None), about.get("writes", True)
    results: dict[int, dict[str, Any]] = {}
    for number, step in enumerate(steps):
        results[step] = evaluate(
            config,
            model_at(step),
            folder / f"step-{step}",
            source=f"step {step} of {run_dir.name}",
            reached=partial(_behind, reached, number * suite_of(config).items),
            **about,
        )
    scores = {step: result["average"]["score"] for step, result in results.items() if result["average"] is not None}
    if not scores:
        raise DataError(f"{folder}: nothing has a score by which a checkpoint could be chosen")
    best = max(scores, key=lambda step: scores[step])
    chosen = {"step": best, "scores": {str(step): score for step, score in scores.items()}}
    result = results[best] | {"chosen": chosen}
    if writes:
        for records in recorded(folder / f"step-{best}").values():
            shutil.copy2(records, folder)
        write_result(folder, result)
    return result


def _behind(reached: Callable[[int], None], before: int, items: int) -> None:
    reached(before + items)


def flips(
    folder: Path, suite: Suite, answered: Sequence[Answered], about: Mapping[str, Any]
) -> dict[str, float] | None:
    """Of each line, the share of items that the same weights answer otherwise in float32, where that was asked too."""
    if about["precision"] == "float32":
        return None
    for other in sorted(path for path in folder.parent.glob("*") if path != folder):
        exact = read_result(other)
        same = {"fingerprint": suite.fingerprint, "weights": about["weights"], "precision": "float32"}
        if exact is not None and same.items() <= exact.items():
            return {one.line.name: _flipped(one, read_records(other, one.line.name)[0]) for one in answered}
    log.warning("how much %s changes is told where trainer.precision=float32 has been asked too", about["precision"])
    return None


def _flipped(one: Answered, exact: Sequence[Mapping[str, Any]]) -> float:
    answers = {row["key"]: row["answer"] for row in exact}
    both = [record for record in one.records if record.key in answers]
    return sum(record.answer != answers[record.key] for record in both) / max(len(both), 1)


def _check(suite: Suite, learned: Collection[str]) -> None:
    asked = {item.subtask for line in suite.lines if line.benchmark.in_order for item in line.asked.items}
    if known := sorted(asked & set(learned)):
        raise DataError(f"{len(known)} of the held-out tasks that are asked were learnt, the first of them {known[0]}")


# --- of a run that has ended ------------------------------------------------------------------------------------------


def run(config: RunConfig, folder: Path, *, attempt: int, should_stop: Callable[[], bool]) -> None:
    """Ask a finished run a suite, as a job of its own, and add what came of it to the run's log.

    Args:
        config: the run's, with the suite and the resources of this job.
        folder: the evaluation's, in the run directory.

    Raises:
        WeightsError: the run has no parameters to be asked.
        Preempted: `should_stop()` became true; what was answered is kept.
    """
    import jax

    from flanscale.models import build_mesh
    from flanscale.run_directory import read_contamination, read_mixture
    from flanscale.tasks.contamination import seen_items
    from flanscale.training.distributed import AnyProcess
    from flanscale.weights.run_model import model_of

    run_dir = run_of_evaluation(folder)
    mesh = build_mesh(config.trainer.mesh)
    model_at = partial(model_of, run_dir, config, mesh, partial(leave_if, AnyProcess(mesh, should_stop)))
    first = jax.process_index() == 0
    mixture = read_mixture(run_dir)
    quiet = replace(config, tracker=replace(config.tracker, mode="disabled"))
    with tracked(folder, quiet, run_id=folder.name, attempt=attempt, first=first) as log_row:  # for who watches the job
        result = evaluate_run(
            config,
            run_dir,
            folder,
            model_at,
            learned=[row["task"] for row in mixture["tasks"]] if mixture else (),
            seen=seen_items(read_contamination(run_dir)) if config.mixture.contamination == "warn" else {},
            writes=first,
            reached=lambda items: log_row(items, {ITEMS: items}),
        )
        asked = sum(line["scores"][0]["asked"] for line in result["lines"] if line["scores"])
        log_row(asked, evaluation_row(result))
    if first:
        _add_to_log(run_dir, result)


def _add_to_log(run_dir: Path, result: Mapping[str, Any]) -> None:
    """The scores, as the run itself would have logged them; one evaluation after another where several end at once."""
    from flanscale.config.compose import load
    from flanscale.orchestration.running.claim import RUN, claim

    config = load(run_dir)
    with claim(run_dir, RUN, outlast=True):
        before = {key: value for row in read_rows(run_dir) for key, value in row.items()}
        attempt = read_state(run_dir).attempt
        with tracked(run_dir, config, run_id=identity_of(run_dir), attempt=attempt) as log_row:
            log_row(config.trainer.steps, evaluation_row(result, before))


def leave_if(asked_to_stop: Callable[[], bool]) -> None:
    """
    Raises:
        Preempted: somebody asked.
    """
    if asked_to_stop():
        raise Preempted("asked to stop in the evaluation; what was answered is kept")


# --- of weights that are no run ---------------------------------------------------------------------------------------


def evaluate_weights(path: Path, overrides: Sequence[str], out: Path) -> tuple[dict[str, Any], Path]:
    """Ask a run's checkpoint, a Hugging Face folder or a GGUF file a suite here: the document and its folder.

    Args:
        overrides: of a cell; its model is found by the weights' own configuration where none is given.
        out: folder for records and results, in one of the weights' name.

    Raises:
        ConfigError: a wrong override, or nothing is asked.
        WeightsError: there are no such weights, or no model of `conf/model` is theirs.
    """
    from flanscale.config.compose import Composer, load
    from flanscale.evaluation.opening import evaluation_name
    from flanscale.identity import resolve
    from flanscale.orchestration.steering.retry import changed
    from flanscale.run_directory import CHECKPOINTS, checkpoint_steps
    from flanscale.weights.origin import models_of
    from flanscale.weights.run_model import model_of

    path = path.absolute()
    if path.parent.name == CHECKPOINTS:
        run_dir = path.parent.parent
        kept = checkpoint_steps(run_dir)
        if path.name not in map(str, kept):
            raise ConfigError(f"{path}: no such checkpoint; {run_dir.name} has {', '.join(map(str, kept)) or 'none'}")
        config, step = changed(load(run_dir), list(map(parse_override, overrides))), int(path.name)
        name, source = f"{run_dir.name}-{step}", f"step {step} of {run_dir.name}"
    else:
        run_dir, step, name, source = path, None, path.stem, str(path)
        model = [] if any(text.startswith("model=") for text in overrides) else [f"model={models_of(path)[0]}"]
        tokenizer = "t5" if (path / "spiece.model").is_file() else "huggingface"
        given = [*model, f"tokenizer={tokenizer}", "evaluation=none", *overrides, f"init.hf={path}"]
        config = resolve(Composer().compose([*given, "mixture.count=0", "mixture.contamination=off"]))
        config.evaluation.context = config.evaluation.context or config.model.max_positions or CONTEXT
    if not config.evaluation.asks:
        raise ConfigError("ask what? say it with --suite, e.g. --suite flan or --suite mmlu/cloze,gsm8k")
    if config.evaluation.checkpoint == "suite":
        raise ConfigError("evaluation.checkpoint=suite chooses among the checkpoints of a run: name the run itself")
    asked = model_of(run_dir, config, step=step)
    folder = out / safe_name(name) / f"{evaluation_name(config)}-{fingerprint(asked.engine.params)[:8]}"
    return evaluate(config, asked, folder, source=source), folder
