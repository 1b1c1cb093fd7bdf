"""The broker's address, as Celery wants it: in its own form, and with certificates checked.

Celery checks no certificate of `rediss://`, and no server's name of `amqps://`, unless `broker_use_ssl` says so.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .redis_address import TLS_OPTIONS, AddressError, RedisAddress, Tls, is_redis


def broker_config(url: str) -> dict[str, Any]:
    """The settings of Celery that say where the broker is: `broker_url`, and `broker_use_ssl` where it uses TLS.

    Raises:
        AddressError: the address has a TLS option that cannot be used.
    """
    if is_redis(url):
        address = RedisAddress.read(url)
        config: dict[str, Any] = {"broker_url": address.broker_url()}
        return config | {"broker_use_ssl": address.broker_tls()} if address.tls else config
    first, *others = url.split(";")
    parts = urlsplit(first)
    options = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: value for name, value in options if name in TLS_OPTIONS}
    if parts.scheme != "amqps":
        if ours and parts.scheme.startswith("amqp"):
            raise AddressError(f"has the option {next(iter(ours))}, but does not start with amqps://, which means TLS")
        return {"broker_url": url}
    tls = Tls.read(ours)
    tls.check_files()
    rest = urlencode([(name, value) for name, value in options if name not in TLS_OPTIONS])
    plain = urlunsplit((parts.scheme, parts.netloc, parts.path, rest, ""))
    return {
        "broker_url": ";".join([plain, *others]),
        "broker_use_ssl": _amqp_tls(tls, None if others else parts.hostname),
    }


def _amqp_tls(tls: Tls, host: str | None) -> dict[str, Any]:
    """What py-amqp takes. It checks the server's name only where it gets one; None stands for the address's own."""
    found: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE}
    if tls.check_hostname:
        found["server_hostname"] = host
    files = {"ca_certs": tls.ca_certs, "certfile": tls.certfile, "keyfile": tls.keyfile}
    return found | {name: path for name, path in files.items() if path}
