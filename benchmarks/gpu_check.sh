#!/bin/sh
# Measure a GPU on a machine that has PyTorch and Triton and no network: benchmarks/gpu_check.sh OUT [WHEELS]
#
# WHEELS is a folder of the wheels that the machine lacks; the last line of its own that this script prints names them.
# A machine with torch, transformers, accelerate, tensorboard, typer, safetensors, scipy, pytest and hypothesis lacks
# msgspec, omegaconf and pydantic with its own. Where there is a network, they are fetched for it by
#
#     python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#         --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 -d WHEELS \
#         msgspec omegaconf pydantic==2.14.3 pydantic-core==2.50.4 annotated-types typing-inspection typing-extensions
#
# Eight minutes at most. OUT then has gpu.json, gpu_run.md, and parts.tar.gz with the log of each part.
set -eu
out=$1
wheels=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "$wheels" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
fi
status=0
python3 "$root/benchmarks/gpu.py" --out "$out" --minutes 7.5 || status=$?
if [ -d "$out/parts" ]; then
    tar -czf "$out/parts.tar.gz" -C "$out" parts
    rm -r "$out/parts"
fi
exit "$status"
