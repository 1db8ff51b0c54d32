"""Metrics that need a model of pictures (CLIP, SigLIP, PickScore, DINO, LPIPS): only the names and directions of their
values. The models themselves are outside of `bench/`, which never loads one; their records are like any metric's."""

from fewstep.bench.metrics.metric import ValueSpec

# The first one that a record has represents the model.
MAIN = ("similarity", "spread", "to_source", "to_target", "far_from_target", "far_from_seeds", "far_from_source")
VALUES = {
    "similarity": ValueSpec("cosine", "higher"),
    "logit": ValueSpec("logit", "higher"),
    "spread": ValueSpec("1 - cosine", "higher", "ratio"),
    "to_source": ValueSpec("cosine", None),
    "to_target": ValueSpec("cosine", "higher"),
    "far_from_target": ValueSpec("LPIPS", "lower"),
    "far_from_source": ValueSpec("LPIPS", None),
    "far_from_seeds": ValueSpec("LPIPS", "higher", "ratio"),
}
