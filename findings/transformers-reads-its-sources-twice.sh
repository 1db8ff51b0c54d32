#!/usr/bin/env bash
# How often transformers reads the sources of its own models before the first of them is used.
#
# transformers 5.24.0. Its names are lazy: `import transformers` imports no model, but opens every .py file under
# transformers/models to learn which names it exports. The first name that is asked for, here a config, opens all of
# them again.
# Seen: 1698 files opened by the import, and all of them a second time by `from transformers import Qwen2Config`.
# Why: what a folder exports is kept by functools.lru_cache without a size, which is 128 entries. There are some 560 folders,
# walked in one order, so every entry is gone before it is asked for again. With a cache without limit 12 files are
# opened again.
# It matters to whoever counts the start of a command line tool: the second pass is work that nothing shows.
# Source: transformers/utils/import_utils.py (create_import_structure_from_path), functools.lru_cache.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q transformers==5.24.0
cat > "$work/opened.py" <<'PY'
import functools
import sys
from collections import Counter

opened = Counter()


def count(event, given):
    if event == "open" and "/transformers/models/" in str(given[0]) and str(given[0]).endswith(".py"):
        opened[given[0]] += 1


sys.addaudithook(count)
limited = functools.lru_cache
if sys.argv[1] == "unlimited":
    functools.lru_cache = lambda maxsize=128, typed=False: (
        functools.cache(maxsize) if callable(maxsize) else limited(maxsize, typed)
    )
import transformers  # noqa: E402

once = len(opened)
from transformers import Qwen2Config  # noqa: E402, F401

print(once, sum(times > 1 for times in opened.values()))
PY
for cache in limited unlimited; do
    read -r once again < <("$work/venv/bin/python" "$work/opened.py" "$cache" 2>/dev/null)
    echo "cache $cache: $once files opened by the import, $again of them again by the first name"
    test "$once" -gt 1000
    if [ "$cache" = limited ]; then test "$again" -gt $((once * 9 / 10)); else test "$again" -lt 50; fi
done
