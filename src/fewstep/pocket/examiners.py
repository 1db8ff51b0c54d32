"""What examines the students of embedded teachers while they train, by the teacher's name."""

from collections.abc import Mapping

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.embedded import HARDER, POCKET
from fewstep.pocket.harder.run_examiner import reader_eval
from fewstep.pocket.student_eval import probe_eval
from fewstep.roles.student_eval import StudentEvalBuilder, StudentEvalSetup


def harder_eval(backbone: Backbone) -> StudentEvalBuilder:
    """The embedded reader's examiner. The reader is loaded when a run of its world begins, and not before."""
    return reader_eval()(backbone)


EXAMINERS: Mapping[str, StudentEvalSetup] = {POCKET: probe_eval, HARDER: harder_eval}
