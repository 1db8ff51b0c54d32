"""How the samples of a batch are divided, over ranks and over parts of an update."""

from fewstep.runtime.errors import RecipeError


def batch_slice(batch: int, rank: int, world: int) -> slice:
    """The part of a batch that rank `rank` of `world` ranks takes. All parts in order are the batch. Their lengths
    differ by at most one sample.

    Raises:
        RecipeError: the batch has fewer samples than there are ranks.
    """
    refuse_few_samples(batch, world)
    return slice(rank * batch // world, (rank + 1) * batch // world)


def refuse_few_samples(batch: int, world: int, parts: int = 1) -> None:
    """
    Raises:
        RecipeError: a batch of fewer samples than ranks, or one of which some rank has fewer samples than `parts`.
    """
    if batch < world:
        raise RecipeError(
            f"run.batch {batch} leaves some of the {world} ranks without a sample; make it {world} or more"
        )
    least = batch // world
    if least < parts:
        where = "" if world == 1 else f" on {world} ranks, {least} on some of them,"
        raise RecipeError(
            f"run.batch {batch}{where} cannot be accumulated in {parts} parts; make run.gradient_accumulation {least} "
            f"or less, or run.batch {world * parts} or more"
        )
