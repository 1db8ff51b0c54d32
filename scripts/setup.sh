#!/bin/sh
# Makes .venv with the package and its development tools. Does nothing when what it installs has not changed since.
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/.fewstep-setup
want=$(cat pyproject.toml scripts/without-gpu.txt | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then exit 0; fi

python=""
for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "fewstep needs Python 3.11 or newer; install it (Debian, Ubuntu: apt-get install python3 python3-venv)." >&2
    exit 2
fi

if ! [ -x .venv/bin/pip ]; then
    rm -rf .venv
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        # Debian and Ubuntu ship venv's pip separately.
        rm -rf .venv
        echo "Python's venv module is incomplete here; trying to install python3-venv ..." >&2
        sudo=""
        if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null 2>&1; then sudo="sudo"; fi
        { $sudo apt-get update && $sudo apt-get install -y python3-venv; } >/dev/null 2>&1 || true
        "$python" -m venv .venv || {
            echo "Install it by hand and run this again: apt-get install python3-venv" >&2
            exit 2
        }
    fi
fi
echo "Installing fewstep and what it needs into .venv (once) ..."
log=.venv/setup.log
limits=""
if ! command -v nvidia-smi >/dev/null 2>&1; then limits="-c scripts/without-gpu.txt"; fi
# shellcheck disable=SC2086
if ! .venv/bin/python -m pip install --disable-pip-version-check -q $limits -e ".[dev]" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "Installation failed; the whole log is in $log" >&2
    exit 2
fi
# Stock diffusers imports torchvision: a pair of different builds would end every plain script.
.venv/bin/python scripts/mend_torchvision.py || {
    echo "Install both from one place: .venv/bin/pip install --force-reinstall torch torchvision" >&2
    exit 2
}
echo "$want" >"$stamp"
