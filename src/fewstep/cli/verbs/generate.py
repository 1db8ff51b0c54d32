"""What `fewstep generate` prints."""

from rich.console import Console

from fewstep.run.gallery import GeneratedGallery


def print_generated(found: GeneratedGallery, console: Console) -> None:
    """How many pictures are there, and what to do about the others."""
    console.print(
        f"{found.drawn:,} pictures in [bold]{found.folder}[/], {found.failed:,} failed", highlight=False, soft_wrap=True
    )
    if found.failed:
        console.print("Its manifest says why each failed; the same command tries them again.", soft_wrap=True)
