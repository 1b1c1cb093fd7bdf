"""What a kind has proved by running the kit: levels, and the record of a run beside the kind's code.

A record is written by the run alone (`pytest --record-kinds`), to `conformance/KIND.json` in the folder of the kind's
module, and ships with it. It names a digest of the code that was tested, so that it proves nothing of other code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .actions import Action

Level = Literal["none", "bronze", "silver"]

#: The checks of the kit, and what each is about.
CHECKS: Mapping[str, str] = {
    "K1": "options are described, secrets are secret, hosts take no template",
    "K2": "made without a connection or a thread, and quickly imported",
    "K3": "our user agent, no redirect, no proxy, bodies that the vendor takes",
    "K4": "a repeat carries the same key and has its effect once",
    "K5": "every answer has a meaning, whatever its status and body",
    "K6": "429 waits, for everyone, within bounds",
    "K7": "ends in time, whatever the network does",
    "K8": "each job of a bulk call has its own outcome",
    "K9": "one customer twice in a bulk call: both settled, in order",
    "K10": "a refusal of the whole call hurts only the job that it is about",
    "K11": "time that is used up within a bulk call loses and doubles nothing",
    "K12": "single and bulk calls have the same effect",
    "K13": "nothing personal or secret is shown, however the vendor echoes it",
    "K14": "hostile values stay values",
    "K15": "events and jobs are not changed, and null is left out",
    "K16": "closes what it opened",
    "K17": "confirm changes nothing and never guesses",
    "K18": "a refused credential is asked for once and holds the lane",
    "K19": "a page describes it, and its options only grow",
    "K20": "verify proves the credential without an effect",
}

_BRONZE = frozenset({"K1", "K2", "K3", "K4", "K5", "K6", "K7", "K15", "K16"})

#: The layout of a record.
_LAYOUT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The outcome of a run of the kit.

    Attributes:
        kind: its name.
        code: the digest of the code that was tested.
        passed: the checks that it passed.
        left_out: checks that do not apply to the kind, each with the reason that its author gave.
        failed: the checks that it failed.
        options: whether each option is required.
    """

    kind: str
    code: str
    passed: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    options: Mapping[str, bool] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """Silver: every check was passed or does not apply. Bronze: those of the first level."""
        good = {*self.passed, *self.left_out} - set(self.failed)
        return "silver" if good >= CHECKS.keys() else "bronze" if good >= _BRONZE else "none"


def record_path(cls: type[Action]) -> Path:
    """Where the record of a kind lies."""
    return _file_of(cls.__module__).parent / "conformance" / f"{cls.kind}.json"


def read_record(cls: type[Action]) -> Record | None:
    """The record of a kind; None where there is none that can be read."""
    try:
        found = json.loads(record_path(cls).read_text(encoding="utf-8"))
        if found["layout"] != _LAYOUT or found["kind"] != cls.kind:
            return None
        return Record(
            kind=found["kind"],
            code=found["code"],
            passed=tuple(found["passed"]),
            left_out=dict(found["left_out"]),
            failed=tuple(found["failed"]),
            options=dict(found["options"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(cls: type[Action], record: Record) -> Path:
    """Write the record of a run beside the kind's code."""
    path = record_path(cls)
    path.parent.mkdir(exist_ok=True)
    text = {
        "layout": _LAYOUT,
        "kind": record.kind,
        "level": record.level,
        "code": record.code,
        "passed": list(record.passed),
        "left_out": dict(record.left_out),
        "failed": list(record.failed),
        "options": dict(record.options),
    }
    path.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def code_digest(cls: type[Action]) -> str:
    """A digest of the kind's module and of what it imports from its own package."""
    digest = hashlib.sha256()
    for name in sorted(_own_modules(cls.__module__)):
        digest.update(name.encode() + b"\0" + _file_of(name).read_bytes() + b"\0")
    return digest.hexdigest()


def options_of(cls: type[Action]) -> dict[str, bool]:
    """The kind's options, and whether each is required."""
    return {option.data_key or name: bool(option.required) for name, option in cls.Options().fields.items()}


def _file_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"the module {module} has no file")
    return Path(spec.origin)


def _own_modules(first: str) -> set[str]:
    """A module, and the modules below its package that it imports, however indirectly."""
    package = first if _is_package(first) else first.rpartition(".")[0]
    found: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [one for one in _imported(name) if package and one.startswith(f"{package}.")]
    return found


def _is_package(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.submodule_search_locations is not None


def _imported(module: str) -> Iterator[str]:
    """The modules that a module's text imports, as far as they exist."""
    package = module if _is_package(module) else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(_file_of(module).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if _exists(name))


def _exists(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin is not None and spec.origin.endswith(".py")


def describe(cls: type[Action]) -> Mapping[str, Any]:
    """What `tiercast kinds show` says of a kind's level: level, whether it is of this code, and what was left out."""
    record = read_record(cls)
    if record is None:
        return {"level": "none", "proved": False, "left_out": {}, "failed": []}
    try:
        proved = inspect.isclass(cls) and record.code == code_digest(cls)
    except (ValueError, OSError, SyntaxError):
        proved = False
    return {
        "level": record.level,
        "proved": proved,
        "left_out": dict(record.left_out),
        "failed": list(record.failed),
    }
