"""How the harder world's teacher is made: what each stage learns from."""

from pathlib import Path

import numpy as np

from pocket_making.harder import corpus
from pocket_making.harder.scenes import SIZES
from pocket_making.harder.train import pictures_by_size


def test_the_decoder_learns_from_the_corpus_and_from_further_signs(tmp_path: Path) -> None:
    """Of every size, each in an array of its own; of what an edit begins with and of what it ends as."""
    list(corpus.render_corpus(tmp_path, shards=1, workers=1, count=2))
    shown = sum(many * 2 * (layout.references + 1) for layout, many in corpus.layouts(1).items())
    plain, more = (pictures_by_size(tmp_path, signs) for signs in (0, 12))
    sizes = {images.shape[1:3] for images in more}
    assert sizes == {(height, width) for width, height in SIZES}
    assert all(images.dtype == np.uint8 for images in more)
    assert sum(map(len, plain)) == shown
    assert sum(map(len, more)) == shown + 12
