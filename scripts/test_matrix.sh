#!/bin/sh
# Tests with the oldest and the newest versions of every library that pyproject.toml allows, each in an environment of
# its own (.venv-oldest, .venv-newest). uv resolves both. By default the tests that touch libraries; with FULL=1 all.
# A CPU build of torch, where PyPI has none: UV_TORCH_BACKEND=cpu.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install -q "uv>=0.9"
tests="tests/backbones tests/encode tests/export tests/lora tests/roles tests/sample tests/train tests/test_public_api.py"
if [ "${FULL:-}" = 1 ]; then tests="tests"; fi
failed=""
for which in oldest newest; do
    case $which in oldest) how=lowest-direct ;; *) how=highest ;; esac
    echo "== $which =="
    .venv/bin/uv venv -q --allow-existing --seed ".venv-$which"
    .venv/bin/uv pip install -q --python ".venv-$which/bin/python" --resolution "$how" -e ".[dev]"
    ".venv-$which/bin/python" scripts/mend_torchvision.py
    .venv/bin/uv pip list -q --python ".venv-$which/bin/python" |
        grep -E "^(torch|torchvision|diffusers|transformers|peft|numpy|pydantic) "
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 ".venv-$which/bin/python" -m pytest -n 2 $tests || failed="$failed $which"
done
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
