"""The workloads that wait for a network: what each event leads to, and the endpoint that it is done at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .endpoint import Protocol, Spec
from .endpoint_process import SECRET

#: The variables that our configuration takes its secrets from.
_SECRETS: Mapping[str, str] = {"BENCH_HOOK_SECRET": f"whsec_{SECRET}", "BENCH_CRM_TOKEN": "a-token-of-the-bench"}

_WEBHOOK = """
kind = "webhook"
url = "http://127.0.0.1:{port}/hook"
secret = "env:BENCH_HOOK_SECRET"
allow_hosts = ["127.0.0.1"]
"""

_EMAIL = """
kind = "email"
server = "smtp://127.0.0.1:{port}"
tls = "none"
from = "rewards@shop.example"
to = "{{{{ event.customer.email }}}}"
subject = "Event {{{{ event.id }}}}"
text = "Hello {{{{ event.customer.name }}}}, welcome to {{{{ event.tier.name }}}}."
"""

_HUBSPOT = """
kind = "hubspot"
base_url = "http://127.0.0.1:{port}"
token = "env:BENCH_CRM_TOKEN"
id_property = "voucherify_id"
id = "{{{{ event.customer.id }}}}"
properties.event = "{{{{ event.id }}}}"
properties.tier = "{{{{ event.tier.name }}}}"
order = "none"
"""

_RULE = '\n[[rules]]\non = "customer.loyalty.tier.joined"\ndo = ["act"]\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One action for each event, at an endpoint that takes `spec.delay` seconds."""

    name: str
    label: str
    spec: Spec
    action: str

    @property
    def bulk(self) -> bool:
        """Whether one call does many jobs."""
        return self.spec.protocol == "crm"

    def config(self, port: int) -> str:
        """The text of our configuration file; the endpoint listens on `port`."""
        return f"[actions.act]{self.action.format(port=port)}{_RULE}"

    def env(self, port: int) -> dict[str, str]:
        """The variables of everyone's processes."""
        return {
            "BENCH_WORKLOAD": self.spec.protocol,
            "BENCH_TARGET_PORT": str(port),
            "BENCH_ENDPOINT_SECRET": SECRET,
            **_SECRETS,
        }


def _workload(name: str, label: str, protocol: Protocol, milliseconds: int, action: str) -> Workload:
    secret = SECRET if protocol == "http" else ""
    spec = Spec(protocol=protocol, delay=milliseconds / 1000, secret=secret)
    return Workload(name=name, label=label, spec=spec, action=action)


ALL = (
    _workload("http-30ms", "one signed call an event, to an endpoint that takes 30 ms", "http", 30, _WEBHOOK),
    _workload("http-300ms", "one signed call an event, to an endpoint that takes 300 ms", "http", 300, _WEBHOOK),
    _workload("smtp-50ms", "one mail an event, to an SMTP server that takes 50 ms a message", "smtp", 50, _EMAIL),
    _workload("crm-bulk-300ms", "one record an event, up to 100 in a call that takes 300 ms", "crm", 300, _HUBSPOT),
)

BY_NAME = {one.name: one for one in ALL}
