"""Which fields an event can have: a template that names another is wrong at start, not at night.

The lists are those of Voucherify's schemas of August 2026 (OpenAPI of its webhooks). What its payload designer adds,
and what is new since, stands below `event.data`.
"""

from __future__ import annotations

from jinja2 import nodes

from .document import nearest
from .sandbox import EVENT_FIELDS

_CUSTOMER = (
    "id source_id name email phone birthdate birthday description address summary loyalty referrals assets metadata "
    "system_metadata created_at updated_at object"
)
_CAMPAIGN = (
    "id name description campaign_type type category category_id categories start_date expiration_date "
    "activity_duration_after_publishing validity_timeframe validity_day_of_week validity_hours voucher auto_join "
    "join_once use_voucher_metadata_schema protected vouchers_count active metadata created_at updated_at "
    "creation_status vouchers_generation_status readonly referral_program is_referral_code promotion lucky_draw "
    "loyalty_tiers_expiration options winners_count validation_rules_assignments access_settings_assignments object"
)
_TIER = "id name campaign_id metadata created_at updated_at earning_rules rewards config points expiration object"

#: The documented fields of each object of an event; deeper ones are not checked, nor is `metadata`.
FIELDS = {
    "customer": tuple(_CUSTOMER.split()),
    "campaign": tuple(_CAMPAIGN.split()),
    "tier": tuple(_TIER.split()),
    "previous_tier": tuple(_TIER.split()),
}


def unknown_fields(tree: nodes.Node) -> list[str]:
    """What a template or condition names that no event can have, each as a message."""
    faults = []
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        if path is not None and len(path) == 1 and path[0] not in EVENT_FIELDS:
            faults.append(f"an event has no {path[0]}.{nearest(path[0], EVENT_FIELDS) or _known(EVENT_FIELDS)}")
        elif path is not None and len(path) == 2 and path[0] in FIELDS and path[1] not in FIELDS[path[0]]:
            within = "data.customer" if path[0] == "customer" else "data"
            hint = nearest(path[1], FIELDS[path[0]])
            faults.append(
                f"event.{path[0]} has no {path[1]}.{hint} A field of your own payload design is reached below "
                f"event.{within}."
            )
        elif path is not None and path[0] in {"id", "type", "at", "source"} and len(path) == 2:
            faults.append(f"event.{path[0]} is a text and has no {path[1]}")
    return list(dict.fromkeys(faults))


def _path(node: nodes.Node) -> list[str] | None:
    """The names below `event` that an access spells out; None where it is about something else."""
    names: list[str] = []
    while True:
        if isinstance(node, nodes.Getattr):
            names.append(node.attr)
            node = node.node
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            names.append(str(node.arg.value))
            node = node.node
        else:
            break
    return names[::-1] if isinstance(node, nodes.Name) and node.name == "event" else None


def _known(names: tuple[str, ...]) -> str:
    return f" It has: {', '.join(names)}."
