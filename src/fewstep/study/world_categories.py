"""The categories of prompts and the kinds of edit of each embedded world, by its teacher's name. Without torch."""

from collections.abc import Mapping

from fewstep.backbones.embedded import HARDER, POCKET
from fewstep.pocket.edits import EDITS
from fewstep.pocket.harder.attributes import CATEGORIES as HARDER_CATEGORIES
from fewstep.pocket.harder.cases import EDIT_KINDS
from fewstep.pocket.world import CATEGORIES
from fewstep.runtime.task import Task

Categories = Mapping[Task, tuple[str, ...]]
WORLD_CATEGORIES: Mapping[str, Categories] = {
    POCKET: {"t2i": CATEGORIES, "edit": EDITS},
    HARDER: {"t2i": tuple(HARDER_CATEGORIES), "edit": EDIT_KINDS},
}
