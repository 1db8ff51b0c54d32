"""What models of pictures say (CLIP, SigLIP, PickScore, DINO): only the names and directions of their values. The
models themselves are outside of `bench/`, which never loads one; their records are like any metric's."""

from fewstep.bench.metrics.metric import Value

MAIN = ("similarity", "spread", "to_source", "to_target")  # the first that a record has stands for the model
VALUES = {
    "similarity": Value("cosine", "higher"),
    "logit": Value("logit", "higher"),
    "spread": Value("1 - cosine", "higher", "ratio"),
    "to_source": Value("cosine", None),
    "to_target": Value("cosine", "higher"),
}
