"""How is a run made again? What differs here from the attempt that made it, and a folder to recreate it from."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from flanscale import __version__, identity
from flanscale.config.compose import load
from flanscale.errors import ConfigError, one_line
from flanscale.orchestration.keeping.devices import NoAnswer, devices_here
from flanscale.orchestration.running.provenance import installed_packages, steering_jax
from flanscale.orchestration.running.sources import changed_since, current_code
from flanscale.run_directory import CONFIG_FILE, Attempt, Code, identity_of, is_run, read_attempts, read_config
from flanscale.tracking.masking import without_secrets

NOT_HERE = "not installed"
PROJECT = "flanscale"


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was."""

    what: str
    then: str
    now: str


def last_attempt(run_dir: Path) -> Attempt:
    """The provenance of the attempt that ended the run.

    Raises:
        ConfigError: none was recorded, or this version cannot read it.
    """
    if not is_run(run_dir):
        raise ConfigError(f"{run_dir} has no {CONFIG_FILE}: not a run directory")
    attempts = read_attempts(run_dir)
    if not attempts:
        raise ConfigError(f"{run_dir} has no provenance.json: it was never started, so there is nothing to recreate")
    return attempts[-1]


# --- what differs -----------------------------------------------------------------------------------------------------


def differences(run_dir: Path, attempt: Attempt) -> list[Difference]:
    """Everything that may change the result and is not as it was: code, packages, data, devices."""
    found = [Difference("python", attempt.python, platform.python_version()), *_code(run_dir, attempt.code or Code())]
    found.append(Difference("flanscale", attempt.flanscale, __version__))
    found += _packages(attempt.packages or {})
    found += _environment(run_dir, attempt.jax_environment)
    found += _data(run_dir)
    found += _devices(attempt)
    return [one for one in found if one.then != one.now]


def _code(run_dir: Path, then: Code) -> Iterable[Difference]:
    now, _ = current_code()
    if then.commit or not then.archive:
        yield Difference("commit", then.commit or "unknown", now.commit or "unknown")
    if not then.archive:
        yield Difference("uncommitted", _shown_diff(then), _shown_diff(now))
    elif (run_dir / then.archive).is_file():
        changed = changed_since(run_dir / then.archive)
        sources = f"snapshot {then.snapshot}"
        yield Difference("sources", sources, _shown_files(changed) if changed else sources)


def _shown_diff(code: Code) -> str:
    return f"diff {code.diff_sha256[:12]}" if code.diff_sha256 else "nothing"


def _shown_files(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"changed: {', '.join(names[:3])}{more}"


def _packages(then: Mapping[str, str]) -> list[Difference]:
    now = installed_packages()
    pairs = {_normal(name): (name, version) for name, version in then.items()}
    versions = {_normal(name): version for name, version in now.items()}
    return [
        Difference(name, version, versions.get(normal, NOT_HERE))
        for normal, (name, version) in pairs.items()
        if normal != PROJECT
    ]


def _normal(name: str) -> str:
    """A distribution's name as packaging compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def _environment(run_dir: Path, then: Mapping[str, str] | None) -> list[Difference]:
    """Variables that steer JAX; the run's own configuration sets some again."""
    if then is None:
        return []
    fields = read_config(run_dir)
    now = steering_jax(os.environ | fields["cluster"]["environment"])
    return [Difference(name, then.get(name, "not set"), now.get(name, "not set")) for name in sorted({*then, *now})]


def _data(run_dir: Path) -> list[Difference]:
    """Fingerprints, computed again where the data is at hand, and the identity that they are part of."""
    try:
        cell = load(run_dir)
        before = dict(cell.fingerprints)
        cell.fingerprints = {}
        resolved = identity.resolve(cell)
    except ConfigError as error:
        return [Difference("data and configuration", "as recorded", f"cannot be checked: {one_line(error)}")]
    names = sorted({*before, *resolved.fingerprints})
    found = [
        Difference(f"fingerprint of {name}", before.get(name, "none"), resolved.fingerprints.get(name, "none"))
        for name in names
    ]
    return [*found, Difference("identity of the cell", identity_of(run_dir), identity.identity(resolved))]


def _devices(attempt: Attempt) -> list[Difference]:
    then = ", ".join(attempt.devices or [])
    if not then:
        return []
    try:
        now = ", ".join(devices_here())
    except NoAnswer as error:
        now = f"unknown: {error}"
    return [Difference("devices", then, now)]


# --- the folder -------------------------------------------------------------------------------------------------------


def write_folder(run_dir: Path, attempt: Attempt, differing: Iterable[Difference], to: Path) -> None:
    """Write requirements.txt, config.yaml, cell.sh, README.md and what no commit holds of the code.

    Raises:
        ConfigError: the folder is there already and holds something, or a recorded file is gone.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} is not empty; give another folder with --to")
    code = attempt.code or Code()
    recorded = {"code.diff.gz": code.diff, "code.tar.gz": code.archive}
    kept = {name: run_dir / source for name, source in recorded.items() if source}
    for source in kept.values():
        if not source.is_file():
            raise ConfigError(f"{source} is gone, and with it the code of this run")
    to.mkdir(parents=True, exist_ok=True)
    for name, source in kept.items():
        shutil.copyfile(source, to / name)
    (to / "requirements.txt").write_text(requirements(attempt), encoding="utf-8")
    fields = read_config(run_dir)
    fields["tracker"]["mode"] = "disabled"
    text = OmegaConf.to_yaml(OmegaConf.create(without_secrets(fields)))
    (to / CONFIG_FILE).write_text(text, encoding="utf-8")
    (to / "cell.sh").write_text(script(attempt), encoding="utf-8")
    (to / "cell.sh").chmod(0o755)
    (to / "README.md").write_text(_readme(run_dir, attempt, differing), encoding="utf-8")


def requirements(attempt: Attempt) -> str:
    """Exact versions of all packages but the project itself, as pip and uv read them; no address of a registry."""
    elsewhere = attempt.elsewhere or {}
    lines = []
    for name, version in (attempt.packages or {}).items():
        if _normal(name) == PROJECT:
            continue
        pinned = f"{name}=={version}"
        lines.append(f"# {pinned} came from {elsewhere[name]}" if name in elsewhere else pinned)
    return "\n".join(lines) + "\n"


def script(attempt: Attempt) -> str:
    """The commands that recreate the environment and run the cell in `./run`."""
    code = attempt.code or Code()
    if code.archive:
        sources = ["mkdir -p code", "tar -xzf code.tar.gz -C code"]
        start = "PYTHONPATH=code PYTHONSAFEPATH=1"
        install: list[str] = []
    elif code.commit:
        origin = shlex.quote(code.origin) if code.origin else '"${CLONE:?a clone or the address of one}"'
        sources = [f"git clone {origin} code", f"git -C code checkout --quiet {code.commit}"]
        sources += ["gunzip -c code.diff.gz | git -C code apply -"] if code.diff else []
        start, install = "", ["venv/bin/python -m pip install --no-deps --editable code"]
    else:
        sources, start = [], ""
        install = [f"venv/bin/python -m pip install --no-deps flanscale=={attempt.flanscale}"]
    python = ".".join(attempt.python.split(".")[:2])
    job = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1], echo=True)"
    exports = [f"export {key}={shlex.quote(value)}" for key, value in (attempt.jax_environment or {}).items()]
    lines = [
        "#!/usr/bin/env bash",
        "# Recreates the environment of a run and runs its cell again, in ./run.",
        "set -euo pipefail",
        'cd "$(dirname "$0")"',
        *sources,
        f"python{python} -m venv venv  # it was Python {attempt.python}",
        "venv/bin/python -m pip install --no-deps --requirement requirements.txt",
        *install,
        *exports,
        "mkdir -p run",
        "cp config.yaml run/",
        f"{start} venv/bin/python -c {shlex.quote(job)} run".strip(),
    ]
    return "\n".join(lines) + "\n"


def _readme(run_dir: Path, attempt: Attempt, differing: Iterable[Difference]) -> str:
    data = attempt.data or {"fingerprints": {}, "places": {}}
    slurm = ", ".join(f"{key} {value}" for key, value in (attempt.slurm or {}).items())
    facts = {
        "run": run_dir.name,
        "attempt": attempt.attempt,
        "command": shlex.join(attempt.argv),
        "host": f"{attempt.host}, {attempt.platform}",
        "devices": ", ".join(attempt.devices or ["unknown"]),
        "runtime": attempt.runtime,
        "driver": attempt.driver,
        "Slurm": slurm,
        **{f"fingerprint of {name}": value for name, value in data["fingerprints"].items()},
        **data["places"],
    }
    lines = [f"- {name}: {' '.join(str(value).split())}" for name, value in facts.items() if value]
    changed = [f"| {one.what} | {one.then} | {one.now} |" for one in differing]
    table = ["| what | then | now |", "| --- | --- | --- |", *changed] if changed else ["Nothing."]
    text = textwrap.dedent("""\
        # A run to be made again

        `bash cell.sh` recreates the environment and runs the cell in `run/`. Where data lies elsewhere now, change its
        path in `config.yaml` first. `flanscale rerun RUN --run` runs the cell with what is installed and compares.

        ## What it was

        {facts}

        ## What differed where this folder was written

        {table}
        """)
    return text.format(facts="\n".join(lines), table="\n".join(table))
