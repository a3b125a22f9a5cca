"""`plan --tune`: the fastest setting that fits, of the same cell, as text and for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from itertools import product
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flanscale.chips import CHIPS
from flanscale.cli.main import app
from flanscale.config.checks import leaves
from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.identity import identity
from flanscale.orchestration.planning import display_tune
from flanscale.orchestration.planning.cost import cost_of
from flanscale.orchestration.planning.memory import attention_on
from flanscale.orchestration.planning.plan_json import cell_document, plan_document
from flanscale.orchestration.planning.preview import make_plan, print_cell, print_plan
from flanscale.orchestration.planning.tune import Setting, Tuning, settings, tune
from flanscale.schema import MeshConfig, RunConfig
from flanscale.sizing.memory import REMATS, footprint
from flanscale.sizing.speed import step_time

LLAMA = ("model=llama3_2_1b", "optimizer=adamw", "trainer=upalm", "trainer.batch_rows=8")
T5 = ("model=t5_large", "optimizer=adafactor", "trainer=paper_t5", "trainer.batch_rows=16")
GEMMA = ("model=gemma3_1b", "optimizer=adamw", "trainer=niv2_smollm2", "trainer.batch_rows=12")


def cell(*overrides: str) -> RunConfig:
    return Composer().compose(overrides)


def tuned(*overrides: str, devices: int = 1) -> Tuning:
    (found,) = tune(cell(*overrides), [devices])
    return found


def best(*overrides: str, devices: int = 1) -> Setting:
    found = tuned(*overrides, devices=devices).best
    assert found is not None
    return found


def said(*overrides: str, counts: tuple[int, ...] = (), compiled: bool = False) -> str:
    console = Console(file=StringIO(), width=250)
    print_cell(overrides, console, counts=counts, compiled=compiled)
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- what is chosen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "chip", "devices"),
    [
        (LLAMA, "h100", 1),
        (LLAMA, "a10g", 8),
        (T5, "a100_40", 4),
        (T5, "tpu_v3", 8),
        (GEMMA, "l4", 6),
        (LLAMA, "t4", 16),
    ],
)
def test_the_chosen_setting_fits_and_none_that_fits_is_faster(given: tuple[str, ...], chip: str, devices: int) -> None:
    config = cell(*given, f"cluster.chip={chip}")
    found = best(*given, f"cluster.chip={chip}", devices=devices)
    assert found.footprint.fits(CHIPS[chip].memory)
    times = by_hand(config, chip, devices)
    assert found.time.total == min(times.values())
    assert (
        times[found.mesh.data, found.mesh.fsdp, found.mesh.tensor, found.microbatches, found.remat] == found.time.total
    )


def by_hand(config: RunConfig, chip: str, devices: int) -> dict[tuple[int, int, int, int, str], float]:
    """Seconds of everything that fits, one by one."""
    rows, model = config.trainer.batch_rows, config.model
    times, attention = {}, attention_on(config, chip)
    for data, fsdp, tensor, parts in product(*[range(1, devices + 1)] * 3, range(1, rows + 1)):
        if data * fsdp * tensor != devices or model.n_heads % tensor or rows % (data * fsdp * parts):
            continue
        for remat in REMATS:
            asked = replace(config.trainer, mesh=MeshConfig(data, fsdp, tensor), microbatches=parts)
            made = replace(model, remat=remat)
            taken = footprint(made, 0, config.optimizer, asked, attention)
            if taken.fits(CHIPS[chip].memory):
                time = step_time(made, 0, config.optimizer, asked, CHIPS[chip], taken, attention)
                times[data, fsdp, tensor, parts, remat] = time.total
    return times


def test_every_setting_is_of_the_same_cell_and_its_overrides_make_it() -> None:
    given = (*LLAMA, "cluster.chip=h100")
    config = cell(*given)
    found = list(settings(config, "h100", 4))
    assert {setting.remat for setting in found} == set(REMATS)
    assert {setting.microbatches for setting in found} == {1, 2, 4, 8}
    frozen = {name for name, field, _ in leaves(config) if field.metadata["changes_result"]}
    for setting in found[::7]:
        applied = setting.applied(config)
        assert identity(applied) == identity(config)
        assert applied == cell(*given, *setting.overrides)
        assert not {override.split("=")[0] for override in setting.overrides} & frozen
    assert config == cell(*given)


@pytest.mark.parametrize(("given", "chip"), [(LLAMA, "h100"), (T5, "tpu_v4"), (LLAMA, "a100")])
def test_more_devices_are_never_predicted_to_be_slower(given: tuple[str, ...], chip: str) -> None:
    rows = (*given, f"cluster.chip={chip}", "trainer.batch_rows=64")
    times = [best(*rows, devices=devices).time.total for devices in (1, 2, 4, 8, 16, 32, 64)]
    assert times == sorted(times, reverse=True)


def test_but_for_those_that_wait_for_the_network() -> None:
    rows = ("model=llama3_1_8b", "optimizer=adamw", "trainer=upalm", "trainer.batch_rows=16", "cluster.chip=l4")
    found = [best(*rows, devices=devices) for devices in (8, 16, 32)]
    assert found[0].time.total > found[1].time.total < found[2].time.total
    assert found[2].time.bound == "links"


def test_faster_links_and_more_memory_never_choose_something_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    given = (*LLAMA, "cluster.chip=l4", "trainer.batch_rows=32")
    before = best(*given, devices=16).time.total
    for changes in ({"network": 50e9}, {"link": 450e9}, {"bandwidth": 600e9}, {"gib": 45}):
        with monkeypatch.context() as patch:
            patch.setitem(CHIPS, "l4", replace(CHIPS["l4"], **changes))
            assert best(*given, devices=16).time.total <= before, changes


def test_throughput_and_utilisation_follow_from_the_step() -> None:
    found, config = best(*LLAMA, "cluster.chip=h100", devices=4), cell(*LLAMA)
    assert found.tokens_per_second == pytest.approx(8 * 2048 / found.time.total)
    flops = cost_of(config).flops / config.trainer.steps
    assert found.mfu == pytest.approx(flops / found.time.total / 4 / 989.4e12)


def test_bfloat16_is_shown_beside_and_never_chosen() -> None:
    found = tuned(*LLAMA, "cluster.chip=h100", "trainer.precision=float32")
    assert found.bfloat16
    assert found.best
    assert {setting.precision for setting in found.fitting} == {"float32"}
    assert found.bfloat16.time.total == best(*LLAMA, "cluster.chip=h100").time.total < found.best.time.total
    assert "trainer.precision=bfloat16" in found.overrides(found.bfloat16)
    assert not any("precision" in override for override in found.overrides(found.best))
    assert tuned(*LLAMA, "cluster.chip=h100").bfloat16 is None


def test_what_the_memory_forbids_is_named_when_it_would_be_faster() -> None:
    found = tuned(*LLAMA, "cluster.chip=h100", "trainer.batch_rows=32")
    assert found.beyond
    assert found.best
    assert not found.beyond.fits
    assert found.beyond.time.total < found.best.time.total
    assert tuned(*LLAMA, "cluster.chip=h100").beyond is None


def test_the_cells_own_setting_is_shown_where_it_is_not_the_fastest() -> None:
    given = (*LLAMA, "cluster.chip=h100", "model.remat=full", "trainer.microbatches=2")
    found = tuned(*given)
    assert found.own
    assert found.own.applied(found.config) == found.config
    assert f"as the cell is: {1000 * found.own.time.total:,.1f} ms a step" in said(*given)
    assert cell_document(given, ())["tune"][0]["own"]["step_seconds"] == found.own.time.total
    assert found.best
    assert "as the cell is" not in said(*given, *found.best.overrides)
    assert tuned(*given, devices=2).own is None
    automatic = tuned(*LLAMA, "cluster.chip=h100").own
    assert automatic
    assert automatic.remat == "none"
    large = ("trainer.batch_rows=32", "model.remat=none", "trainer.microbatches=1")
    assert "as the cell is, which does not fit: " in said(*given, *large)


def test_a_step_that_is_too_short_to_predict_says_so() -> None:
    assert "so short a step waits for kernels" in said("model=nano", "cluster.chip=h100")
    assert "so short a step" not in said(*LLAMA, "cluster.chip=h100")


# --- on how many devices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "devices"),
    [
        ((), 1),
        (("trainer.mesh.data=2", "trainer.mesh.fsdp=2"), 4),
        (("cluster.gpus=4", "cluster.nodes=2"), 8),
        (("cluster.gpus=4", "cluster.cells_at_once=2"), 2),
    ],
)
def test_the_devices_are_those_of_the_job(overrides: tuple[str, ...], devices: int) -> None:
    (found,) = tune(cell(*LLAMA, "cluster.chip=h100", *overrides))
    assert found.devices == devices
    assert found.best is not None
    assert not any(override.startswith("cluster.") for override in found.overrides(found.best))


def test_another_number_of_gpus_is_asked_of_the_job_too() -> None:
    given = (*LLAMA, "cluster.chip=h100", "cluster.gpus=8")
    found = tuned(*given, devices=16)
    assert found.best is not None
    asked = cell(*given, *found.overrides(found.best))
    assert (asked.cluster.nodes, asked.cluster.gpus) == (2, 8)
    mesh = asked.trainer.mesh
    assert mesh.data * mesh.fsdp * mesh.tensor == 16


# --- what cannot be ------------------------------------------------------------------------------------------------


def test_without_a_chip_it_says_which_can_be_named() -> None:
    with pytest.raises(ConfigError, match=r"--tune: on which chip is llama-3\.2-1b to run\? Give cluster\.chip=.*h100"):
        tune(cell(*LLAMA))


def test_where_nothing_fits_the_number_of_devices_and_the_chip_that_are_named_fit() -> None:
    given = ("model=llama3_1_8b", "optimizer=adamw", "trainer=upalm", "trainer.batch_rows=8")
    found = tuned(*given, "cluster.chip=h100")
    assert found.best is None
    assert found.remedy
    (devices,) = found.remedy.devices
    assert tuned(*given, "cluster.chip=h100", devices=devices).fitting
    assert not tuned(*given, "cluster.chip=h100", devices=devices // 2).fitting
    assert tuned(*given, f"cluster.chip={found.remedy.chip}").fitting
    text = said(*given, "cluster.chip=h100")
    assert re.search(rf"none of \d+ settings fits: .*; would fit: --devices {devices} or cluster\.chip=\w+\n", text)
    assert "ms a step" not in text


def test_of_the_chips_that_would_do_the_one_with_least_memory_is_named() -> None:
    found = tuned(*LLAMA, "cluster.chip=t4")
    assert found.remedy
    assert found.remedy.chip
    enough = [chip.gib for name, chip in CHIPS.items() if tuned(*LLAMA, f"cluster.chip={name}").fitting]
    assert CHIPS[found.remedy.chip].gib == min(enough)


def test_where_no_number_of_devices_is_enough_nothing_is_promised() -> None:
    text = said("model=palm_540b", "optimizer=adamw", "trainer=upalm", "trainer.batch_rows=1", "cluster.chip=t4")
    assert "take a smaller model, or fewer or shorter rows" in text
    assert "would fit" not in text


def test_a_number_of_devices_that_no_mesh_has_names_the_next_ones() -> None:
    found = tuned(*LLAMA, "cluster.chip=h100", devices=12)  # 8 rows, 32 heads
    assert found.remedy is not None
    assert found.remedy.devices == (8, 16)
    assert all(tuned(*LLAMA, "cluster.chip=h100", devices=devices).tried for devices in found.remedy.devices)
    assert "no mesh has 12 devices: data × fsdp must divide trainer.batch_rows=8" in said(
        *LLAMA, "cluster.chip=h100", counts=(12,)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "8"], "--devices 8 is of --tune"),
        (["--json", "--compile"], "--json tells the memory of every cell by itself"),
        (["--json", "--tune", "--memory"], "--json tells the memory of every cell by itself"),
        (["--tune"], "--tune: on which chip"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options: list[str], message: str) -> None:
    refused = CliRunner().invoke(app, ["plan", *LLAMA, *options])
    assert isinstance(refused.exception, ConfigError)
    assert str(refused.exception).startswith(message)


# --- what is shown ------------------------------------------------------------------------------------------------


def test_text_and_json_say_the_same() -> None:
    given = (*LLAMA, "cluster.chip=h100", "trainer.precision=float32")
    document = cell_document(given, (1, 8))["tune"]
    text = said(*given, counts=(1, 8))
    tables = text.split(" tokens, float32, adamw:\n")[1:]
    assert [entry["devices"] for entry in document] == [1, 8]
    for entry, table in zip(document, tables, strict=True):
        rows = [line for line in table.splitlines() if line.startswith(REMATS)]
        assert len(rows) == len(entry["settings"]) == min(display_tune.SHOWN, entry["fitting"])
        for line, setting in zip(rows, entry["settings"], strict=True):
            mesh = " × ".join(str(size) for size in setting["mesh"].values())
            rest = [setting["microbatches"], f"{setting['memory']['total'] / 2**30:.3g}", 79.6]
            rest += [f"{1000 * setting['step_seconds']:,.1f}", f"{setting['tokens_per_second']:,.0f}"]
            shown = [setting["remat"], *mesh.split(), *map(str, rest), f"{setting['mfu']:.1%}", setting["bound"]]
            assert line.split() == shown
        assert f"  {' '.join(entry['settings'][0]['overrides'])}\n" in table
        assert sum(entry["settings"][0]["seconds"].values()) == pytest.approx(entry["settings"][0]["step_seconds"])
        assert f"in bfloat16, which is another cell: {1000 * entry['bfloat16']['step_seconds']:,.1f} ms" in table
    assert display_tune.ABOUT in text
    json.dumps(document, allow_nan=False)


def test_a_study_is_tuned_once_for_every_size() -> None:
    made = make_plan("task_count", ["cluster.chip=a100", "model=t5_small,t5_base", "mixture.count=0,9"], insist=False)
    console = Console(file=StringIO(), width=250)
    print_plan(made, console, counts=(2,))
    text: Any = console.file.getvalue()  # type: ignore[attr-defined]
    titles = [line for line in text.splitlines() if " on 2 a100, 64 rows of 1024 + 256 tokens" in line]
    assert [title.split()[0] for title in titles] == ["t5-small", "t5-base"]
    document = plan_document(made, "grid", (2,))
    assert [entry["model"] for entry in document["tune"]] == ["t5-small", "t5-base"]
    assert "tune" not in plan_document(made, "grid")


def test_the_compiler_is_asked_about_the_fastest_setting() -> None:
    given = ("model=nano", "model.n_layers=2", "trainer.batch_rows=4", "cluster.chip=a30", "trainer.input_tokens=16")
    text = said(*given, counts=(2,), compiled=True)
    assert re.search(r"compiler \(CPU backend, 2 virtual devices, \d+ s\): \S+ GiB on each device", text)
    assert "virtual" not in said(*given, counts=(2,))


def test_tuning_loads_no_jax() -> None:
    code = (
        "import sys; from flanscale.orchestration.planning.plan_json import cell_document;"
        f"found = cell_document([*{LLAMA}, 'cluster.chip=h100', 'trainer.batch_rows=64'], [64])['tune'];"
        "assert found[0]['fitting'] and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
