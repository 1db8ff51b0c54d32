"""The base of every section of a recipe: frozen, strict, each field described."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of a recipe. Unknown keys are refused here; `runtime/key_help.py` makes a message with the nearest
    known key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
