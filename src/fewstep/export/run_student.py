"""The student as its run holds it: over the base, without merging and rounding. Exports are compared with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.export.lora import Lora
from fewstep.roles.adapters import Adapters

_NAME = "student"


@dataclass(frozen=True)
class RunStudent:
    """The weights of a student: those of an adapter, or if `lora` is None the whole state of the transformer."""

    state: Mapping[str, Tensor]
    lora: Lora | None

    @contextmanager
    def on(self, backbone: Backbone) -> Iterator[nn.Module]:
        """The transformer of the student, inside the context. `backbone` is changed, so load it for this alone."""
        transformer = backbone.transformer
        if self.lora is None:
            transformer.load_state_dict(dict(self.state))
            yield transformer
            return
        adapters = Adapters(transformer)
        adapters.load(_NAME, self.lora.updates, "the run's student")
        with adapters.active(_NAME):
            yield transformer
