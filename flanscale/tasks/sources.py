"""Where is each collection published, under which licence, and which of its files are worth fetching? One table.

Commits are pinned; a Hub branch is resolved to its commit when fetching and recorded. A `sha256` stands where the
published file was at hand to be measured; elsewhere the measured one is recorded (`fetched.json`).
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flanscale.tasks.catalog import catalogued
from flanscale.tasks.muffin_hub import BRANCH, FOLDER
from flanscale.tasks.muffin_table import HUB_FORMS, NOT_ON_THE_HUB

_RAW = "https://raw.githubusercontent.com"
_FLAN = f"{_RAW}/google-research/FLAN/e9e4ec6e2701182c7a91af176f705310da541277/flan/v2"
_NIV2_COMMIT = "55a365637381ce7f3748fa2eac7aef1a113bbb82"
_OLORA = f"{_RAW}/cmnfriend/O-LoRA/b51298af353f5846122467f07ef31cf29a61ab1c/CL_Benchmark"
_COLA = f"{_RAW}/nyu-mll/CoLA-baselines/dd095d3646ed05a315280aaa8ed4ec84ba435b3e"
_DART = f"{_RAW}/Yale-LILY/dart/bb644b12ec1d0264f96a31145534b9a94f6ff5f5"
_E2E = f"{_RAW}/tuetschek/e2e-dataset/ab0d967dd5729ce455ef14ba9ffafc456a335264"


@dataclass(frozen=True)
class File:
    """One file at one address; `path` is where it goes, under the collection's folder.

    `becomes_safetensors` where it is pickled weights: they are not kept, since reading a pickle can run code.
    """

    url: str
    path: str
    sha256: str | None = None
    size: int | None = None
    becomes_safetensors: bool = False


@dataclass(frozen=True)
class Archive:
    """A gzipped tar of which the members under some folders are wanted; its own first folder is left away."""

    url: str
    members: tuple[str, ...]
    most_bytes: int


@dataclass(frozen=True)
class Hub:
    """Files of a Hugging Face Hub repository whose path starts with a prefix and has the ending.

    They go to `folder` under their path.
    """

    repository: str
    revision: str
    prefixes: tuple[str, ...]
    folder: str = ""
    ending: str = ""
    kind: Literal["dataset", "model"] = "dataset"


@dataclass(frozen=True)
class Source:
    """What `fetch` knows of one collection.

    Attributes:
        folder: its folder under data.root.
        terms: what has to be accepted first; empty where the licence asks for nothing but being kept.
        by_hand: what is not fetched, and what to do about it.
    """

    folder: str
    title: str
    home: str
    licence: str
    size: str
    parts: tuple[File | Archive | Hub, ...]
    terms: str = ""
    by_hand: str = ""


_COT = {
    "aqua": "2e43bd7900e739a78d7b7b7444e19bae4259399327eb76b78a30f4e4fb7dfdda",
    "creak": "ee6b9a3d88fbc1bdf7cd751c7f266edfc4c15e475560408ffb79490b2fe7bdea",
    "ecqa": "cf6967d587851f25a834cdd16c73f17a4da08bae5b8821922a64b3107160e01c",
    "esnli": None,
    "gsm8k": "acecbb7438cccae1b2eaa212a291c127ece02670d8bb39600164ab20f1d759a7",
    "qasc": "566ba8c3945b5fe8e3125ca4919c15f36e1067b881c251e75d071ad38c861b9a",
    "qed": None,
    "sensemaking": "c978b40455ed62b1755956f25327c7cec6f9d4954f7185e6fb14b03db74c65af",
    "strategyqa": "0e56b9f46b4d1569e45bf4c7f10d7854be81ae62303098fbd03d3e0bf912201f",
}
_OLORA_SETS = {
    "ag_news_subset": "TC/agnews",
    "bool_q": "BoolQA/BoolQA",
    "cb": "NLI/CB",
    "copa": "COPA/COPA",
    "glue_qqp": "QQP/QQP",
    "imdb_reviews": "SC/IMDB",
    "mnli_matched": "NLI/MNLI",
    "multirc": "MultiRC/MultiRC",
    "rte": "NLI/RTE",
    "sst2": "SC/SST-2",
    "wic": "WiC/WiC",
}
_WEIGHT_FILES = ("config.json", "generation_config.json", "spiece.model", "tokenizer", "model", "pytorch_model")


def _prefixes(repository: str) -> tuple[str, ...]:
    forms = [form for form in HUB_FORMS.values() if form.repository == repository]
    return tuple(dict.fromkeys(prefix for form in forms for prefix in form.prefixes))


_MUFFIN: tuple[File | Archive | Hub, ...] = (
    *(
        File(f"{_OLORA}/{folder}/{file}", f"{name}/{file}")
        for name, folder in _OLORA_SETS.items()
        for file in ("train.json", "labels.json")
    ),
    File(
        f"{_COLA}/acceptability_corpus/cola_public/raw/in_domain_train.tsv",
        "cola/in_domain_train.tsv",
        "f320a10f92d3bce6b29152fde322a362eac39238e50d8de0c8815457fdf4fc12",
    ),
    File(f"{_DART}/data/v1.1.1/dart-v1.1.1-full-train.json", "dart/dart-v1.1.1-full-train.json"),
    File(f"{_E2E}/trainset.csv", "e2e_nlg/trainset.csv"),
    *(
        Hub(repository, BRANCH, _prefixes(repository), f"{FOLDER}/{repository}", ".parquet")
        for repository in dict.fromkeys(form.repository for form in HUB_FORMS.values())
    ),
)
_SIZES = ("small", "base", "large", "xl", "xxl")
WEIGHTS = {f"t5_{size}": f"google/t5-{size}-lm-adapt" for size in _SIZES}
"""conf/model → the Hub's repository of its weights: T5 1.1 after 100,000 further steps as a language model."""
_GIGABYTES = dict(zip(WEIGHTS, (0.3, 1.0, 3.1, 11.4, 44.5), strict=True))
FLAN = ("cot", "muffin", "t0sf", "niv2", "templates", "vocabulary")
"""What `flan` stands for: all that collection=flan reads, with FLAN's wordings and T5's vocabulary."""


def to_fetch(name: str, folder: Path | None = None) -> str:
    """What to type for a collection whose data is not here, or not all of it in `folder`; for the end of a message."""
    source = read_sources()[name]
    to = folder.parent if folder else Path("data")
    licence = " --accept-licence" if source.terms else ""
    place = f" to {to / source.folder}" if folder and folder.name != source.folder else ""
    return f"`flanscale tasks fetch {name} --to {shlex.quote(str(to))}{licence}` brings it{place}"


def weights_source(model: str) -> Source:
    """The pretrained weights of a model of conf/model, one of WEIGHTS."""
    return Source(
        f"weights/{model}",
        f"pretrained weights of {model}: T5 1.1, LM-adapted",
        f"huggingface.co/{WEIGHTS[model]}",
        "Apache-2.0",
        f"{_GIGABYTES[model]} GB",
        (Hub(WEIGHTS[model], "main", _WEIGHT_FILES, kind="model"),),
    )


def hub() -> str:
    """The Hub's address, or that of the mirror that `HF_ENDPOINT` names."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def read_sources() -> dict[str, Source]:
    """Name → source, in the order of the paper's collections, then what goes with them."""
    return {
        "cot": Source(
            "cot",
            "FLAN's chain-of-thought data: nine files",
            "github.com/google-research/FLAN, flan/v2/cot_data",
            "Apache-2.0",
            "10 MB in seven files, and two larger ones",
            tuple(File(f"{_FLAN}/cot_data/{name}_train.tsv", f"{name}_train.tsv", _COT[name]) for name in _COT),
        ),
        "muffin": Source(
            "muffin",
            f"Flan-2021 datasets in their raw form: {len(_OLORA_SETS) + 3 + len(HUB_FORMS)} of 80",
            "github.com: cmnfriend/O-LoRA (11), nyu-mll/CoLA-baselines, Yale-LILY/dart, tuetschek/e2e-dataset;"
            f" {len(HUB_FORMS)} from huggingface.co, each dataset's Parquet branch",
            "MIT (O-LoRA, dart); CC BY-SA 4.0 (e2e-dataset); CoLA names none; each dataset of O-LoRA and the Hub keeps"
            " its own",
            "some GB; told by the servers",
            _MUFFIN,
            terms="several of these datasets are for research only or name no licence: read their own terms",
            by_hand=f"the other {len(NOT_ON_THE_HUB)}: `flanscale tasks list --missing --collection muffin data.root=…`"
            " says why; take those that there are rendered (`flanscale tasks fetch rendered`) or write them as tasks of"
            " collection=jsonl",
        ),
        "t0sf": Source(
            "t0",
            "T0-SF: the 193 templates of P3 that Muffin has not",
            "huggingface.co/datasets/bigscience/P3, its Parquet branch",
            "Apache-2.0 (P3); the datasets in it keep their own",
            "some GB; told by the Hub",
            (
                Hub(
                    "bigscience/P3",
                    "refs/convert/parquet",
                    tuple(f"{name}/{split}/" for name in catalogued("t0sf") for split in ("train", "partial-train")),
                    "sf",
                    ".parquet",
                ),
            ),
        ),
        "niv2": Source(
            "niv2",
            "Super-NaturalInstructions: task files and official splits",
            "github.com/allenai/natural-instructions",
            "Apache-2.0 (the collection); each task file names its own under `Instance License`",
            "some 3 GB unpacked",
            (
                Archive(
                    f"https://codeload.github.com/allenai/natural-instructions/tar.gz/{_NIV2_COMMIT}",
                    ("tasks", "splits"),
                    16 * 10**9,
                ),
            ),
            terms="many tasks are for non-commercial use or name no licence: read `Instance License` of those you use",
        ),
        "rendered": Source(
            "rendered",
            "the Flan 2022 collection as rendered for its release: Flan 2021, T0, NIV2, CoT and Dialog",
            "huggingface.co/datasets/DataProvenanceInitiative/*_submix_original, to which google-research/FLAN points",
            "none stated for the rendered files; the datasets in them keep their own",
            "over 16 GB",
            tuple(
                Hub(f"DataProvenanceInitiative/{name}_submix_original", "main", ("data/",), name)
                for name in ("flan2021", "t0", "niv2", "cot", "dialog")
            ),
            terms="the rendered files name no licence and hold datasets for research only: read the datasets' terms",
            by_hand="program synthesis is not in the release, for legal reasons: nothing can be fetched",
        ),
        "templates": Source(
            "flan",
            "FLAN's wordings, for mixture.templates=flan",
            "github.com/google-research/FLAN, flan/v2",
            "Apache-2.0",
            "under 1 MB",
            (File(f"{_FLAN}/templates.py", "templates.py"),),
        ),
        "vocabulary": Source(
            "tokenizer",
            "T5's SentencePiece vocabulary",
            "huggingface.co/google/t5-v1_1-small, spiece.model",
            "Apache-2.0",
            "0.8 MB",
            (
                File(
                    f"{hub()}/google/t5-v1_1-small/resolve/main/spiece.model",
                    "t5.spiece.model",
                    "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86",
                    791_656,
                ),
            ),
        ),
    }
