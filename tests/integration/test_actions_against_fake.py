"""`tiercast actions test NAME --against fake`: each kind that has a fake, from the configuration to the vendor."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tiercast.cli import main
from tiercast.config.kinds import find_kinds, load_kind

#: What an action of each kind needs beside its secrets.
ACTIONS = {
    "voucherify-points": "points = 50",
    "voucherify-reward": 'campaign = "Gold gifts"',
    "voucherify-customer": 'properties.tier = "{{ event.tier.name }}"',
    "klaviyo": 'id = "{{ event.customer.source_id }}"\nproperties.tier = "{{ event.tier.name }}"',
    "klaviyo-event": 'id = "{{ event.customer.source_id }}"',
    "customerio": 'id = "{{ event.customer.source_id }}"\nproperties.tier = "{{ event.tier.name }}"',
    "customerio-event": 'id = "{{ event.customer.source_id }}"',
    "braze": 'host = "rest.fra-02.braze.eu"\nid = "{{ event.customer.source_id }}"\ncreate = true\n'
    'properties.tier = "{{ event.tier.name }}"',
    "braze-event": 'host = "rest.fra-02.braze.eu"\nid = "{{ event.customer.source_id }}"\ncreate = true',
    "hubspot": 'id = "{{ event.customer.email }}"\nproperties.tier = "{{ event.tier.name }}"',
    "hubspot-event": 'event = "pe1_joined"\nid = "{{ event.customer.email }}"\n'
    'properties.tier = "{{ event.tier.name }}"',
}

SECRETS = {
    "voucherify": ("app_id", "app_token"),
    "customerio": ("site_id", "api_key"),
}


def run(tmp_path: Path, kind: str, more: str) -> tuple[int, str, str]:
    secrets = SECRETS.get(re.split("-", kind)[0], ("token",))
    lines = "".join(f'{name} = "env:{name.upper()}"\n' for name in secrets)
    path = tmp_path / "tiercast.toml"
    path.write_text(
        f'[actions.it]\nkind = "{kind}"\n{lines}{more}\n\n'
        f'[[rules]]\non = "customer.loyalty.tier.joined"\ndo = ["it"]\n',
        encoding="utf-8",
    )
    env = {"TIERCAST_CONFIG": str(path), **{name.upper(): "real-s3cr3t" for name in secrets}}
    env |= {"TIERCAST_WEBHOOK_SECRETS": "a-secret-of-tests", "TIERCAST_REDIS_URL": "redis://127.0.0.1:1/0"}
    result = CliRunner(env=env).invoke(main, ["actions", "test", "it", "--against", "fake", "--json"])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("kind", sorted(ACTIONS))
def test_an_action_is_performed_against_its_fake(tmp_path: Path, kind: str) -> None:
    status, out, err = run(tmp_path, kind, ACTIONS[kind])
    assert status == 0, out + err
    assert json.loads(out)["outcome"] == "done"
    assert "sent: " in err
    # The real secret goes nowhere, and no template goes unrendered.
    assert "real-s3cr3t" not in out + err
    assert "{{" not in err
    name = err.rpartition(" has: ")[0].rpartition(" ")[2]
    effects = json.loads(err.partition(f"{name} has: ")[2])
    assert any(effects.values()), effects


def test_every_kind_with_a_fake_is_tried_here() -> None:
    built_in = [name for name, found in find_kinds().items() if found.value.startswith("worker.")]
    assert {name for name in built_in if load_kind(name).fake} == set(ACTIONS)


def test_a_kind_without_a_fake_says_so(tmp_path: Path) -> None:
    status, _, err = run(tmp_path, "log", 'message = "x"')
    assert status != 0
    assert err
