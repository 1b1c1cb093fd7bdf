"""Checks that each action's vendor takes its credential, by a call that changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from ...actions import Action, Halt, RetryLater, Secret, Unknown
from ...config.model import ActionSpec, Config
from ...faults import fault_text
from ...runner import ActionRunner
from .finding import Finding, error, ok, warning


def check_credentials(config: Config) -> Iterator[Finding]:
    """Ask each action's kind to prove its credential."""
    for spec in config.actions.values():
        try:
            action = spec.make()
        except Exception:  # noqa: S112 - told by the check of templates
            continue
        yield from _check(spec, action)


def _check(spec: ActionSpec, action: Action) -> Iterator[Finding]:
    about = f"actions.{spec.name}"
    if not spec.cls.can_verify():
        if any(isinstance(field, Secret) for field in spec.cls.Options().fields.values()):
            yield ok(about, f"the vendor has no harmless call that proves the credential of the kind {spec.kind}")
        return
    with ActionRunner(action) as runner:
        try:
            proved = runner.verify(timeout=spec.timeout)
        except Halt as refused:
            yield error(about, str(refused))
        except (RetryLater, Unknown) as unsure:
            yield warning(about, f"its credential could not be checked: {unsure}")
        except (TimeoutError, asyncio.CancelledError):
            yield warning(about, f"its credential could not be checked within {spec.timeout:g} s")
        except Exception as fault:
            yield warning(about, f"its credential could not be checked: {fault_text(fault)}")
        else:
            yield ok(about, proved or "its credential cannot be checked")
