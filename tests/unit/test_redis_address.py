"""The address of a Redis server: one reading for the ledger's client and for Celery's broker."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.connection import Connection

from tests.servers.certificate import make_certificate
from tiercast.bells import celery_config
from tiercast.broker_address import broker_config
from tiercast.ledger.client import connect
from tiercast.redis_address import AddressError, RedisAddress, place, with_ca
from tiercast.settings import load_settings

URLS = [
    ("redis://", {"host": "localhost", "port": 6379, "db": 0, "username": None, "password": None}),
    ("redis://ledger/2", {"host": "ledger", "db": 2}),
    ("redis://:p%40ss%2F%23@ledger:7000", {"host": "ledger", "port": 7000, "username": None, "password": "p@ss/#"}),
    ("redis://ada:tea@[::1]:7000/3", {"host": "::1", "username": "ada", "password": "tea", "db": 3}),
    ("redis://ledger?db=4", {"host": "ledger", "db": 4}),
    ("rediss://ledger", {"host": "ledger", "port": 6379}),
    ("unix:///run/redis.sock", {"path": "/run/redis.sock", "db": 0}),
    ("unix:///run/r%20edis.sock?db=3", {"path": "/run/r edis.sock", "db": 3}),
    ("unix://ada:t%3Aea@/run/redis.sock", {"path": "/run/redis.sock", "username": "ada", "password": "t:ea"}),
    ("redis+socket://:tea@/run/redis.sock?virtual_host=1", {"path": "/run/redis.sock", "password": "tea", "db": 1}),
]


def of_ledger(url: str) -> dict[str, Any]:
    """What the ledger's client connects with."""
    client = connect(url, timeout=1)
    try:
        return dict(client.connection_pool.connection_kwargs)
    finally:
        client.close()


def of_broker(url: str) -> dict[str, Any]:
    """What kombu connects with."""
    config = broker_config(url)
    made: Any = Connection
    connection = made(config["broker_url"], ssl=config.get("broker_use_ssl", False))
    transport = connection.transport
    channel = object.__new__(transport.Channel)
    channel.connection = transport
    found: dict[str, Any] = channel._connparams()
    return found


@pytest.mark.parametrize(("url", "expected"), URLS)
def test_ledger_and_broker_read_an_address_alike(url: str, expected: dict[str, Any]) -> None:
    for found in (of_ledger(url), of_broker(url)):
        assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "reqs", "named"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=required", ssl.CERT_REQUIRED, True),
        ("?ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, False),
    ],
)
def test_certificates_are_checked_by_both_unless_the_address_says_otherwise(
    options: str, reqs: ssl.VerifyMode, named: bool
) -> None:
    url = f"rediss://ledger/0{options}"
    for found in (of_ledger(url), of_broker(url)):
        assert (found["ssl_cert_reqs"], found["ssl_check_hostname"]) == (reqs, named)
        assert issubclass(found.get("connection_class", redis.SSLConnection), redis.SSLConnection)


def test_files_of_an_address_reach_both(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    url = f"rediss://ledger?ssl_ca_certs={made.path}&ssl_certfile={made.path}&ssl_keyfile={made.key}"
    for found in (of_ledger(url), of_broker(url)):
        assert (found["ssl_ca_certs"], found["ssl_certfile"], found["ssl_keyfile"]) == (
            str(made.path),
            str(made.path),
            str(made.key),
        )
    tls = RedisAddress.read(url).tls
    assert tls is not None
    tls.check_files()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://ledger?socket_timeout=3", "'socket_timeout', which Tiercast does not take"),
        ("redis://ledger?protocol=3", "known here: db, ssl_ca_certs"),
        ("unix:///run/redis.sock?ssl_ca_certs=x", "known here: db"),
        ("redis://ledger?ssl_ca_certs=/ca.pem", "does not start with rediss://"),
        ("rediss://ledger?ssl_cert_reqs=optional", "ssl_cert_reqs, whose value is none of required, none"),
        ("rediss://ledger?ssl_check_hostname=maybe", "none of true, false"),
        ("rediss://ledger?ssl_keyfile=/k.pem", "ssl_keyfile without ssl_certfile"),
        ("redis://ledger/1?db=2", "two databases"),
        ("redis://ledger?db=one", "the number of a database"),
        ("redis://ledger?db=1&db=1", "db twice"),
        ("redis://ledger?db=", "db without a value"),
        ("redis://ledger/1/2", "the number of a database"),
        ("redis://ledger/²", "the number of a database"),
        ("redis://:pa#ss@ledger/0", "# is %23"),
        ("unix://run/redis.sock", "a host in the wrong place"),
        ("unix://", "no usable path"),
        ("redis://ledger:0", "no usable port"),
        ("redis://ledger:port", "no usable host and port"),
        ("http://ledger", "does not start with redis://"),
        ("sentinel://one,two", "does not end with the name of the primary"),
        ("sentinel://one,two/ledger/0", "does not end with the name of the primary"),
        ("sentinel://one:26379;sentinel://two:26379/ledger", "separated by commas"),
        ("sentinel://one,/ledger", "no usable host and port"),
        ("sentinel://one:0/ledger", "no usable host and port"),
        ("sentinel://one:port/ledger", "no usable host and port"),
        ("sentinel://:pa#ss@one/ledger", "# is %23"),
        ("sentinel://one/ledger?db=x", "the number of a database"),
        ("sentinel://one/ledger?ssl_ca_certs=/ca.pem", "does not start with sentinels://"),
        ("sentinel://one/ledger?socket_timeout=3", "known here: sentinel_username, sentinel_password, db"),
        ("redis://ledger?sentinel_password=x", "which Tiercast does not take"),
    ],
)
def test_an_address_that_would_be_read_in_two_ways_is_refused(url: str, expected: str) -> None:
    with pytest.raises(AddressError) as caught:
        RedisAddress.read(url)
    assert expected in str(caught.value)


def test_amqps_has_the_certificate_and_the_servers_name_checked(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    config = broker_config(f"amqps://u:p@rabbit:5671//?ssl_ca_certs={made.path}&heartbeat=10")
    assert config == {
        "broker_url": "amqps://u:p@rabbit:5671//?heartbeat=10",
        "broker_use_ssl": {
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": "rabbit",
            "ca_certs": str(made.path),
        },
    }
    # Where one of several is tried, kombu fills in the name of that one.
    several = broker_config("amqps://u:p@one//;amqps://u:p@two//")
    assert several["broker_url"] == "amqps://u:p@one//;amqps://u:p@two//"
    assert several["broker_use_ssl"]["server_hostname"] is None


@pytest.mark.parametrize("url", ["amqp://u:p@rabbit//", "sqla+postgresql://u@db/x"])
def test_other_brokers_addresses_are_left_to_celery(url: str) -> None:
    assert broker_config(url) == {"broker_url": url}


def test_tls_options_without_tls_are_refused_for_amqp() -> None:
    with pytest.raises(AddressError, match="does not start with amqps://"):
        broker_config("amqp://u:p@rabbit//?ssl_ca_certs=/ca.pem")


def test_a_ca_is_added_where_an_address_names_none() -> None:
    assert with_ca("rediss://ledger", "/etc/my ca.pem") == "rediss://ledger?ssl_ca_certs=/etc/my%20ca.pem"
    assert with_ca("rediss://ledger?db=1", "/ca.pem") == "rediss://ledger?db=1&ssl_ca_certs=/ca.pem"
    assert with_ca("rediss://ledger?ssl_ca_certs=/own.pem", "/ca.pem") == "rediss://ledger?ssl_ca_certs=/own.pem"


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_files_that_cannot_be_used_are_named(option: str, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for name, expected in (("none.pem", "cannot be read: No such file"), ("no.pem", "nothing in PEM format")):
        tls = RedisAddress.read(f"rediss://ledger?{option}={tmp_path / name}").tls
        assert tls is not None
        with pytest.raises(AddressError) as caught:
            tls.check_files()
        assert expected in str(caught.value)
        assert f"{tmp_path / name} as {option}" in str(caught.value)


SENTINELS = "sentinel://ada:t%2Fea@one,two:7000,[::1]:7001/led%20ger?db=3&sentinel_username=s&sentinel_password=p%40ss"


def broker_of(url: str) -> Any:
    """The channel of kombu behind sentinels, not connected."""
    settings = load_settings({"TIERCAST_BROKER_URL": url})
    config = celery_config(settings, health_check_interval=10)
    made: Any = Connection
    connection = made(
        config["broker_url"],
        ssl=config.get("broker_use_ssl", False),
        transport_options=config["broker_transport_options"],
    )
    transport = connection.transport
    channel = object.__new__(transport.Channel)
    channel.connection = transport
    for name, value in config["broker_transport_options"].items():
        setattr(channel, name, value)
    return channel


def test_the_address_of_sentinels_reaches_the_ledgers_client() -> None:
    client = connect(SENTINELS, timeout=2)
    pool: Any = client.connection_pool

    assert pool.service_name == "led ger"
    assert {name: pool.connection_kwargs[name] for name in ("db", "username", "password", "socket_timeout")} == {
        "db": 3, "username": "ada", "password": "t/ea", "socket_timeout": 2,
    }  # fmt: skip
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == [("one", 26379), ("two", 7000), ("::1", 7001)]
    assert {(one["username"], one["password"], one["socket_timeout"]) for one in asked} == {("s", "p@ss", 1.0)}
    client.close()


def test_the_address_of_sentinels_reaches_the_broker() -> None:
    channel = broker_of(SENTINELS)
    pool = channel._sentinel_managed_pool()

    assert pool.service_name == "led ger"
    assert {name: pool.connection_kwargs[name] for name in ("db", "username", "password")} == {
        "db": 3, "username": "ada", "password": "t/ea",
    }  # fmt: skip
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == [("one", 26379), ("two", 7000), ("::1", 7001)]
    assert {(one["username"], one["password"]) for one in asked} == {("s", "p@ss")}


def test_sentinels_with_tls_have_certificates_checked_of_sentinels_and_primary(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    url = f"sentinels://one,two/ledger?ssl_ca_certs={made.path}"
    client = connect(url, timeout=1)
    for pool in (client.connection_pool, broker_of(url)._sentinel_managed_pool()):
        managed: Any = pool
        for one in (managed, *(sentinel.connection_pool for sentinel in managed.sentinel_manager.sentinels)):
            assert issubclass(one.connection_class, redis.SSLConnection)
            assert one.connection_kwargs["ssl_cert_reqs"] == ssl.CERT_REQUIRED
            assert one.connection_kwargs["ssl_ca_certs"] == str(made.path)
    client.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (SENTINELS, "led ger of the sentinels one:26379,two:7000,[::1]:7001"),
        ("redis://:secret@ledger/2", "ledger:6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("amqp://u:p@rabbit:5672//", "rabbit:5672"),
    ],
)
def test_where_an_address_leads_is_said_without_secrets(url: str, expected: str) -> None:
    assert place(url) == expected
