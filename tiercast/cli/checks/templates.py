"""Checks templates: renders each action's options for samples of every type that its rules name, and has the kind build
what it would send.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...actions import Action, Job, Permanent, Skip
from ...config.model import ActionSpec, Config, Rule
from ...config.rules import pattern
from ...event import TIER_EVENTS, Event
from ...runner import close
from ...samples import sample_event, variants
from .finding import Finding, Level, error, ok

#: Cases that every configuration should bear; in the others, values are null that often are.
_USUAL = frozenset({"an ordinary event", "top tier"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What rendering for one case came to: skipped, dead or failed with `text`, or good."""

    type: str
    case: str
    verdict: str
    text: str = ""


def check_templates(config: Config) -> Iterator[Finding]:
    """Render every action's options; one finding for each way it can go."""
    for spec in config.actions.values():
        rules = [rule for rule in config.rules if spec.name in rule.actions]
        if rules:
            yield from _check_action(spec, rules)


def _check_action(spec: ActionSpec, rules: list[Rule]) -> Iterator[Finding]:
    about = f"actions.{spec.name}"
    try:
        action = spec.make()
    except Exception as fault:
        yield error(about, f"it cannot be made: {_words(fault)}")
        return
    try:
        results = list(_render_all(spec, action, rules))
    finally:
        close(action)
    good = [result for result in results if result.verdict == "good"]
    if good:
        types = sorted({result.type for result in good})
        yield ok(about, f"renders for {_some(types)}")
    for (verdict, text), group in _grouped(results).items():
        level = _level(verdict, group)
        yield Finding(level, about, f"would be {verdict} for {_cases(group)}: {text}")


def _level(verdict: str, group: list[Rendered]) -> Level:
    if verdict == "skipped":
        return "ok"
    return "error" if any(result.case in _USUAL for result in group) else "warning"


def _render_all(spec: ActionSpec, action: Action, rules: list[Rule]) -> Iterator[Rendered]:
    """Render for each case that a rule lets through; for the usual ones if none does, so that faults show."""
    cases = [(type, variant.name, variant.data) for type in _types(rules) for variant in variants(type)]
    events = [(case, sample_event(type, data=data)) for type, case, data in cases]
    let_through = [(case, event) for case, event in events if any(_leads(rule, event) for rule in rules)]
    for case, event in let_through or [(case, event) for case, event in events if case in _USUAL]:
        yield _render(spec, action, case, event)


def _render(spec: ActionSpec, action: Action, case: str, event: Event) -> Rendered:
    try:
        key = f"{event.key}:{spec.name}"
        options = spec.render(event, key)
        # What the kind makes of them: a mail, for instance, whose addresses only then turn out to be none.
        action.rehearse(Job(key=key, event=event, attempt=1, options=options, timeout=spec.timeout))
    except Skip as skip:
        return Rendered(type=event.type, case=case, verdict="skipped", text=str(skip))
    except Permanent as dead:
        return Rendered(type=event.type, case=case, verdict="dead", text=str(dead))
    except Exception as fault:
        return Rendered(type=event.type, case=case, verdict="tried again and again", text=_words(fault))
    return Rendered(type=event.type, case=case, verdict="good")


def _leads(rule: Rule, event: Event) -> bool:
    matches = any(pattern(on).fullmatch(event.type) for on in rule.on)
    return matches and (rule.when is None or rule.when.holds(event).holds)


def _types(rules: Iterable[Rule]) -> list[str]:
    """The types that rules name; of a pattern, the tier events that it matches, else one that it would."""
    found: dict[str, None] = {}
    for on in (on for rule in rules for on in rule.on):
        matched = [type for type in TIER_EVENTS if pattern(on).fullmatch(type)]
        found.update(dict.fromkeys(matched or [on.replace("*", "any")]))
    return list(found)


def _grouped(results: Iterable[Rendered]) -> dict[tuple[str, str], list[Rendered]]:
    groups = defaultdict(list)
    for result in results:
        if result.verdict != "good":
            groups[result.verdict, result.text].append(result)
    return groups


def _cases(group: list[Rendered]) -> str:
    return ", ".join(dict.fromkeys(result.case for result in group))


def _some(types: list[str]) -> str:
    return types[0] if len(types) == 1 else f"{len(types)} event types"


def _words(fault: Exception) -> str:
    return str(fault) or type(fault).__name__
