"""Bulk verbs: one request of an operator for many deliveries or jobs, each carried out by itself."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import click

from ..control.changes import Control
from ..control.verbs import BULK_MAX_MEMBERS, Verb
from ..ledger.model import Answer
from . import output
from .group import Failure

F = TypeVar("F", bound=Callable[..., Any])

#: How many are named for each reason why they were not touched.
_NAMED = 3

#: How many reasons are shown.
_REASONS = 10


@dataclass(frozen=True, slots=True)
class Member:
    """A delivery or job that was chosen; `state` is None where there is none of that name."""

    name: str
    state: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What all bulk verbs take: whether to ask and what to print."""

    dry_run: bool
    yes: bool
    as_json: bool
    why: str
    background: bool = False
    rate: float | None = None
    try_first: bool | None = None

    @property
    def is_operation(self) -> bool:
        """Whether something was asked for that only operations have."""
        return self.background or self.rate is not None or self.try_first is not None


@dataclass(slots=True, kw_only=True)
class ByAction:
    """How many jobs of each action a request touches, for the question before it.

    `pays` are those whose kinds are not repeatable, where the request does them again: what it did, it does twice.
    `left_out` are done jobs of such actions that nobody named, so the request does not touch them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    pays: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    def lines(self, what: str) -> Iterator[str]:
        """What it does, in words."""
        if self.counts:
            counts = (
                f"{name} {count}{' (pays again)' if name in self.pays else ''}"
                for name, count in self.counts.most_common()
            )
            yield f"{what}: {', '.join(counts)}."
        if self.left_out:
            counts = (f"{name} {count}" for name, count in self.left_out.most_common())
            name = self.left_out.most_common(1)[0][0]
            yield (
                f"Left out, since their kinds are not repeatable and it pays again: {', '.join(counts)}. To do them "
                f"too, name them: --action {name}, or tiercast jobs redo KEY."
            )

    def as_dict(self) -> dict[str, Any]:
        """The same, for scripts."""
        return {"actions": dict(self.counts), "left_out": dict(self.left_out)}


@dataclass(slots=True)
class Tally:
    """What became of a bulk request."""

    done: int = 0
    refused: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, answer: Answer) -> None:
        """Count one answer; reasons are grouped by what stands before their remedy."""
        if answer.done:
            self.done += 1
        else:
            self.refused.setdefault(answer.text.partition("; ")[0], []).append(f"{name}: {answer.text}")


def carry_out(
    control: Control,
    verb: Verb,
    members: Sequence[Member],
    *,
    by_filter: bool,
    how: How,
    subject: str = "",
    actions: ByAction | None = None,
    what: str = "By action",
    more: Callable[[str], Mapping[str, Any]] = lambda _: {},
) -> None:
    """Carry a verb out, oldest first, and say for how many it could be done and for how many not and why.

    Exits with status 1 where it could be done for none of those chosen.

    Args:
        control: carries it out.
        verb: what is done.
        members: newest first.
        by_filter: whether a filter chose them.
        how: what was asked for.
        subject: the filter in words.
        actions: how many jobs of each action are touched.
        what: what happens to those.
        more: gives further fields of a member.
    """
    actions = actions or ByAction()
    if not members:
        _report_nothing(verb, actions, as_json=how.as_json)
        return
    if how.dry_run:
        _report_plan(verb, members, actions, what, as_json=how.as_json)
        return
    if ((by_filter and len(members) > 1) or actions.pays) and not how.yes and output.can_ask():
        click.echo(f"{verb.count(len(members))} chosen ({_by_state(members)}).", err=True)
        for line in actions.lines(what):
            click.echo(line, err=True)
        if not click.confirm(f"{verb.word.capitalize()} them?", err=True):
            raise Failure("Nothing was changed.")
    why = reason(how, asked=verb.asks_why, count=len(members))
    tally = Tally()
    names = [member.name for member in reversed(members)]
    answers = control.change_all(verb, names, subject=subject, why=why, more=more)
    for name, answer in output.progress(answers, len(names), f"{verb.word} {len(names)}"):
        tally.add(name, answer)
    _report(verb, tally, actions, as_json=how.as_json)


def reason(how: How, *, asked: bool, count: int = 1) -> str:
    """Why it is done, for the audit log: as given, or asked of a person.

    Raises:
        UsageError: so many members need one, and nobody can be asked.
    """
    asked = asked or count > BULK_MAX_MEMBERS
    if how.why or not asked:
        return how.why
    if output.can_ask() and not how.yes:
        answer: str = click.prompt("Why? The audit log keeps it", err=True)
        return answer.strip()
    if count > BULK_MAX_MEMBERS:
        raise click.UsageError(
            f"A reason is missing: more than {BULK_MAX_MEMBERS} at once need one for the audit log. Give --why TEXT."
        )
    output.note("No reason was given, so the audit log has none. Give one with --why TEXT.")
    return ""


def refuse_everything(verb: Verb) -> NoReturn:
    """Neither names nor filters: nobody means everything by saying nothing."""
    raise click.UsageError(f"Name the {verb.plural} to {verb.word}, or choose them with a filter such as --since 2h.")


def _report_nothing(verb: Verb, actions: ByAction, *, as_json: bool) -> None:
    if as_json:
        output.as_json({"chosen": 0, "done": 0, "not_done": []} | actions.as_dict())
        return
    click.echo(f"No {verb.noun} matches; nothing to {verb.word}.")
    for line in actions.lines(""):
        click.echo(line)


def _report_plan(verb: Verb, members: Sequence[Member], actions: ByAction, what: str, *, as_json: bool) -> None:
    touched = [member for member in members if member.state in verb.can]
    others = [member for member in members if member.state not in verb.can]
    if as_json:
        reasons = Counter(_why_not(member) for member in others)
        not_done = [{"reason": reason, "count": count} for reason, count in reasons.items()]
        plan = {"chosen": len(members), "would_do": len(touched), "not_done": not_done}
        output.as_json(plan | actions.as_dict())
        return
    states = f" ({_by_state(touched)})" if touched else ""
    click.echo(f"Would {verb.word} {verb.count(len(touched))}{states}. Nothing was changed.")
    for line in actions.lines(what):
        click.echo(line)
    for reason, count in Counter(_why_not(member) for member in others).items():
        click.echo(f"Would leave {verb.count(count)}: {reason}.")


def _why_not(member: Member) -> str:
    return "there is no such" if member.state is None else f"state {member.state}"


def _by_state(members: Iterable[Member]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(member.state for member in members).most_common())


def _report(verb: Verb, tally: Tally, actions: ByAction, *, as_json: bool) -> None:
    failed = sum(map(len, tally.refused.values()))
    if as_json:
        not_done = [{"reason": reason, "count": len(names)} for reason, names in tally.refused.items()]
        report = {"chosen": tally.done + failed, "done": tally.done, "not_done": not_done}
        output.as_json(report | actions.as_dict())
    else:
        if tally.done or not failed:
            click.echo(f"{verb.past.capitalize()} {verb.count(tally.done)}.")
        if actions.left_out:
            for line in ByAction(left_out=actions.left_out).lines(""):
                click.echo(line, err=True)
        for line in _refusals(verb, tally):
            click.echo(line, err=True)
    if not tally.done:
        click.get_current_context().exit(1)


def _refusals(verb: Verb, tally: Tally) -> Iterable[str]:
    for reason, names in list(tally.refused.items())[:_REASONS]:
        yield f"Not {verb.past} {verb.count(len(names))}: {output.plain(reason)}"
        for name in names[:_NAMED]:
            yield f"  {output.plain(name)}"
        if len(names) > _NAMED:
            yield f"  and {len(names) - _NAMED} more"
    if len(tally.refused) > _REASONS:
        yield f"and {len(tally.refused) - _REASONS} more reasons"


#: What every verb that asks for a reason takes.
why_option = click.option(
    "--why",
    default="",
    metavar="TEXT",
    callback=lambda _c, _p, text: text.strip(),
    help="The reason, kept in the audit log.",
)


def options(command: F) -> F:
    """Give a command what all bulk verbs take; it gets that as `how`."""

    @functools.wraps(command)
    def with_how(*args: Any, **kwargs: Any) -> Any:
        names = ("dry_run", "yes", "as_json", "why", "background", "rate", "try_first")
        return command(*args, how=How(**{name: kwargs.pop(name) for name in names}), **kwargs)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        why_option,
        click.option(
            "--try-first/--no-try-first",
            default=None,
            help="Whether to try five first; an operation does above 100 members.",
        ),
        click.option(
            "--rate",
            type=click.FloatRange(min=0, min_open=True),
            metavar="N",
            help="At most N a second, as an operation.",
        ),
        click.option("--background", is_flag=True, help="Begin an operation, and do not wait for it."),
        click.option("--dry-run", is_flag=True, help="Only say how many it would touch."),
    ):
        with_how = option(with_how)
    return with_how  # type: ignore[return-value]
