"""The sources of the configuration file, and the secrets from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..settings import DEFAULT_SOURCE, Settings, secret_fault
from .document import Document, check_keys, read_document, resolve_secret
from .events import event_fault
from .model import Source

#: What sources, actions, limits and queues may be called: it stands in addresses and job keys.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
NAME_EXPECTED = "expected lower-case letters, digits, - and _, at most 63, beginning with a letter or digit"

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
    check_keys(document, key, value, ("secrets", "event"))
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
    return Source(name=name, secrets=tuple(secrets), event=event if isinstance(event, str) else None)


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
