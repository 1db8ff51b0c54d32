"""What `fewstep judge protocols` prints."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fewstep.bench import protocol
from fewstep.bench.protocol import GENERAL


def list_protocols(console: Console) -> None:
    table = Table("protocol", "tasks", "what it asks")
    for name in protocol.protocol_names():
        table.add_row(name, ", ".join(protocol.protocol_tasks(name)), protocol.protocol_description(name))
    console.print(table)


def show_protocol(name: str, category: str | None, console: Console) -> None:
    """Prints every word that is sent."""
    for task in protocol.protocol_tasks(name):
        loaded = protocol.load_protocol(name, task)
        categories = [category] if category else list(loaded.rubrics) or [GENERAL]
        for each in categories:
            rubric = loaded.rubric_name(each)
            console.print(f"\n[bold]{name}, {task}{f', {rubric}' if rubric else ''}[/]", highlight=False)
            console.print(escape(loaded.words(rubric)), highlight=False)
