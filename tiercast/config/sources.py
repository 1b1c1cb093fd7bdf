"""The sources of the configuration file, and the secrets from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConfigError
from ..settings import DEFAULT_SOURCE, Settings, secret_fault
from .document import Document, check_keys, read_document, resolve_secret
from .events import event_fault
from .model import Source

#: What sources, actions, limits and queues may be called: it stands in addresses and job keys.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
NAME_EXPECTED = "expected lower-case letters, digits, - and _, at most 63, beginning with a letter or digit"

_PROJECT = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_EVENT = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


def load_sources(settings: Settings) -> Mapping[str, Source]:
    """Read the sources; loads no action and no kind.

    Raises:
        ConfigError: one line for each fault.
    """
    document = read_document(settings)
    sources = sources_of(document, settings)
    if document is not None:
        document.raise_faults()
    return sources


def sources_of(document: Document | None, settings: Settings) -> dict[str, Source]:
    """Take the sources from a document, noting its faults there, and add the environment's secrets."""
    found: dict[str, Source] = {}
    section = document.data.get("sources", {}) if document else {}
    if document is not None and not isinstance(section, dict):
        document.fault("sources", "expected tables, [sources.NAME]")
        return {}
    for name, value in section.items():
        assert document is not None  # noqa: S101 - a section comes from a document
        source = _source(document, name, value, settings)
        if source:
            found[name] = source
    if settings.webhook_secrets and DEFAULT_SOURCE not in section:
        found[DEFAULT_SOURCE] = Source(name=DEFAULT_SOURCE, secrets=settings.webhook_secrets)
    if not found and not (document and document.faults):
        raise ConfigError(
            "There is no source of webhooks. Set TIERCAST_WEBHOOK_SECRETS to the secret of your Voucherify project, or "
            'add to the configuration file: [sources.voucherify] with secrets = ["env:VOUCHERIFY_SECRET"]'
        )
    return found


def _source(document: Document, name: str, value: Any, settings: Settings) -> Source | None:
    key = f"sources.{name}"
    if not NAME.fullmatch(name):
        document.fault(key, f"unusable name; {NAME_EXPECTED}")
        return None
    if not isinstance(value, dict):
        document.fault(key, "expected a table")
        return None
    check_keys(document, key, value, ("secrets", "event", "project"))
    secrets = _secrets(document, key, value.get("secrets", []))
    if name == DEFAULT_SOURCE:
        secrets += [secret for secret in settings.webhook_secrets if secret not in secrets]
    if not secrets and not any(fault.startswith(f"{key}.secrets") for fault in document.faults):
        document.fault(f"{key}.secrets", 'is missing; give the project\'s secret: secrets = ["env:VOUCHERIFY_SECRET"]')
    event = value.get("event")
    if event is not None and not (isinstance(event, str) and _EVENT.fullmatch(event)):
        document.fault(f"{key}.event", "expected an event's name such as customer.loyalty.tier.joined")
    elif event is not None and (fault := event_fault(event)):
        document.fault(f"{key}.event", fault)
    project = value.get("project")
    if project is not None and not (isinstance(project, str) and _PROJECT.fullmatch(project)):
        document.fault(f"{key}.project", "expected the id of your Voucherify project, such as proj_ajOsXbRAJg3v")
    return Source(
        name=name,
        secrets=tuple(secrets),
        event=event if isinstance(event, str) else None,
        project=project if isinstance(project, str) else None,
    )


def shared_secrets(sources: Mapping[str, Source]) -> Iterator[str]:
    """Warn where sources share a secret, and so most likely a Voucherify project, but do not say that they do.

    What is sent to one of them can then be sent to the other. Events of envelopes are recognised by the project in
    those; bare objects belong to the project that the source names, or else to the source alone.
    """
    by_secret: dict[str, list[Source]] = {}
    for source in sources.values():
        for secret in source.secrets:
            by_secret.setdefault(secret, []).append(source)
    groups = {tuple(sharing) for sharing in by_secret.values() if len(sharing) > 1}
    for sharing in sorted(groups, key=lambda group: [one.name for one in group]):
        if len({one.project for one in sharing}) > 1 or sharing[0].project is None:
            names = ", ".join(f"sources.{one.name}" for one in sharing)
            yield (
                f"{names}: they share a secret and name no common project: an event that comes to two of them may "
                'be done twice; give each the same project = "proj_...", the id of your Voucherify project'
            )


def _secrets(document: Document, key: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        document.fault(f"{key}.secrets", 'expected a list of references, such as ["env:VOUCHERIFY_SECRET"]')
        return []
    found: list[str] = []
    base = document.path.parent if document.path else None
    for i, reference in enumerate(value):
        try:
            secret = resolve_secret(reference, base=base)
        except ValueError as error:
            document.fault(f"{key}.secrets[{i}]", str(error))
            continue
        # Only that variable holds several, by commas; elsewhere a comma is part of the secret.
        parts = secret.split(",") if reference == "env:TIERCAST_WEBHOOK_SECRETS" else [secret]
        for part in filter(None, map(str.strip, parts)):
            if fault := secret_fault(part):
                document.fault(f"{key}.secrets[{i}]", f"the secret behind {reference} {fault}")
            else:
                found.append(part)
    return list(dict.fromkeys(found))
