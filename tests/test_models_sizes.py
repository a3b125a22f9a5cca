"""The sizes of conf/model/ are the published ones, to the parameter; nothing is allocated."""

from pathlib import Path

import jax
import pytest
import yaml

from flanscale.models import build_model
from flanscale.schema import ModelConfig
from flanscale.sizing.architecture import check_model
from flanscale.sizing.flops import parameter_count

FOLDER = Path(__file__).parents[1] / "conf" / "model"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

# Millions, of the checkpoints themselves. T5 v1.1: Chung et al. 2022 and t5x; PaLM: arXiv:2204.02311, Table 1, kernels
# and table alone (its norms add 0.3, 0.5 and 2.2 million).
T5_V1_1 = {"small": 76.961, "base": 247.578, "large": 783.150, "xl": 2849.757, "xxl": 11135.332}
PALM = {"8b": 8.632e9, "62b": 62.495e9, "540b": 540.354e9}

PUBLISHED = {
    # Cards of EleutherAI/pythia-*, which also give those without embeddings below; 14m as Lightning's tests count it
    "pythia_14m": 14_067_712,
    "pythia_31m": 30_494_720,
    "pythia_70m": 70_426_624,
    "pythia_160m": 162_322_944,
    "pythia_410m": 405_334_016,
    "pythia_1b": 1_011_781_632,
    "pythia_1_4b": 1_414_647_808,
    "pythia_2_8b": 2_775_208_960,
    "pythia_6_9b": 6_857_302_016,
    "pythia_12b": 11_846_072_320,
    # keras-hub's presets, qwen_presets.py and qwen3_presets.py; 14b: general.parameter_count of its GGUF files
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_3b": 3_085_938_688,
    "qwen2_5_7b": 7_615_616_512,
    "qwen2_5_14b": 14_770_033_664,
    "qwen2_5_32b": 32_763_876_352,
    "qwen2_5_72b": 72_706_203_648,
    "qwen3_0_6b": 596_049_920,
    "qwen3_1_7b": 1_720_574_976,
    "qwen3_4b": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200,
    "qwen3_32b": 32_762_123_264,
    # keras-hub's gemma_presets.py and gemma3_presets.py
    "gemma_2b": 2_506_172_416,
    "gemma2_2b": 2_614_341_888,
    "gemma3_270m": 268_098_176,
    "gemma3_1b": 999_885_952,
    # What the Hub's API answers for each model's page as safetensors.total, and its GGUF files as parameter_count
    "smollm2_135m": 134_515_008,
    "smollm2_360m": 361_821_120,
    "smollm2_1_7b": 1_711_376_384,
    "llama3_2_1b": 1_235_814_400,
    "llama3_2_3b": 3_212_749_824,
    "llama3_1_8b": 8_030_261_248,
    "olmo2_1b": 1_484_916_736,
    "olmo2_7b": 7_298_617_344,
    "t5_1_0_small": 60_506_624,
    "t5_1_0_base": 222_903_552,
    "t5_1_0_large": 737_668_096,
    "t5_1_0_3b": 2_851_598_336,
    "t5_1_0_11b": 11_307_321_344,
}
WITHOUT_EMBEDDINGS = {  # the cards of EleutherAI/pythia-*
    "pythia_14m": 1_189_888,
    "pythia_31m": 4_739_072,
    "pythia_70m": 18_915_328,
    "pythia_160m": 85_056_000,
    "pythia_410m": 302_311_424,
    "pythia_1b": 805_736_448,
    "pythia_1_4b": 1_208_602_624,
    "pythia_2_8b": 2_517_652_480,
}
OURS = {"micro", "mini", "nano", "t5_micro"}


def read(name: str) -> ModelConfig:
    return ModelConfig(**yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def test_every_size_is_held_by_a_published_count_or_is_our_own() -> None:
    paper = {f"t5_{size}" for size in T5_V1_1} | {f"palm_{size}" for size in PALM}
    assert {*NAMES} == OURS | paper | {*PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_open_models_have_their_published_sizes(name: str) -> None:
    assert parameter_count(read(name), 1) == PUBLISHED[name]


@pytest.mark.parametrize("name", WITHOUT_EMBEDDINGS)
def test_pythia_has_its_published_sizes_without_embeddings(name: str) -> None:
    config = read(name)
    assert config.vocab_size is not None
    assert parameter_count(config, 1) - 2 * config.vocab_size * config.d_model == WITHOUT_EMBEDDINGS[name]


@pytest.mark.parametrize("size", T5_V1_1)
def test_t5_v1_1_has_its_published_sizes(size: str) -> None:
    assert parameter_count(read(f"t5_{size}"), 1) / 1e6 == pytest.approx(T5_V1_1[size], abs=0.0005)


@pytest.mark.parametrize("size", PALM)
def test_palm_has_its_published_sizes(size: str) -> None:
    config = read(f"palm_{size}")
    norms = (config.n_layers + 1) * config.d_model
    assert parameter_count(config, 1) - norms == pytest.approx(PALM[size], abs=0.0005e9)


# One size of every family: the count is that of the parameters that the model makes.
MADE = (
    "t5_1_0_11b t5_xxl palm_540b pythia_12b qwen2_5_7b qwen3_8b smollm2_360m llama3_2_3b olmo2_7b gemma2_2b gemma3_1b"
)


@pytest.mark.parametrize("name", MADE.split())
def test_the_count_is_that_of_what_the_initialisation_makes(name: str) -> None:
    shapes = jax.eval_shape(build_model(read(name), 1).init, jax.random.key(0))
    assert parameter_count(read(name), 1) == sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", NAMES)
def test_every_size_can_be_built_and_names_its_source(name: str) -> None:
    check_model(read(name))
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert name in OURS or text.startswith("# ")
