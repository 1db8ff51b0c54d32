"""The one check that what becomes a picture is made of finite numbers. A NaN would become a black pixel."""

from collections.abc import Mapping

from torch import Tensor, nn

from fewstep.backbones.weight_faults import few_names
from fewstep.runtime.errors import ModelError, PictureError


def refuse_not_finite(values_B: Tensor, what: str) -> None:
    """
    Args:
        values_B: latents or pixels of a batch, of any shape behind B.
        what: what they are, for the message.

    Raises:
        PictureError: some of them are NaN or infinite.
    """
    if not bool(values_B.isfinite().all()):
        raise PictureError(
            f"the {what} are not finite numbers, so there is no picture: the model's weights are damaged, or too large "
            "for this dtype. `fewstep doctor MODEL` names such weights"
        )


def refuse_weights_not_finite(modules: Mapping[str, nn.Module]) -> None:
    """Reads all weights. modules: by the name of the part.

    Raises:
        ModelError: a weight is NaN or infinite. The message names tensors.
    """
    for part, module in modules.items():
        odd = [name for name, value in module.state_dict().items() if not bool(value.isfinite().all())]
        if odd:
            raise ModelError(
                f"weights of {part} hold values that are not finite: {few_names(odd)}. Copy or download them again; of "
                "a student, export an earlier checkpoint"
            )
