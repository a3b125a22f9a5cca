"""Every knob of one cell, as plain dataclasses: the schema of `conf/` and the only configuration any room sees.

Standard library only, so that every room can import it: on a login node without JAX, and on a bare training
machine without Hydra. `knob(...)` attaches what `flanscale.config.compose` checks before anything is created.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flanscale.chips import CHIPS

REQUIRED: Any = "???"  # OmegaConf's mark of a value that must be given


def knob(
    default: Any = REQUIRED,
    *,
    help: str,
    choices: Iterable[str] | None = None,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    changes_result: bool = True,
    only_if: Callable[[RunConfig], bool] | None = None,
) -> Any:
    """A dataclass field with its documentation, its allowed values and whether it belongs to a cell's identity.

    A list or dict default is copied for every instance. `changes_result=False` keeps the knob out of the identity
    hash: runs that differ in it alone are the same run. `minimum` may be reached, `above` may not. `only_if` says in
    which cells the knob matters; in the others it rests at its default, so that those that differ in it alone are one
    cell.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices else None,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "changes_result": changes_result,
        "only_if": only_if,
    }
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class ModelConfig:
    """An architecture. Sizes are per layer; what does not apply to a family keeps its default."""

    name: str = knob(help="the size's name, as figures and tables print it")
    architecture: str = knob(help="which family", choices=("decoder", "encoder_decoder"))
    d_model: int = knob(help="width of the residual stream", minimum=1)
    n_layers: int = knob(help="layers of the decoder, and of the encoder where there is one", minimum=1)
    n_heads: int = knob(help="attention heads", minimum=1)
    head_dim: int = knob(help="width of one head", minimum=1)
    d_ff: int = knob(help="hidden width of the feed-forward block (each half of a gated one)", minimum=1)
    activation: str = knob(
        "swiglu",
        help="feed-forward nonlinearity; geglu and swiglu are gated; gelu is the tanh form, as in geglu",
        choices=("relu", "gelu", "gelu_exact", "geglu", "swiglu"),
    )
    dropout: float = knob(0.0, help="dropout rate (paper Table 22: 0.05)", minimum=0.0, maximum=0.9)
    norm_eps: float = knob(1e-6, help="added to the mean square in norms", minimum=0.0)

    vocab_size: int | None = knob(
        None, help="rows of the embedding table; null: what the tokenizer needs, padded", minimum=1
    )
    tie_embeddings: bool = knob(True, help="logits from the transposed input embedding")
    scale_logits: bool = knob(True, help="tie_embeddings: divide the logits by √d_model (T5 v1.0, PaLM; not Llama)")

    n_kv_heads: int | None = knob(
        None, help="decoder: key and value heads; null: n_heads; 1: multi-query attention", minimum=1
    )
    block: str = knob(
        "pre",
        help="decoder: norms before each half; one before parallel halves (PaLM); two before parallel halves"
        " (GPT-NeoX); after each half (OLMo 2); before and after (Gemma 2)",
        choices=("pre", "parallel", "parallel_two_norms", "post", "sandwich"),
    )
    norm: str = knob("rms", help="decoder: root mean square, or also centred", choices=("rms", "layer"))
    norm_bias: bool = knob(False, help="decoder: norms add a learned vector")
    norm_offset: bool = knob(False, help="decoder: norms multiply by 1 + scale (Gemma)")
    bias: str = knob(
        "none",
        help="decoder: vectors added after kernels: none, of queries, keys and values (Qwen 2), or all (GPT-NeoX)",
        choices=("none", "qkv", "all"),
    )
    qk_norm: str = knob(
        "none",
        help="decoder: queries and keys are normalised in each head (Qwen 3) or over all heads (OLMo 2)",
        choices=("none", "head", "projection"),
    )
    rope_theta: float = knob(10_000.0, help="decoder: base of the rotary position embedding", minimum=1.0)
    rope_fraction: float = knob(
        1.0, help="decoder: share of a head's dimensions that rotate (GPT-NeoX: 0.25)", minimum=0.0, maximum=1.0
    )
    rope_scaling: float = knob(
        1.0, help="decoder: Llama 3's slowing of waves longer than 8192 positions, by this factor", minimum=1.0
    )
    window: int | None = knob(None, help="decoder: positions that local layers look back over (Gemma)", minimum=1)
    global_every: int | None = knob(
        None, help="decoder with window: each such layer sees all positions; null: none does", minimum=1
    )
    window_rope_theta: float | None = knob(
        None, help="decoder with window: rope_theta of local layers, where another (Gemma 3)", minimum=1.0
    )
    attention_cap: float | None = knob(
        None, help="decoder: attention scores are cap·tanh(score/cap) (Gemma 2); null: as they are", above=0.0
    )
    logit_cap: float | None = knob(
        None, help="decoder: logits are cap·tanh(logit/cap) (Gemma 2); null: as they are", above=0.0
    )
    scale_embeddings: bool = knob(False, help="decoder: multiply embeddings by √d_model (Gemma)")
    max_positions: int | None = knob(None, help="decoder: longest row; null: any", minimum=1)
    bos_id: int | None = knob(
        0,
        help="decoder: token read before a segment's first; null: none, and the first token is not predicted",
        minimum=0,
    )
    prefix_lm: bool = knob(False, help="decoder: inputs see each other in both directions (UL2R, Flan-PaLM)")

    relative_buckets: int = knob(32, help="encoder-decoder: buckets of the relative position bias", minimum=2)
    relative_max_distance: int = knob(128, help="encoder-decoder: distance from which all share a bucket", minimum=2)

    scan: bool = knob(
        False, help="compile one layer for all instead of each by itself; for deep models", changes_result=False
    )
    remat: str = knob(
        "auto",
        help="what the backward pass computes again: nothing, all but kernels' products (dots), the feed-forward's too"
        " (attention), everything (full), or the least with which a step fits into memory",
        choices=("auto", "none", "dots", "attention", "full"),
        changes_result=False,
    )
    attention: str = knob(
        "auto",
        help="who computes it: XLA, cuDNN (GPUs), Pallas' splash kernel (TPUs), or the fastest that can",
        choices=("auto", "xla", "cudnn", "splash"),
        changes_result=False,
    )

    @property
    def kv_heads(self) -> int:
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads


COLLECTIONS = ("procedural", "niv2", "cot", "muffin", "t0sf", "flan", "rendered", "jsonl", "text", "procedural_text")


@dataclass
class CollectionConfig:
    """Where tasks come from."""

    name: str = knob(help="the collection; flan is cot, muffin, t0sf and niv2 together", choices=COLLECTIONS)
    split: str = knob(
        "default",
        help="niv2: the official split folder under splits/",
        only_if=lambda run: run.collection.name == "niv2",
    )
    domain: str = knob(
        "digits",
        help="procedural: what its tasks are about; letters shares no primitive and no wording with digits",
        choices=("digits", "letters"),
        only_if=lambda run: run.collection.name == "procedural",
    )
    task_per_file: bool = knob(
        False,
        help="text: every file is a task; otherwise all of them are one",
        only_if=lambda run: run.collection.name == "text",
    )
    difficulty: int = knob(
        1,
        help="procedural: 1 to 3, how long the sequences are",
        minimum=1,
        maximum=3,
        only_if=lambda run: run.collection.name == "procedural",
    )
    examples_per_task: int = knob(
        10_000, help="most examples taken from one task (files: its first; procedural: drawn)", minimum=1
    )


@dataclass
class MixtureConfig:
    """Which tasks a cell learns from, how often each is drawn, and in which forms."""

    count: int = knob(help="number of tasks; 0 evaluates the starting checkpoint untouched", minimum=0)
    order: str = knob(
        "paper",
        help="paper: the collection's own order of groups; random: a draw by order_seed",
        choices=("paper", "random"),
    )
    order_seed: int = knob(
        0,
        help="order=random: which draw; subsets of one draw are nested",
        minimum=0,
        only_if=lambda run: run.mixture.order == "random",
    )
    stratify: bool = knob(
        False,
        help="order=random: keep every prefix's categories in the collection's proportions",
        only_if=lambda run: run.mixture.order == "random",
    )
    without_cot: str = knob(
        "answers",
        help="cot=false: tasks that bear rationales stay and show answers only, or are left out as in the paper",
        choices=("answers", "leave_out"),
        only_if=lambda run: not run.cot,
    )
    allow_missing: bool = knob(False, help="go on with fewer tasks than asked for, logging the realised count")
    skip_bad: bool = knob(False, help="leave out malformed records, with a count, instead of failing")

    weighting: str = knob(
        "examples",
        help="of a task inside its group: its examples (capped), those to the power 1/temperature, or all equal",
        choices=("examples", "temperature", "equal"),
    )
    temperature: float = knob(
        1.0,
        help="weighting=temperature: 1 is by examples, towards infinity equal",
        minimum=1.0,
        only_if=lambda run: run.mixture.weighting == "temperature",
    )
    proportions: dict[str, float] = knob(
        {},
        help="share of each group, renormalised over those present; empty: groups weigh what their tasks weigh",
        minimum=0.0,
    )
    max_per_task: int = knob(30_000, help="cap of a task's examples in its weight", minimum=1)
    caps: dict[str, int] = knob({}, help="groups whose cap is not max_per_task", minimum=1)

    templates: str = knob("own", help="wordings: the project's, or FLAN's (data.flan)", choices=("own", "flan"))
    cot_fraction: float = knob(
        0.5,
        help="cot=true: share of examples that carry their rationale, where the task has any",
        minimum=0.0,
        maximum=1.0,
        only_if=lambda run: run.cot,
    )
    exemplars: int = knob(0, help="most worked examples shown before the query, in training and evaluation", minimum=0)
    few_shot_fraction: float = knob(
        1.0,
        help="exemplars>0: share of training examples that show any",
        minimum=0.0,
        maximum=1.0,
        only_if=lambda run: run.mixture.exemplars > 0,
    )
    bare_fraction: float = knob(
        0.0,
        help="share of few-shot examples that have exemplars but no instruction",
        minimum=0.0,
        maximum=1.0,
        only_if=lambda run: run.mixture.exemplars > 0,
    )
    inverted_fraction: float = knob(
        0.0, help="share of examples turned round: from the answer to the question", minimum=0.0, maximum=1.0
    )
    options_fraction: float = knob(
        0.5, help="share of examples that list the options, where the task has any", minimum=0.0, maximum=1.0
    )
    renderings: int = knob(
        0,
        help="wordings of each example kept in the tokenised store; 0: a new one at every draw, nothing stored",
        minimum=0,
    )
    validation_examples: int = knob(0, help="examples of every task kept back for held-in validation", minimum=0)

    contamination: str = knob(
        "off",
        help="training examples that overlap a benchmark of data.benchmarks: left out, told, or not looked for",
        choices=("drop", "warn", "off"),
    )
    contamination_words: int = knob(
        13,
        help="words in a row that count as overlap",
        minimum=2,
        only_if=lambda run: run.mixture.contamination != "off",
    )


@dataclass
class ObjectiveConfig:
    """What is learned from a text: examples as they are, or what denoisers make of texts (docs/objectives.md)."""

    name: str = knob("instruction", help="the objective's name, as logs and run directories print it")
    denoisers: dict[str, Any] = knob(
        {},
        help="name → {kind: spans|prefix|lm, share, density, span, mode}: a mixture of ways to make inputs and targets"
        " of texts; empty: examples as their tasks have them, with loss on targets only",
    )
    mode_tokens: dict[str, list[str]] = knob(
        {}, help="mode → names of the token that starts its inputs; the first that the vocabulary has is used"
    )
    sentinels: str = knob("<extra_id_{}>", help="tokens that stand for spans, {} being their number from 0")
    final_sentinel: bool = knob(
        False, help="targets of spans end in one more sentinel (T5's paper; its code and checkpoints: false)"
    )


@dataclass
class TokenizerConfig:
    """How text becomes token ids."""

    name: str = knob(help="the tokenizer", choices=("words", "sentencepiece", "huggingface", "bytes"))
    vocabulary: str | None = knob(
        None,
        help="path of spiece.model or tokenizer.json (its content, not its path, is part of the identity)",
        changes_result=False,
    )


@dataclass
class InitConfig:
    """Which parameters a cell starts from; random ones where nothing is given. Content, not paths, is its identity."""

    hf: str | None = knob(None, help="pretrained weights: a Hugging Face folder, or a GGUF file", changes_result=False)
    run: str | None = knob(
        None, help="another run, by identity or directory: its last checkpoint", changes_result=False
    )


@dataclass
class OptimizerConfig:
    """How parameters move."""

    name: str = knob(help="the optimizer", choices=("adafactor", "adamw", "muon"))
    learning_rate: float = knob(
        help="peak rate; for adafactor relative to each parameter's root mean square, as in T5X", minimum=0.0
    )
    schedule: str = knob("constant", help="constant, or cosine to zero", choices=("constant", "cosine"))
    warmup_steps: int = knob(0, help="steps of linear warm-up", minimum=0)
    b1: float = knob(0.9, help="adamw, muon: decay of the first moment", minimum=0.0, maximum=1.0)
    b2: float = knob(0.98, help="adamw, muon: decay of the second moment", minimum=0.0, maximum=1.0)
    decay_rate: float = knob(0.8, help="adafactor: exponent of the second-moment decay", minimum=0.0, maximum=1.0)
    weight_decay: float = knob(0.0, help="decoupled weight decay", minimum=0.0)
    clip_norm: float | None = knob(
        None, help="largest global gradient norm; null leaves gradients as they are", above=0.0
    )


@dataclass
class MeshConfig:
    """Devices along each axis of the mesh; their product is the number of devices of the job."""

    data: int = knob(1, help="copies of the model", minimum=1, changes_result=False)
    fsdp: int = knob(1, help="shards of every parameter", minimum=1, changes_result=False)
    tensor: int = knob(1, help="shards of heads and feed-forward columns", minimum=1, changes_result=False)


@dataclass
class TrainerConfig:
    """How long and on what batches."""

    steps: int = knob(help="optimizer steps", minimum=0)
    batch_rows: int = knob(help="packed rows in a global batch", minimum=1)
    input_tokens: int = knob(help="tokens of a row for inputs (paper: 1024 for T5, 2048 for PaLM)", minimum=8)
    target_tokens: int = knob(help="tokens of a row for targets; a decoder's row is the sum of both", minimum=8)
    precision: str = knob("float32", help="of activations and matrix products", choices=("float32", "bfloat16"))
    z_loss: float = knob(0.0, help="weight of log²Z (T5X: 1e-4)", minimum=0.0)
    max_nonfinite_steps: int = knob(
        5, help="steps with a non-finite gradient that are skipped before the run fails", minimum=0
    )
    microbatches: int = knob(
        1,
        help="parts that a batch goes through the model in, to save memory; the gradient is the whole batch's",
        minimum=1,
        changes_result=False,
    )
    validate_every: int = knob(
        0, help="steps between losses on the held-in rows (mixture.validation_examples); 0: at the end only", minimum=0
    )
    select: str = knob(
        "last",
        help="which parameters are evaluated: the last ones, or those of the lowest validation loss",
        choices=("last", "best"),
    )
    log_every: int = knob(50, help="steps between rows of metrics", minimum=1, changes_result=False)
    checkpoint_every: int = knob(1000, help="steps between checkpoints", minimum=1, changes_result=False)
    keep_checkpoints: int = knob(
        1, help="newest checkpoints kept, besides that of the lowest validation loss", minimum=1, changes_result=False
    )
    profile_steps: list[int] = knob(
        [],
        help="[first, last]: steps whose profiler trace is written to profile/ of the run",
        minimum=0,
        changes_result=False,
    )
    mesh: MeshConfig = field(default_factory=MeshConfig)


EVALUATED = ("niv2", "procedural", "procedural_letters", "jsonl")


@dataclass
class EvaluationConfig:
    """What is asked of a cell's model: a suite. It is no part of the cell's identity, and has one of its own."""

    suite: str = knob("held_out", help="its name, by which its records are kept", changes_result=False)
    asks: list[str] = knob(
        ["held_out/direct", "held_out/cot"],
        help="its lines: a benchmark, or benchmark/setting-5shot-sc8-split, whose last three may be left out; held_out"
        " stands for the held-out tasks of evaluation.collection",
        changes_result=False,
    )
    average: list[str] = knob(
        [], help="of the asks, those that make up eval/normalized_average; none named: all", changes_result=False
    )
    collection: str | None = knob(
        None,
        help="whose held-out tasks held_out stands for; no mixture holds them. null: those of the training collection,"
        " or niv2's where it has none of its own",
        choices=EVALUATED,
        changes_result=False,
    )
    items: int | None = knob(
        None, help="most items of each subtask, the same ones in every cell; null: all", minimum=1, changes_result=False
    )
    temperature: float = knob(
        0.7, help="at which samples are drawn, where an ask wants several (sc8)", above=0, changes_result=False
    )
    seed: int = knob(0, help="of those samples", changes_result=False)
    checkpoint: str = knob(
        "run",
        help="whose answers count: those of the parameters that the run stands for (trainer.select), or of all"
        " checkpoints that it keeps those that this very suite scores highest, as the paper chose: scores are then"
        " called <setting>@best_checkpoint",
        choices=("run", "suite"),
        changes_result=False,
    )
    context: int | None = knob(
        None,
        help="positions for a prompt, in a decoder with its answer; null: as many as rows had in training",
        minimum=2,
        changes_result=False,
    )
    batch_size: int = knob(128, help="answers written together", minimum=1, changes_result=False)
    direct_tokens: int = knob(16, help="held_out: most tokens of a direct answer", minimum=1, changes_result=False)
    cot_tokens: int = knob(
        64, help="held_out: most tokens of a rationale with its answer", minimum=1, changes_result=False
    )


@dataclass
class DataConfig:
    """Where real data lies. Paths do not enter a cell's identity; fingerprints of their content do."""

    root: str | None = knob(
        None, help="folder that holds the others under their names, where they are not given", changes_result=False
    )
    niv2: str | None = knob(None, help="folder of Super-NaturalInstructions (tasks/, splits/)", changes_result=False)
    cot: str | None = knob(None, help="folder of FLAN's chain-of-thought TSVs", changes_result=False)
    t0: str | None = knob(None, help="folder of rendered P3 templates (sf/*.jsonl[.gz])", changes_result=False)
    muffin: str | None = knob(None, help="folder of Flan-2021 datasets, one folder each", changes_result=False)
    rendered: str | None = knob(None, help="folder of the rendered Flan 2022 collection", changes_result=False)
    jsonl: str | None = knob(None, help="folder of tasks in the line format, one file each", changes_result=False)
    text: str | None = knob(None, help="folder of plain texts (*.txt, *.jsonl, gzip or not)", changes_result=False)
    flan: str | None = knob(
        None, help="FLAN's templates: templates.json.gz, or templates.py of a clone", changes_result=False
    )
    benchmarks: str | None = knob(
        None,
        help="folder of benchmarks (mmlu/, bbh/, …) that are asked, and whose texts training must not hold; null: those"
        " folders under data.root",
        changes_result=False,
    )


@dataclass
class TrackerConfig:
    """The W&B mirror of metrics.jsonl."""

    mode: str = knob("offline", help="of W&B", choices=("offline", "online", "disabled"), changes_result=False)
    project: str = knob("flanscale", help="W&B project", changes_result=False)
    entity: str | None = knob(None, help="W&B user or team", changes_result=False)
    group: str | None = knob(None, help="W&B group; a launch sets it to the study's name", changes_result=False)
    job_type: str | None = knob(
        None, help="W&B job type; null: pretrain, finetune or evaluate, by what the cell does", changes_result=False
    )
    tags: list[str] = knob([], help="W&B tags", changes_result=False)
    notes: str | None = knob(None, help="W&B notes: a line about why", changes_result=False)


@dataclass
class ClusterConfig:
    """Where and with what a cell's job runs."""

    name: str = knob(help="the executor", choices=("local", "slurm"), changes_result=False)
    parallelism: int | None = knob(
        None,
        help="most cells at once; null: one per physical core (one in all where cells use GPUs), unlimited on slurm",
        minimum=1,
        changes_result=False,
    )
    cells_per_job: int = knob(
        1, help="slurm: cells that one job runs, in as much time as they may take", minimum=1, changes_result=False
    )
    cells_at_once: int = knob(
        1,
        help="slurm: how many of these run side by side; they share the job's cores, memory and GPUs",
        minimum=1,
        changes_result=False,
    )
    cpus: int = knob(1, help="CPU cores of one cell", minimum=1, changes_result=False)
    nodes: int = knob(1, help="slurm: nodes of one cell", minimum=1, changes_result=False)
    gpus: int = knob(0, help="GPUs of one cell, per node", minimum=0, changes_result=False)
    tasks_per_node: int = knob(
        1, help="slurm: processes of one cell on a node, which share its GPUs equally", minimum=1, changes_result=False
    )
    memory_gb: int | None = knob(None, help="slurm: memory per node", minimum=1, changes_result=False)
    timeout_minutes: int = knob(720, help="wall-clock limit of one attempt", minimum=1, changes_result=False)
    partition: str | None = knob(None, help="slurm: partition", changes_result=False)
    account: str | None = knob(None, help="slurm: account", changes_result=False)
    setup: list[str] = knob([], help="slurm: shell lines run before the job", changes_result=False)
    sbatch: dict[str, Any] = knob(
        {}, help="slurm: further sbatch options, e.g. {qos: long, exclusive: true}", changes_result=False
    )
    environment: dict[str, str] = knob(
        {}, help="environment of the job, set before JAX is imported", changes_result=False
    )
    by_model: dict[str, Any] = knob(
        {}, help="other values of these keys for single models, e.g. {t5_xl: {gpus: 4}}", changes_result=False
    )
    evaluation: dict[str, Any] | None = knob(
        None,
        help="other values of these keys for a job that evaluates, e.g. {gpus: 1, timeout_minutes: 60}; null: a cell"
        " evaluates itself when it has trained",
        changes_result=False,
    )
    retries: int = knob(
        3,
        help="times in a row that a lost node, a full disk or a time limit may end an attempt that got no further"
        " before the run fails",
        minimum=0,
        changes_result=False,
    )
    backoff_seconds: float = knob(
        60.0,
        help="slurm: wait before such an attempt is repeated; twice as long each time, at most an hour",
        minimum=0.0,
        changes_result=False,
    )
    notify: str | None = knob(
        None,
        help="command run when a study has ended; FLANSCALE_STUDY and FLANSCALE_OUTCOME (finished, failed) tell which",
        changes_result=False,
    )
    chip: str | None = knob(
        None, help="the accelerator of one device, for planning memory and hours", choices=CHIPS, changes_result=False
    )
    mfu: float = knob(
        0.3,
        help="share of the chip's peak FLOP/s that training is taken to reach before anything is measured"
        " (Flan-PaLM 540B: 0.30)",
        minimum=0.01,
        maximum=1.0,
        changes_result=False,
    )
    dollars_per_hour: float | None = knob(None, help="price of one device", minimum=0.0, changes_result=False)
    watts: float | None = knob(
        None,
        help="power that one device draws at work, its share of the host included",
        minimum=0.0,
        changes_result=False,
    )


@dataclass
class PathsConfig:
    """Where results go, relative to the working directory unless absolute."""

    runs: str = knob("runs", help="run directories, shared by all studies", changes_result=False)
    studies: str = knob("studies", help="study indexes", changes_result=False)
    reports: str = knob("reports", help="figures and reports", changes_result=False)
    cache: str = knob("~/.cache/flanscale", help="compiled programs and fingerprints", changes_result=False)


@dataclass
class RunConfig:
    """One cell, completely."""

    seed: int = knob(0, help="of initialisation, data order and dropout", minimum=0)
    cot: bool = knob(False, help="train with rationales")
    model: ModelConfig = field(default_factory=ModelConfig)
    collection: CollectionConfig = field(default_factory=CollectionConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    fingerprints: dict[str, str] = knob({}, help="content hashes of data and vocabulary; filled in by the planner")
    sweep: dict[str, Any] = knob({}, help="the study file of a multirun (+sweep=NAME)", changes_result=False)
