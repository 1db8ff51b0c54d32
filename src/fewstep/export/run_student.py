"""The student as its run holds it: over the base, nothing merged, nothing rounded. Exports are held against it."""

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
    """An adapter, or (lora None) the transformer's whole state."""

    state: Mapping[str, Tensor]
    lora: Lora | None

    @contextmanager
    def on(self, backbone: Backbone) -> Iterator[nn.Module]:
        """The base's transformer as the student, inside. `backbone` is changed: load it for this alone."""
        transformer = backbone.transformer
        if self.lora is None:
            transformer.load_state_dict(dict(self.state))
            yield transformer
            return
        adapters = Adapters(transformer)
        adapters.load(_NAME, self.lora.updates, "the run's student")
        with adapters.active(_NAME):
            yield transformer
