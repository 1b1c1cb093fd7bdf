"""What a request must have beside its signature: an allowed address, an extra header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from receiver.app import create_app
from receiver.commit import Triple
from receiver.edge import PRESETS, Edge, edge_of
from tiercast.config.model import Source
from tiercast.errors import SettingsError
from tiercast.ringer import BellRinger
from tiercast.settings import load_settings
from tiercast.signature import sign

BODY = b'{"type": "x"}'


def edge(**environ: str) -> Edge:
    made = edge_of(load_settings({f"TIERCAST_{name.upper()}": value for name, value in environ.items()}))
    assert made is not None
    return made


def allowed(of: Edge, address: str, forwarded: str | None = None) -> bool:
    environ = {"REMOTE_ADDR": address} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    return of.refusal(environ) is None


def test_nothing_is_asked_for_unless_it_is_configured() -> None:
    assert edge_of(load_settings({})) is None


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_allow_their_region_only(preset: str) -> None:
    made = edge(allowed_senders=preset)
    for name, addresses in PRESETS.items():
        assert {allowed(made, address) for address in addresses} == {name == preset}


def test_addresses_and_networks_of_both_families_are_allowed() -> None:
    made = edge(allowed_senders="voucherify-eu1, 10.1.0.0/16,192.0.2.7 ,2001:db8::/32")

    for address in ("34.247.197.22", "10.1.255.3", "192.0.2.7", "2001:db8::5", "::ffff:10.1.2.3"):
        assert allowed(made, address), address
    for address in ("10.2.0.1", "192.0.2.8", "2001:db9::1", "::1", "", "no address"):
        assert not allowed(made, address), address


def test_forwarded_addresses_are_ignored_without_proxies_of_ours() -> None:
    made = edge(allowed_senders="192.0.2.7")

    assert not allowed(made, "203.0.113.9", forwarded="192.0.2.7")
    assert allowed(made, "192.0.2.7", forwarded="203.0.113.9")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        ("1", "192.0.2.7", True),
        ("1", "203.0.113.9, 192.0.2.7", True),
        ("1", "192.0.2.7, 203.0.113.9", False),
        ("1", "192.0.2.7:4711", True),
        ("1", "[2001:db8::5]:4711", True),
        ("1", "", False),
        ("1", None, False),
        ("2", "192.0.2.7, 10.0.0.1", True),
        ("2", "192.0.2.7, 203.0.113.9, 10.0.0.1", False),
        ("2", "192.0.2.7", False),
        ("1", "192.0.2.7, unknown", False),
    ],
)
def test_behind_proxies_the_last_that_they_vouch_for_counts(
    proxies: str, forwarded: str | None, expected: bool
) -> None:
    made = edge(allowed_senders="192.0.2.7, 2001:db8::5", trusted_proxies=proxies)

    # The address that the connection comes from is a proxy's, whatever it is.
    assert allowed(made, "192.0.2.7", forwarded) is expected


@pytest.mark.parametrize("text", ["voucherify-eu2", "10.0.0.1/8", "10.0.0.256", "example.com", "10.0.0.1 10.0.0.2"])
def test_unusable_senders_are_refused_with_the_variables_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"TIERCAST_ALLOWED_SENDERS.*voucherify-eu1"):
        edge(allowed_senders=text)


def test_extra_header_must_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_KEY", "s3cret-x")
    made = edge(extra_header="X-Tiercast-Key: env:WEBHOOK_KEY")

    assert made.refusal({"HTTP_X_TIERCAST_KEY": "s3cret-x"}) is None
    for wrong in ("", "s3cret", "s3cret-xx", "S3CRET-X", "s3cret-é", "\udcff"):
        assert made.refusal({"HTTP_X_TIERCAST_KEY": wrong}) is not None, wrong
    assert made.refusal({}) is not None
    assert "s3cret" not in repr(made)


@pytest.mark.parametrize(
    "text",
    ["x-key", "x-key: hunter2", "x key: env:WEBHOOK_KEY", "x-key: env:NO_SUCH_VARIABLE", "x-key: file:/no/such", ":"],
)
def test_unusable_extra_header_is_refused_without_quoting_what_may_be_the_secret(text: str) -> None:
    with pytest.raises(SettingsError, match="TIERCAST_EXTRA_HEADER") as caught:
        edge(extra_header=text)
    assert "hunter2" not in str(caught.value)


def test_extra_header_that_no_request_could_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_KEY", "clé")
    with pytest.raises(SettingsError, match="not ASCII"):
        edge(extra_header="x-key: env:WEBHOOK_KEY")


def test_a_list_that_names_nobody_is_not_one_that_allows_all() -> None:
    with pytest.raises(SettingsError, match="names nobody"):
        edge(allowed_senders=" , ")


@pytest.mark.parametrize("text", ["-1", "17", "one"])
def test_number_of_proxies_is_checked(text: str) -> None:
    with pytest.raises(SettingsError, match="TIERCAST_TRUSTED_PROXIES"):
        load_settings({"TIERCAST_TRUSTED_PROXIES": text})


@dataclass
class Bells:
    bells: Sequence[str] = ()


class Memory:
    """Keeps what it is to store."""

    def __init__(self) -> None:
        self.stored: list[Triple] = []

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Bells:
        self.stored.extend(deliveries)
        return Bells()

    def ping(self) -> None:
        pass


def test_refused_requests_get_the_same_401_are_not_stored_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a receiver that wants an address and a header
    monkeypatch.setenv("WEBHOOK_KEY", "hunter2")
    made = edge(allowed_senders="192.0.2.0/24", extra_header="x-key: env:WEBHOOK_KEY")
    store = Memory()
    sources = {"shop": Source(name="shop", secrets=("s",))}
    client = create_app(load_settings({}), sources, store, BellRinger(lambda lane: None), made).test_client()
    signed = {"x-voucherify-signature": sign(BODY, "s")}

    def post(address: str, **headers: str) -> tuple[int, object]:
        answer = client.post(
            "/webhooks/shop", data=BODY, headers=signed | headers, environ_base={"REMOTE_ADDR": address}
        )
        return answer.status_code, answer.json

    # When signed requests lack one or the other
    with capture_logs() as logs:
        assert post("203.0.113.9", **{"x-key": "hunter2"}) == (401, {"error": "no valid signature"})
        assert post("192.0.2.1", **{"x-key": "wrong"}) == (401, {"error": "no valid signature"})
        assert post("192.0.2.1") == (401, {"error": "no valid signature"})

    # Then nothing is stored, and only the log tells them apart
    assert store.stored == []
    assert [line["reason"].partition(" (")[0] for line in logs] == [
        "address not allowed", "extra header missing or wrong", "extra header missing or wrong",
    ]  # fmt: skip
    assert "hunter2" not in str(logs)
    assert "203.0.113.9" not in str(logs)

    # And one that has both is stored
    assert post("192.0.2.1", **{"x-key": "hunter2"})[0] == 202
    assert len(store.stored) == 1
