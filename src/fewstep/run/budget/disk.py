"""What a finished run keeps on disk, beside its store and its pictures."""

from dataclasses import dataclass

from fewstep.train.plan import RunPlan


@dataclass(frozen=True)
class RunDisk:
    """
    Args:
        checkpoint: the bytes of a whole checkpoint, of all GPUs together.
        student: those of the averaged student in it, which stays alone when its checkpoint is deleted.
    """

    run: RunPlan
    checkpoint: int
    student: int

    @property
    def saves(self) -> int:
        """The number of iterations that are saved, beside those that an examination finds better."""
        return -(-self.run.iterations // self.run.save_every_iterations)

    @property
    def whole(self) -> int:
        """The number of whole checkpoints at the end."""
        return min(self.saves, self.run.keep_checkpoints + (self.run.keep_best if self.run.best_by else 0))

    @property
    def bytes(self) -> int:
        """Of all checkpoints and students. A student shares the disk's blocks with its checkpoint."""
        alone = self.saves - self.whole if self.run.keep_students else 0
        return self.whole * self.checkpoint + alone * self.student
