"""What became of the rules for one event: which were for it, and why a `when` did not hold.

Only the paths that a `when` met are kept, never the values: those are in the body, for whoever may see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .text import clean_text

#: How much is kept of one rule: paths, and characters of each.
_MOST_PATHS = 8
_MOST_TEXT = 120


class RuleVerdict(StrEnum):
    """Why a rule led to its actions, or why not. A rule that is not for an event's type has none."""

    MATCHED = "matched"
    #: Its `when` is false.
    FALSE = "false"
    #: Its `when` met null, or something missing.
    NULL = "null"
    #: Its `when` cannot be decided.
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What became of one rule that was for the event's type.

    `paths` are those that its `when` looked up where it is false, and the one that is null where it met null; `fault`
    says why it could not be decided.
    """

    rule: str
    verdict: RuleVerdict
    paths: tuple[str, ...] = ()
    fault: str = ""

    def __str__(self) -> str:
        """In words, for an operator."""
        match self.verdict:
            case RuleVerdict.MATCHED:
                return f"{self.rule}: matched"
            case RuleVerdict.FALSE:
                return f"{self.rule}: its when is false" + (f" ({', '.join(self.paths)})" if self.paths else "")
            case RuleVerdict.NULL:
                return f"{self.rule}: {', '.join(self.paths)} is null"
            case _:
                return f"{self.rule}: its when {self.fault}"


#: Verdicts as they are stored.
_CODES = {RuleVerdict.MATCHED: "+", RuleVerdict.FALSE: "-", RuleVerdict.NULL: "0", RuleVerdict.FAULT: "!"}
_VERDICTS = {code: verdict for verdict, code in _CODES.items()}


def encode(outcomes: Iterable[RuleOutcome]) -> str:
    """The outcomes as they are stored; empty where all rules matched, which the delivery's jobs tell as well."""
    rows = [
        [_CODES[one.verdict], one.rule, *map(_short, (*one.paths[:_MOST_PATHS], *filter(None, [one.fault])))]
        for one in outcomes
    ]
    if all(row[0] == "+" for row in rows):
        return ""
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def decode(text: str | None) -> tuple[RuleOutcome, ...]:
    """The outcomes that were stored; none where all rules matched, or none was for the event's type."""
    if not text:
        return ()
    rows: list[list[Any]] = json.loads(text)
    return tuple(_outcome(*row) for row in rows)


def _outcome(code: str, rule: str, *texts: str) -> RuleOutcome:
    verdict = _VERDICTS[code]
    if verdict is RuleVerdict.FAULT:
        return RuleOutcome(rule, verdict, fault=" ".join(texts))
    return RuleOutcome(rule, verdict, texts)


def described(reason: str | None, outcomes: Iterable[RuleOutcome], *, ignored: bool) -> str | None:
    """A delivery's reason with what its rules say: of an ignored one all, of another what null or a fault decided."""
    shown = [
        str(one)
        for one in outcomes
        if one.verdict in {RuleVerdict.NULL, RuleVerdict.FAULT} or (ignored and one.verdict is RuleVerdict.FALSE)
    ]
    return "; ".join([*([reason] if reason else []), *shown]) or None


def _short(text: str) -> str:
    line = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in clean_text(text))
    return line if len(line) <= _MOST_TEXT else line[: _MOST_TEXT - 1] + "…"
