"""The commands of `fewstep judge` that ask a judge, and what they print on the way."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fewstep.bench import judge_check, pairs
from fewstep.bench.attempts import Attempts
from fewstep.bench.judge_check import JudgeCheck
from fewstep.bench.judge_pass import (
    JudgePass,
    first_pictures,
    plan_judge_pass,
)
from fewstep.bench.judge_requests import JudgeRequest
from fewstep.bench.judging import (
    ask_judge,
    estimate_cost,
    pass_summary,
    refuse_another_judge,
)
from fewstep.bench.pair_verdict import PairVerdict, pair_figures
from fewstep.bench.pairs import PairJudgePass
from fewstep.bench.protocol import GENERAL
from fewstep.bench.statistics import Estimate, mean
from fewstep.bench.verdict import STATUSES, Verdict
from fewstep.endpoint.declaration import Endpoint, load_endpoint
from fewstep.runtime.errors import JudgeError


def run(gallery: Path, judge: Path, protocol_: str | None, limit: int | None, dry: bool, console: Console) -> None:
    """Asks the judge about every picture that it was not asked about yet.

    Raises:
        FewstepError: a bad declaration, gallery or protocol, before anything is asked; an unusable endpoint or a spent
            budget, with all answers kept.
    """
    endpoint = load_endpoint(judge) if dry else _ready(judge)
    work = plan_judge_pass(gallery, endpoint, protocol_)
    if dry:
        held = Attempts(work.attempts)
        _price(held.missing(first_pictures(work.wanted, limit)), endpoint, held, console)
        return
    with Attempts(work.attempts) as attempts:
        refuse_another_judge(attempts, endpoint)
        _put(
            attempts.missing(first_pictures(work.wanted, limit)),
            endpoint,
            attempts,
            work,
            endpoint.give_up_after,
            console,
        )


def retry(gallery: Path, judge: Path, protocol_: str | None, only: Sequence[str], console: Console) -> None:
    """Repeats only the questions without a good answer.

    Raises:
        FewstepError: as `run`.
    """
    strange = [status for status in only if status not in STATUSES[1:]]
    if strange:
        raise JudgeError(f"--only {strange[0]}: the statuses to ask again are {', '.join(STATUSES[1:])}")
    endpoint = _ready(judge)
    work = plan_judge_pass(gallery, endpoint, protocol_)
    with Attempts(work.attempts) as attempts:
        refuse_another_judge(attempts, endpoint)
        _put(attempts.unanswered(work.wanted, only), endpoint, attempts, work, None, console)


def pair(
    a: Path, b: Path, judge: Path, protocol_: str | None, limit: int | None, again: bool, dry: bool, console: Console
) -> None:
    """Shows the judge both systems' pictures of every case, in both orders; with `again`, repeats only the questions
    without a good answer.

    Raises:
        FewstepError: as `run`.
    """
    endpoint = load_endpoint(judge) if dry else _ready(judge)
    work = pairs.plan_pair_pass(a, b, endpoint, protocol_)
    wanted = first_pictures(work.wanted, limit)
    if dry:
        held = Attempts(work.attempts)
        _price(held.unanswered(wanted) if again else held.missing(wanted), endpoint, held, console)
        return
    with Attempts(work.attempts) as attempts:
        refuse_another_judge(attempts, endpoint)
        waiting = attempts.unanswered(wanted) if again else attempts.missing(wanted)
        _put(waiting, endpoint, attempts, work, None if again else endpoint.give_up_after, console)


def check(judge: Path, to: Path | None, keep: bool, console: Console) -> JudgeCheck:
    """Asks a judge about the canaries.

    Raises:
        FewstepError: as `run`; or a baseline of another judge.
    """
    endpoint = _ready(judge)
    folder = to or Path("judge-checks") / endpoint.name
    judge_check.refuse_foreign_baseline(folder, endpoint)
    number = judge_check.next_check_number(folder)
    wanted = judge_check.check_requests(endpoint)
    with Attempts(judge_check.attempts_path(folder, number)) as attempts:
        refuse_another_judge(attempts, endpoint)
        _ask(attempts.missing(wanted), endpoint, attempts, None, console)
        found = judge_check.finish_check(folder, number, endpoint, wanted, attempts, keep)
    _print_check(found, folder, keep, console)
    return found


def _ready(judge: Path) -> Endpoint:
    """The declared judge. Its key is looked up before pictures are read."""
    endpoint = load_endpoint(judge)
    endpoint.key()
    return endpoint


def _put(
    waiting: Sequence[JudgeRequest],
    endpoint: Endpoint,
    attempts: Attempts,
    work: JudgePass | PairJudgePass,
    give_up_after: int | None,
    console: Console,
) -> None:
    """Sends the questions, and writes the verdicts file however the pass ends."""
    console.print(f"answers go to {work.verdicts}", highlight=False, soft_wrap=True)
    if attempts.cut_off:
        console.print(
            f"[yellow]{attempts.cut_off:,} cut off in {attempts.path}:[/] the line of an answer that a kill or a full "
            "disk left incomplete; its question is asked again",
            highlight=False,
            soft_wrap=True,
        )
    try:
        _ask(waiting, endpoint, attempts, give_up_after, console)
    finally:
        verdicts = work.write(attempts)
    if isinstance(work, JudgePass):
        _print_means([verdict for verdict in verdicts if isinstance(verdict, Verdict)], console)
    else:
        _print_pairs(work, [verdict for verdict in verdicts if isinstance(verdict, PairVerdict)], console)
    _print_summary(attempts, work.wanted, console)


def _ask(
    waiting: Sequence[JudgeRequest], endpoint: Endpoint, attempts: Attempts, give_up_after: int | None, console: Console
) -> None:
    columns = (TextColumn(f"asking {endpoint.name}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    said: dict[str, int] = {}
    with Progress(*columns, TextColumn("{task.fields[said]}"), console=console, transient=True) as progress:
        shown = progress.add_task("", total=len(waiting), said="")

        def advance(status: str) -> None:
            said[status] = said.get(status, 0) + 1
            words = "  ".join(f"{name} {count}" for name, count in said.items())
            progress.update(shown, advance=1, said=words)

        ask_judge(waiting, endpoint, attempts, advance, give_up_after)


def _price(waiting: Sequence[JudgeRequest], endpoint: Endpoint, attempts: Attempts, console: Console) -> None:
    found = estimate_cost(waiting, endpoint, attempts)
    table = Table(show_header=False, title="what this pass would take; nothing was asked")
    basis = "from this judge's answers so far" if found.measured else "guessed from sizes and lengths"
    table.add_row("calls", f"{found.calls:,}")
    table.add_row("pictures", f"{found.pictures:,}")
    table.add_row("tokens in", f"{found.input_tokens:,.0f} ({basis})")
    table.add_row("tokens out", f"{found.output_tokens:,.0f}")
    table.add_row("cost", "unknown: no price is declared" if found.cost is None else f"{found.cost:,.2f}")
    if endpoint.budget is not None and found.cost is not None:
        left = endpoint.budget - attempts.spent
        enough = "enough" if found.cost <= left else "[bold red]not enough[/]: the pass would stop at the budget"
        table.add_row("budget", f"{endpoint.budget:,.2f}, of which {left:,.2f} is left: {enough}")
    console.print(table)


def _print_means(verdicts: Sequence[Verdict], console: Console) -> None:
    table = Table("category", "pictures", "score", title="means of the scores there are, with 95 % intervals")
    for category in dict.fromkeys(verdict.category for verdict in verdicts):
        mine = [(v.score, v.case) for v in verdicts if v.category == category and v.score is not None]
        scores = mean([score for score, _ in mine], [case for _, case in mine])
        table.add_row(category, str(len(mine)), _interval(scores))
    console.print(table)
    over = sum(1 for verdict in verdicts if verdict.status == "ok" and verdict.why is not None)
    if over:
        console.print(f"{over} scores lie over the cap of a failure that the judge itself names (see why)")
    general = sorted({v.category for v in verdicts if v.rubric == GENERAL and v.category != GENERAL})
    if general:
        console.print(f"judged by the general rubric, having none of their own: {', '.join(general)}", soft_wrap=True)


def _print_pairs(work: PairJudgePass, verdicts: Sequence[PairVerdict], console: Console) -> None:
    found = pair_figures(verdicts, work.systems[0])
    a, b = work.systems
    table = Table(show_header=False, title=f"{a} against {b}, {found.pairs:,} pairs in both orders")
    table.add_row(f"{a} wins (ties half)", _interval(found.wins))
    table.add_row("ties", _interval(found.ties))
    table.add_row("first place's advantage", _interval(found.order_effect))
    table.add_row("both orders agree", _interval(found.agreement))
    if found.half:
        table.add_row("pairs with one order only", f"{found.half}, left out of wins")
    if work.left_out:
        table.add_row("pictures that one gallery lacks", str(work.left_out))
    console.print(table)


def _print_summary(attempts: Attempts, wanted: Sequence[JudgeRequest], console: Console) -> None:
    found = pass_summary(attempts, wanted)
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(found.statuses.items()))
    console.print(counts + (f"; spent {found.spent:.4f}" if attempts.of("cost") else ""), highlight=False)
    if len(found.models) > 1:
        console.print(f"[yellow]several models answered:[/] {', '.join(found.models)}", highlight=False)
    failed = sum(count for name, count in found.statuses.items() if name not in ("ok", "waiting"))
    if failed:
        console.print("what failed is asked again by `fewstep judge retry`, or `judge pair --retry`", highlight=False)


def _print_check(found: JudgeCheck, folder: Path, keep: bool, console: Console) -> None:
    figures = found.figures
    table = Table(show_header=False, title=f"check {found.number}: {', '.join(figures.models) or 'unnamed model'}")
    table.add_row("order accuracy", _interval(figures.order))
    for kind, order in figures.order_of.items():
        table.add_row(f"  {kind}", _interval(order))
    table.add_row("spread over repeats", "unknown" if figures.spread is None else f"{figures.spread:.3f} points")
    table.add_row("JSON validity", "unknown" if figures.valid is None else f"{figures.valid:.3f}")
    table.add_row("refused", f"{figures.refused:.3f}")
    table.add_row("a demand gains", f"{_interval(figures.lift)} points")
    table.add_row("questions without a score", str(figures.unscored))
    if figures.cost is not None:
        table.add_row("cost", f"{figures.cost:.4f}")
    console.print(table)
    for alarm in found.alarms:
        console.print(f"[bold red]alarm:[/] {escape(alarm)}", highlight=False, soft_wrap=True)
    kept = "kept as the baseline" if keep else f"held against {found.baseline}" if found.baseline else "no baseline yet"
    console.print(f"{kept}; files in {folder}", highlight=False, soft_wrap=True)


def _interval(found: Estimate) -> str:
    if found.value is None:
        return "none"
    return f"{found.value:.3f}" + ("" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]")
