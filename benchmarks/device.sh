#!/usr/bin/env bash
# What this machine makes of the project: `benchmarks/device.sh`, in at most eight minutes and without a network.
#   benchmarks/device.sh --fetch [WHEELS]    beforehand, with a network: the few packages that such machines lack
#   benchmarks/device.sh [WHEELS] [--tiny] [--only PART …]    writes to ${OUT:-out}; see benchmarks/device.py
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(hydra-core omegaconf antlr4-python3-runtime submitit rouge-score nltk)
python=${PYTHON:-python3}

fetch=false
if [[ ${1:-} == --fetch ]]; then
    fetch=true
    shift
fi
wheels=wheels
if [[ $# -gt 0 && $1 != --* ]]; then
    wheels=$1
    shift
fi
if $fetch; then
    exec "$python" -m pip wheel --quiet --no-deps --constraint constraints.txt --wheel-dir "$wheels" "${packages[@]}"
fi

if [[ ! -d $wheels ]]; then
    echo "device.sh: $wheels is no folder; benchmarks/device.sh --fetch $wheels makes it where there is a network" >&2
    exit 2
fi
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m pip install --quiet --no-index --no-deps --no-compile --find-links "$wheels" --target "$site" "${packages[@]}"
PYTHONPATH=$PWD:$PWD/flanscale/_plugins:$site${PYTHONPATH:+:$PYTHONPATH} \
    "$python" benchmarks/device.py --out "${OUT:-out}" "$@"
