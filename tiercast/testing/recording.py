"""A pytest plugin: says which level a kind has earned by the kit; `--record-kinds` writes it beside the kind's code."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

from ..conformance import CHECKS, Record, code_digest, options_of, write_record

#: The name under which a test's report says which check of which kind it is, and why it is left out, if it is.
_PROPERTY = "tiercast_check"

_NAME = re.compile(r"test_k([0-9]{1,2})_")


@dataclass(slots=True)
class _Run:
    """What a run has found of one kind. Several kits of one kind count together."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--record-kinds`."""
    parser.addoption("--record-kinds", action="store_true", help="write the levels that kinds have earned by the kit")


def pytest_configure(config: pytest.Config) -> None:
    """Gather the outcomes in the process that prints them."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Gatherer(record=config.getoption("--record-kinds")), "tiercast-kit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the kit with their check, so that their reports say it from other processes too."""
    for item in items:
        kit: Any = getattr(item, "cls", None)
        found = _NAME.match(item.name)
        if found and hasattr(kit, "not_applicable"):
            kind, check = kit.action_class, f"K{int(found[1])}"
            place = f"{kind.__module__}:{kind.__qualname__}"
            item.user_properties.append((_PROPERTY, [place, check, kit.not_applicable.get(check, "")]))


class _Gatherer:
    """Outcomes by kind, from this process or from the workers of pytest-xdist."""

    def __init__(self, *, record: bool) -> None:
        self._record = record
        self._runs: dict[str, _Run] = defaultdict(_Run)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == _PROPERTY and isinstance(value, list | tuple):
                self._note(report, *map(str, value))

    def _note(self, report: pytest.TestReport, place: str, check: str, reason: str) -> None:
        run = self._runs[place]
        if report.failed:
            run.failed.add(check)
        elif report.skipped and reason:
            run.left_out[check] = reason
        elif report.skipped:
            run.skipped.add(check)
        elif report.when == "call":
            run.passed.add(check)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print each kind's level, and write it where that was asked for."""
        for place, run in sorted(self._runs.items()):
            module, _, name = place.partition(":")
            cls = getattr(importlib.import_module(module), name, None)
            if cls is not None:  # else a class that only a test function knows
                terminalreporter.write_line(self._told(cls, run))

    def _told(self, cls: Any, run: _Run) -> str:
        bad = run.failed | run.skipped
        record = Record(
            kind=cls.kind,
            code=code_digest(cls),
            passed=tuple(check for check in CHECKS if check in run.passed - bad),
            left_out={check: why for check, why in run.left_out.items() if check not in run.passed | bad},
            failed=tuple(check for check in CHECKS if check in bad),
            options=options_of(cls),
        )
        missing = [check for check in CHECKS if check not in {*record.passed, *record.left_out, *record.failed}]
        text = f"kind {cls.kind}: {record.level}"
        text += f", failed {', '.join(record.failed)}" if record.failed else ""
        text += f", not run {', '.join(missing)}" if missing else ""
        if self._record and not missing:
            text += f", recorded in {write_record(cls, record)}"
        return text
