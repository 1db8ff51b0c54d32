"""What models of pictures say (CLIP, SigLIP, PickScore, DINO, LPIPS): only the names and directions of their values.
The models themselves are outside of `bench/`, which never loads one; their records are like any metric's."""

from fewstep.bench.metrics.metric import Value

# The first that a record has stands for the model.
MAIN = ("similarity", "spread", "to_source", "to_target", "far_from_target", "far_from_seeds", "far_from_source")
VALUES = {
    "similarity": Value("cosine", "higher"),
    "logit": Value("logit", "higher"),
    "spread": Value("1 - cosine", "higher", "ratio"),
    "to_source": Value("cosine", None),
    "to_target": Value("cosine", "higher"),
    "far_from_target": Value("LPIPS", "lower"),
    "far_from_source": Value("LPIPS", None),
    "far_from_seeds": Value("LPIPS", "higher", "ratio"),
}
