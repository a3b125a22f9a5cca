"""Training: it learns, it survives interruption without a trace, and it says what happened."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from families import moved
from tiny import ADAM, ARCHITECTURES, VOCAB, SortingBatches, initial, logits, model, replaced, trainer

from flanscale.errors import NonFiniteLoss, OtherRun, Preempted
from flanscale.models import Model, Params
from flanscale.schema import OptimizerConfig
from flanscale.sizing.flops import training_flops
from flanscale.training import guards, loop, peaks, stamp, train
from flanscale.training.optimizers import build_optimizer
from flanscale.training.step import build_step
from flanscale.training.validation import Validation

ADAFACTOR = OptimizerConfig(name="adafactor", learning_rate=0.05)
FASTER = replaced(ADAM, learning_rate=0.02)
SELDOM = 1000  # steps between checkpoints, where a test looks at none but the last
TIMED = ("train/tokens_per_second", "train/data_wait_fraction", "train/mfu")


@pytest.fixture(scope="module", autouse=True)
def one_program_for_equal_attempts() -> Iterator[None]:
    """Those of one configuration share what they compile; that it may be compiled anew is for test_run.py."""
    rules: dict[str, Any] = {}
    steps: dict[str, Any] = {}
    inits: dict[str, Any] = {}
    initialisation = loop._initialisation

    def rule_of(config: OptimizerConfig, steps_asked: int) -> Any:
        known = repr((config, steps_asked if config.schedule != "constant" else None))
        return rules.setdefault(known, build_optimizer(config, steps_asked))

    def step_of(tiny: Any, rule: Any, abstract: Any, **knobs: Any) -> Any:
        key = repr((tiny.config, tiny.dtype, id(rule), knobs))
        if key not in steps:
            steps[key] = build_step(tiny, rule, abstract, **knobs)
        return steps[key]

    def init_of(tiny: Any, abstract: Any, seed: int) -> Any:
        key = repr((tiny.config, tiny.dtype, seed))
        if key not in inits:
            inits[key] = initialisation(tiny, abstract, seed)
        return inits[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build_optimizer", rule_of)
        patch.setattr(loop, "build_step", step_of)
        patch.setattr(loop, "_initialisation", init_of)
        yield


class Run:
    """One run directory's worth of training that can be attempted any number of times."""

    def __init__(
        self, directory: Path, architecture: str = "decoder", optimizer: OptimizerConfig = ADAFACTOR, **knobs: Any
    ) -> None:
        self.directory, self.architecture, self.optimizer = directory, architecture, optimizer
        self.config = trainer(**{"log_every": 4, "checkpoint_every": 3, **knobs})
        self.model = model(architecture, dropout=0.1, n_layers=1)
        self.rows: dict[int, dict[str, float]] = {}

    def attempt(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        log: Callable[[int, dict[str, float]], None] = lambda step, row: None,
        batches: Any = None,
        **given: Any,
    ) -> Params:
        def record(step: int, row: dict[str, float]) -> None:
            log(step, row)
            self.rows.setdefault(step, row)  # what a tracker does with rows that come again

        return train(
            self.model,
            self.optimizer,
            self.config,
            batches or SortingBatches(self.architecture, self.config),
            seed=7,
            checkpoint_dir=self.directory / "checkpoints",
            log=record,
            should_stop=should_stop,
            **given,
        )

    def untimed(self) -> str:
        """The log without wall-clock values, as text: equal text is equal bits."""
        return json.dumps({s: {k: v for k, v in row.items() if k not in TIMED} for s, row in self.rows.items()})


def steady(directory: Path, architecture: str = "decoder", **knobs: Any) -> Run:
    """A run without dropout, so that its steps do not depend on their number, and with few checkpoints."""
    run = Run(directory, architecture, FASTER, **{"checkpoint_every": SELDOM, **knobs})
    run.model = model(architecture, n_layers=1)
    return run


def after(calls: int) -> Callable[[], bool]:
    """False that many times, then true."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


def assert_same(one: Params, other: Params) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


class BreaksAt(SortingBatches):
    def __init__(self, run: Run, number: int) -> None:
        super().__init__(run.architecture, run.config)
        self.broken = number

    def __next__(self) -> dict[str, np.ndarray]:
        if self.number == self.broken:
            raise OSError("the disk is gone")
        return super().__next__()


class NotANumberAt(SortingBatches):
    """Weights that are NaN at some batches make loss and gradient NaN."""

    def __init__(self, run: Run, *numbers: int) -> None:
        super().__init__(run.architecture, run.config)
        self.poisoned = numbers

    def __next__(self) -> dict[str, np.ndarray]:
        poisoned = self.number in self.poisoned
        batch = super().__next__()
        if poisoned:
            batch["decoder_loss_weights"] = np.full_like(batch["decoder_loss_weights"], np.nan)
        return batch


# --- learning -----------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "optimizer"), [("decoder", ADAFACTOR), ("encoder_decoder", ADAM)])
def test_training_learns_what_guessing_cannot(tmp_path: Path, architecture: str, optimizer: OptimizerConfig) -> None:
    run = Run(tmp_path, architecture, optimizer, steps=200, log_every=10, checkpoint_every=SELDOM)
    run.attempt()
    losses = [row["train/loss"] for row in run.rows.values()]
    assert losses[-1] < 0.75 * math.log(VOCAB) < 0.9 * losses[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_zero_steps_give_the_initialisation_and_write_nothing(tmp_path: Path, architecture: str) -> None:
    run = Run(tmp_path, architecture, steps=0)
    assert_same(run.attempt(), initial(run.model, 7))
    assert list(tmp_path.iterdir()) == []
    assert run.rows == {}


# --- resuming -----------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Params]:
    run = Run(tmp_path_factory.mktemp("uninterrupted"))
    return run, run.attempt()


@pytest.fixture(scope="module")
def uninterrupted_t5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Params]:
    run = Run(tmp_path_factory.mktemp("uninterrupted_t5"), "encoder_decoder", ADAM)
    return run, run.attempt()


def test_an_encoder_decoder_with_adam_resumes_bit_for_bit(uninterrupted_t5: tuple[Run, Params], tmp_path: Path) -> None:
    whole, params = uninterrupted_t5
    run = Run(tmp_path, "encoder_decoder", ADAM)
    with pytest.raises(Preempted):
        run.attempt(should_stop=after(5))
    assert_same(run.attempt(), params)
    assert run.untimed() == whole.untimed()


@pytest.mark.parametrize("stops", [(2,), (8,), (1, 0, 3)])
def test_a_preempted_run_ends_bit_for_bit_like_one_that_was_not(
    uninterrupted: tuple[Run, Params], tmp_path: Path, stops: tuple[int, ...]
) -> None:
    whole, params = uninterrupted
    run = Run(tmp_path)
    for steps in stops:
        with pytest.raises(Preempted, match="asked to stop after step"):
            run.attempt(should_stop=after(steps))
    assert_same(run.attempt(), params)
    assert run.untimed() == whole.untimed()


@pytest.mark.parametrize("broken", [3, 5])
def test_a_crashed_run_ends_bit_for_bit_like_one_that_did_not(
    uninterrupted: tuple[Run, Params], tmp_path: Path, broken: int
) -> None:
    whole, params = uninterrupted
    run = Run(tmp_path)
    with pytest.raises(OSError, match="the disk is gone"):
        run.attempt(batches=BreaksAt(run, broken))
    assert_same(run.attempt(), params)
    assert run.untimed() == whole.untimed()


def test_a_crash_while_logging_loses_nothing(uninterrupted: tuple[Run, Params], tmp_path: Path) -> None:
    whole, params = uninterrupted
    run = Run(tmp_path)

    def full(step: int, row: dict[str, float]) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        run.attempt(log=full)  # at step 4, one after the checkpoint of step 3
    assert_same(run.attempt(), params)
    assert run.untimed() == whole.untimed()


def test_a_finished_run_returns_its_parameters_without_touching_the_data(tmp_path: Path) -> None:
    run = Run(tmp_path)
    params = run.attempt()
    assert_same(run.attempt(batches=BreaksAt(run, 0)), params)


def test_a_damaged_last_checkpoint_costs_the_steps_since_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path, keep_checkpoints=2)
    params = run.attempt()
    for path in (tmp_path / "checkpoints" / "10" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:7])
    with caplog.at_level(logging.ERROR, "flanscale"):
        assert_same(run.attempt(), params)
    assert "checkpoint 10" in caplog.text
    assert "resuming from checkpoint 9" in caplog.text


def test_other_seeds_give_other_runs(tmp_path: Path) -> None:
    run = Run(tmp_path / "a", steps=2)
    params = run.attempt()
    other = train(
        run.model,
        run.optimizer,
        run.config,
        SortingBatches("decoder", run.config),
        seed=8,
        checkpoint_dir=tmp_path / "b",
        log=lambda step, row: None,
        should_stop=lambda: False,
    )
    assert np.abs(params["vocabulary"]["embedding"] - other["vocabulary"]["embedding"]).max() > 0.1


# --- steps that go wrong -----------------------------------------------------------------


def test_a_step_that_is_not_finite_is_skipped_loudly_and_leaves_the_parameters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean, poisoned = steady(tmp_path / "clean", steps=4), steady(tmp_path / "poisoned", steps=5, log_every=5)
    with caplog.at_level(logging.WARNING, "flanscale"):
        params = poisoned.attempt(batches=NotANumberAt(poisoned, 4))
    assert_same(params, clean.attempt())
    assert "step 5 skipped" in caplog.text
    assert poisoned.rows[5]["train/loss"] == clean.rows[4]["train/loss"], "the mean of the steps that counted"


def test_training_goes_on_after_as_many_bad_steps_as_allowed(tmp_path: Path) -> None:
    run = Run(tmp_path, max_nonfinite_steps=2)
    assert np.isfinite(run.attempt(batches=NotANumberAt(run, 2, 3, 6, 7))["vocabulary"]["embedding"]).all()


@pytest.mark.parametrize("poisoned", [(1, 2, 3), (7, 8, 9)])
def test_one_bad_step_in_a_row_too_many_ends_the_run(tmp_path: Path, poisoned: tuple[int, ...]) -> None:
    run = Run(tmp_path, max_nonfinite_steps=2)
    with pytest.raises(NonFiniteLoss, match=rf"3 steps in a row up to step {poisoned[-1] + 1} .* nonfinite_batch\.npz"):
        run.attempt(batches=NotANumberAt(run, *poisoned))
    expected = SortingBatches("decoder", run.config)
    expected.number = poisoned[-1]
    with np.load(tmp_path / "nonfinite_batch.npz") as saved:
        assert saved["step"] == poisoned[-1] + 1
        np.testing.assert_array_equal(saved["decoder_target_tokens"], next(expected)["decoder_target_tokens"])
        assert np.isnan(saved["decoder_loss_weights"]).all()


def test_bad_steps_are_counted_across_a_preemption(tmp_path: Path) -> None:
    run = Run(tmp_path, max_nonfinite_steps=2)
    with pytest.raises(Preempted):
        run.attempt(should_stop=after(3), batches=NotANumberAt(run, 2, 3, 4))
    with pytest.raises(NonFiniteLoss):
        run.attempt(batches=NotANumberAt(run, 2, 3, 4))


class SwappedFrom(SortingBatches):
    """Targets that nothing learned helps with, at some batches."""

    def __init__(self, run: Run, *numbers: int) -> None:
        super().__init__(run.architecture, run.config)
        self.swapped = numbers

    def __next__(self) -> dict[str, np.ndarray]:
        swapped = self.number in self.swapped
        batch = super().__next__()
        if swapped:
            batch["decoder_target_tokens"] = np.full_like(batch["decoder_target_tokens"], VOCAB - 1)
        return batch


def test_a_loss_that_jumps_is_said_and_counted_whether_interrupted_or_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "DEVIATIONS", 1.5)  # the window holds the first, steep steps
    whole, stopped = (steady(tmp_path / name, steps=40, log_every=10) for name in ("whole", "stopped"))
    with caplog.at_level(logging.WARNING, "flanscale"):
        whole.attempt(batches=SwappedFrom(whole, 34))
    assert caplog.text.count("step 35: loss ") == 1
    assert [row["train/loss_spikes"] for row in whole.rows.values()] == [0, 0, 0, 1]
    with pytest.raises(Preempted):
        stopped.attempt(should_stop=after(32), batches=SwappedFrom(stopped, 34))
    stopped.attempt(batches=SwappedFrom(stopped, 34))
    assert stopped.untimed() == whole.untimed()


# --- the log -----------------------------------------------------------------


def test_rows_come_every_so_often_and_at_the_last_step(uninterrupted: tuple[Run, Params]) -> None:
    run, _ = uninterrupted
    assert list(run.rows) == [4, 8, 10]
    for row in run.rows.values():
        assert set(row) == {
            "train/loss",
            "train/tokens",
            "train/examples",
            "train/learning_rate",
            "train/grad_norm",
            "train/tokens_per_second",
            "train/data_wait_fraction",
            "train/pad_fraction",
            "train/loss_spikes",
        }
        assert all(isinstance(value, int | float) and math.isfinite(value) for value in row.values())


@pytest.mark.parametrize("fixture", ["uninterrupted", "uninterrupted_t5"])
def test_counts_are_those_of_the_batches(fixture: str, request: pytest.FixtureRequest) -> None:
    run, _ = request.getfixturevalue(fixture)
    batches = SortingBatches(run.architecture, run.config)
    seen = [next(batches) for _ in range(10)]
    stacks = ("encoder", "decoder") if run.architecture == "encoder_decoder" else ("decoder",)

    def real(batch: dict[str, np.ndarray]) -> int:
        return sum(int((batch[f"{stack}_segment_ids"] > 0).sum()) for stack in stacks)

    examples = sum(int(row.max()) for batch in seen for row in batch["decoder_segment_ids"])
    assert run.rows[10]["train/tokens"] == sum(map(real, seen))
    assert run.rows[10]["train/examples"] == examples
    slots = sum(seen[0][f"{stack}_segment_ids"].size for stack in stacks)
    assert run.rows[10]["train/pad_fraction"] == pytest.approx(1 - sum(map(real, seen[8:])) / (2 * slots))
    assert run.rows[10]["train/learning_rate"] == pytest.approx(run.optimizer.learning_rate)


class Uneven(SortingBatches):
    """Each batch has more target tokens than the one before."""

    def __next__(self) -> dict[str, np.ndarray]:
        batch = super().__next__()
        batch["decoder_loss_weights"] *= np.float32(self.number)
        return batch


def test_the_logged_loss_is_the_mean_over_target_tokens_not_over_steps(tmp_path: Path) -> None:
    each, together = (steady(tmp_path / str(every), steps=4, log_every=every) for every in (1, 4))
    for run in (each, together):
        run.attempt(batches=Uneven("decoder", run.config))
    losses, batches = [row["train/loss"] for row in each.rows.values()], Uneven("decoder", each.config)
    tokens = [next(batches)["decoder_loss_weights"].sum() for _ in range(4)]
    assert together.rows[4]["train/loss"] == pytest.approx(np.average(losses, weights=tokens), rel=1e-5)
    assert np.mean(losses) != pytest.approx(np.average(losses, weights=tokens), rel=1e-2), "or this test shows nothing"
    nll, first = mean_nll(each.model, initial(each.model, 7), [next(Uneven("decoder", each.config))])
    assert (losses[0], tokens[0]) == (pytest.approx(nll, rel=1e-5), first)


def mean_nll(tiny: Model, params: Params, batches: Iterable[dict[str, np.ndarray]]) -> tuple[float, float]:
    """(mean negative log-likelihood of the target tokens, how many they are), by logits alone."""
    nll = tokens = 0.0
    for batch in batches:
        scores = logits(tiny, params, batch).astype(np.float64)
        log_p = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        chosen = np.take_along_axis(log_p, batch["decoder_target_tokens"][..., None], -1)[..., 0]
        nll -= float((chosen * batch["decoder_loss_weights"]).sum())
        tokens += float(batch["decoder_loss_weights"].sum())
    return nll / tokens, tokens


def test_mfu_is_logged_where_the_peak_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peaks.PEAK_FLOPS, "cpu", 1e12)
    run = Run(tmp_path, steps=8)
    run.attempt()
    (before, row), rows = run.rows.values(), 4 * run.config.batch_rows
    per_row = (row["train/examples"] - before["train/examples"]) / rows
    flops = training_flops(run.model.config, VOCAB, 16, 16, per_row) * rows
    tokens = row["train/tokens"] - before["train/tokens"]
    assert row["train/mfu"] == pytest.approx(row["train/tokens_per_second"] / tokens * flops / 1e12)


def test_an_unknown_device_is_said_once_and_logs_no_mfu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(tmp_path, steps=8)
    with caplog.at_level(logging.INFO, "flanscale"):
        run.attempt()
    assert caplog.text.count("no train/mfu") == 1
    assert not any("train/mfu" in row for row in run.rows.values())


# --- gradient accumulation ----------------------------------------------------


@pytest.mark.parametrize("architecture", ["decoder", pytest.param("encoder_decoder", marks=pytest.mark.slow)])
def test_a_run_in_microbatches_comes_to_what_the_whole_batches_come_to(tmp_path: Path, architecture: str) -> None:
    whole, parts = (steady(tmp_path / name, architecture, microbatches=n) for name, n in (("whole", 1), ("parts", 4)))
    one, other = whole.attempt(), parts.attempt()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one, other)
    losses = [[row["train/loss"] for row in run.rows.values()] for run in (whole, parts)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_run_may_go_on_with_other_microbatches(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        steady(tmp_path).attempt(should_stop=after(5))
    steady(tmp_path, microbatches=4).attempt()


def test_rows_that_do_not_divide_into_microbatches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.batch_rows is 4.*trainer\.microbatches=3.*multiple of 3"):
        Run(tmp_path, microbatches=3).attempt()


# --- validation ---------------------------------------------------------------


def held_in(run: Run) -> Callable[[], Any]:
    """Three batches of the same task, always the same."""

    def batches() -> Any:
        rows = SortingBatches(run.architecture, run.config, seed=5)
        return (next(rows) for _ in range(3))

    return batches


def test_the_validation_loss_is_the_mean_over_all_held_in_tokens_and_changes_nothing(
    uninterrupted: tuple[Run, Params], tmp_path: Path
) -> None:
    whole, params = uninterrupted
    run = Run(tmp_path, validate_every=5)
    assert_same(run.attempt(validation=held_in(run)), params)
    assert [step for step, row in run.rows.items() if "validation/loss" in row] == [5, 10]
    nll, tokens = mean_nll(run.model, params, held_in(run)())
    assert run.rows[10]["validation/tokens"] == tokens
    assert run.rows[10]["validation/loss"] == pytest.approx(nll, rel=1e-5)
    trained = {step: row for step, row in run.rows.items() if step != 5}
    assert [row["train/loss"] for row in trained.values()] == [row["train/loss"] for row in whole.rows.values()]


def test_held_in_rows_are_validated_at_the_end_at_least(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.attempt(validation=held_in(run))
    assert [step for step, row in run.rows.items() if "validation/loss" in row] == [10]


def test_the_best_parameters_are_returned_whether_interrupted_or_finished_before(tmp_path: Path) -> None:
    knobs = {"steps": 12, "validate_every": 2, "log_every": 2, "select": "best", "checkpoint_every": 5}
    whole, run = (steady(tmp_path / name, **knobs) for name in ("whole", "run"))

    def attempt(run: Run, **given: Any) -> Params:
        """Learns to always say the same, which predicts the held-in rows the worse the better it succeeds."""
        return run.attempt(batches=SwappedFrom(run, *range(12)), validation=held_in(run), **given)

    best = attempt(whole)
    losses = {step: row["validation/loss"] for step, row in whole.rows.items()}
    step = min(losses, key=losses.__getitem__)
    assert step != 12, "or this test shows nothing"
    kept = {int(path.name) for path in (tmp_path / "whole" / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {step, 12}
    for steps in (2, 3, 3):
        with pytest.raises(Preempted):
            attempt(run, should_stop=after(steps))
    for _ in ("to the end", "after the end"):
        assert_same(attempt(run), best)
    assert {s: row["validation/loss"] for s, row in run.rows.items()} == losses
    again = Validation(whole.model, held_in(whole), lambda rows: rows)(best)
    assert again["validation/loss"] == pytest.approx(losses[step])


def test_choosing_the_best_without_held_in_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.select=best needs held-in rows"):
        Run(tmp_path, select="best").attempt()


# --- another start, another run, a trace --------------------------------------


def test_a_run_may_start_from_other_parameters_and_resumes_from_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path)
    given = moved(run.model, 3)

    def start(like: Any) -> Params:
        return jax.tree.map(lambda shape, leaf: jax.device_put(leaf, shape.sharding), like, given)

    whole = run.attempt(start=start)
    other = Run(tmp_path / "other")
    with pytest.raises(Preempted):
        other.attempt(should_stop=after(4), start=start)
    assert_same(other.attempt(start=None), whole)
    assert_same(Run(tmp_path / "none", steps=0).attempt(start=start), given)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [({"steps": 20}, r"trainer\.steps was 10 and is 20"), ({"z_loss": 0.1}, r"trainer\.z_loss was 0\.0 and is 0\.1")],
)
def test_the_checkpoint_of_another_configuration_is_refused_and_kept(
    tmp_path: Path, knobs: dict[str, Any], message: str
) -> None:
    Run(tmp_path).attempt()
    with pytest.raises(OtherRun, match=message):
        Run(tmp_path, **knobs).attempt()
    Run(tmp_path).attempt(batches=BreaksAt(Run(tmp_path), 0))


def test_going_on_with_other_code_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Preempted):
        Run(tmp_path).attempt(should_stop=after(2))
    monkeypatch.setattr(stamp, "_code", lambda: "0123")
    Run(tmp_path).attempt()
    assert "was made by other code" in caplog.text


def test_the_steps_asked_for_are_traced(tmp_path: Path) -> None:
    Run(tmp_path, profile_steps=[3, 5]).attempt()
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    content = trace.read_bytes()
    assert b"train" in content
    assert trace.stat().st_size > 1000


@pytest.mark.parametrize("steps", [[3], [5, 3], [0, 2]])
def test_steps_that_cannot_be_traced_are_refused(tmp_path: Path, steps: list[int]) -> None:
    with pytest.raises(ValueError, match=r"trainer\.profile_steps is .*\[first, last\]"):
        Run(tmp_path, profile_steps=steps).attempt()
