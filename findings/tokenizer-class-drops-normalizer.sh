#!/usr/bin/env bash
# Whose normalizer a tokenizer has: that of tokenizer.json, or that of the class which tokenizer_config.json names.
#
# transformers 5.24.0, tokenizers 0.23.3. One tokenizer.json with a normalizer that turns b into X is loaded by
# AutoTokenizer, each time with another "tokenizer_class" beside it.
# Seen: with PreTrainedTokenizerFast, TokenizersBackend or no class at all "abc" becomes a, X, c. With Qwen2Tokenizer and
# GPT2Tokenizer it becomes a, b, c: the normalizer of the file is gone without a word. Qwen2Tokenizer has put NFC there,
# GPT2Tokenizer none.
# Why: in version 5 these classes build their tokenizer anew, and take from the file only vocabulary and merges.
# It matters to whoever trains or distils a model with a tokenizer of its own (marks before letters, other spellings) and
# leaves the class of the model that it was derived from in tokenizer_config.json: prompts mean something else when the
# folder is loaded than they did in training.
# Source: transformers/models/qwen2/tokenization_qwen2.py, transformers/models/gpt2/tokenization_gpt2.py (__init__).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q transformers==5.24.0 tokenizers==0.23.3
cat > "$work/loaded.py" <<'PY'
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, normalizers
from tokenizers.models import BPE
from transformers import AutoTokenizer

folder, named = Path(sys.argv[1]), sys.argv[2]
spelling = Tokenizer(BPE(vocab={letter: number for number, letter in enumerate("abcX")}, merges=[]))
spelling.normalizer = normalizers.Replace("b", "X")
spelling.save(str(folder / "tokenizer.json"))
config = {} if named == "none" else {"tokenizer_class": named}
(folder / "tokenizer_config.json").write_text(json.dumps(config))
print(" ".join(AutoTokenizer.from_pretrained(folder).tokenize("abc")))
PY
seen() {
    mkdir -p "$work/$1"
    found=$("$work/venv/bin/python" "$work/loaded.py" "$work/$1" "$1" 2>/dev/null)
    echo "tokenizer_class $1: $found"
    test "$found" = "$2"
}
seen PreTrainedTokenizerFast "a X c"
seen TokenizersBackend "a X c"
seen none "a X c"
seen Qwen2Tokenizer "a b c"
seen GPT2Tokenizer "a b c"
