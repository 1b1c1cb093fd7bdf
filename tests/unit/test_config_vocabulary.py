"""The fields that templates may name are those of the sender's own schemas, read where they are present."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiercast.config.sandbox import Template

Schema = dict[str, Any]

#: What an event's objects are in the schemas.
_OBJECTS = {
    "customer": "SimpleCustomer",
    "campaign": "SimpleCampaign",
    "tier": "LoyaltyTier",
    "previous_tier": "LoyaltyTier",
}


def properties(schemas: Schema, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The documented fields of a schema, through its references and alternatives."""
    if "$ref" in schema:
        yield from properties(schemas, schemas[schema["$ref"].rpartition("/")[2]])
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        yield from properties(schemas, part)
    yield from schema.get("properties", {}).items()


def paths(schemas: Schema, schema: Schema, prefix: str, depth: int) -> Iterator[str]:
    """The dotted paths of a schema's fields, so many levels deep."""
    for name, inner in properties(schemas, schema):
        yield f"{prefix}.{name}"
        if depth > 1:
            yield from paths(schemas, inner, f"{prefix}.{name}", depth - 1)


@pytest.mark.parametrize("name", _OBJECTS)
def test_every_documented_field_is_accepted(name: str, shared: Path) -> None:
    schemas = json.loads((shared / "tier_event_schemas.json").read_text(encoding="utf-8"))["schemas"]
    documented = sorted(set(paths(schemas, schemas[_OBJECTS[name]], f"event.{name}", 3)))
    assert len(documented) > 5
    for path in documented:
        Template("{{ " + path + " }}")
