"""All errors that users can correct, as one tree of exceptions.

A message says what is wrong, where, and how to correct it. The command line prints it and exits with 2, without a
traceback (`--debug` shows it).
"""


class FewstepError(Exception):
    """Any error that the user can correct. Mistakes in fewstep itself are assertions instead."""

    def __str__(self) -> str:
        """Printable everywhere: half characters, as in names of files that are not UTF-8, are written as escapes."""
        return super().__str__().encode("utf-8", "backslashreplace").decode("utf-8")


class RecipeError(FewstepError, ValueError):
    """A recipe with unknown, missing or contradictory keys."""


class CaseError(FewstepError, ValueError):
    """A case, a source of cases or one of its pictures cannot be used. Names the file and the line."""


class ModelError(FewstepError, ValueError):
    """A model folder or hub id that is incomplete, of an unknown family, or not safetensors."""


class AdapterError(FewstepError, ValueError):
    """A LoRA whose keys, shapes or base do not fit."""


class PictureError(FewstepError, ArithmeticError):
    """Latents or pixels that are not finite numbers, so there is no picture. Not the fault of a request."""


class LayoutError(FewstepError, ValueError):
    """Samples of different layouts in one batch, or a size off the model's grid."""


class StoreError(FewstepError):
    """A conditioning store that is damaged, of another model, or incomplete."""


class RunError(FewstepError):
    """A run folder that belongs to another recipe, is locked, or cannot be written."""


class RankLost(RunError):
    """Another process of the same run has ended, so that this one cannot go on."""


class StudyError(FewstepError, ValueError):
    """A study whose file contradicts itself, whose cells differ in more than its axis, or whose folder is of another
    study."""


class TrainingStopped(FewstepError):
    """Training ended by a declared limit (for example too many non-finite updates)."""


class Interrupted(TrainingStopped):
    """Training was ended by a signal, and saved. The same command resumes it. number: that of the signal."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


class ExportError(FewstepError):
    """A student folder that cannot be written or does not pass its own verification."""


class SuiteError(FewstepError, ValueError):
    """A suite that does not exist, is damaged, has another hash, or cannot be made from what was given."""


class GalleryError(FewstepError):
    """A gallery of another suite or model, or pictures that cannot become one."""


class EnvironmentRefused(FewstepError, RuntimeError):
    """The machine lacks what was asked for: a device, a dtype, a package, disk space."""


class PluginError(FewstepError, RuntimeError):
    """A plug-in that cannot be loaded or is not of the right kind, or two of one name. Names the distribution."""


class DeclarationError(FewstepError, ValueError):
    """A file that declares an endpoint, with unknown, missing or contradictory keys."""


class EndpointError(FewstepError):
    """An endpoint that cannot be used at all: every further call would fail in the same way. cost: of the answer that
    showed it, if there was one."""

    cost: float | None = None


class Unsent(EndpointError):
    """Nothing was sent, because an earlier call showed that the endpoint cannot be used."""


class BudgetSpent(Unsent):
    """The next call could cost more than is left of the declared budget."""


class JudgeError(FewstepError, ValueError):
    """A protocol, a verdict or a judge's name that does not fit what it is used for."""
