"""`tiercast verify`: say whether and why a signature matches."""

from __future__ import annotations

from typing import IO

import click

from ..errors import ConfigError
from ..settings import DEFAULT_SOURCE
from ..signature import Verdict
from ..signature import verify as check_signature
from . import output
from .context import Context, pass_context

_PREFIXES = ("sha256=", "v1=", "v1,", "hmac-sha256=")


@click.command()
@click.option("--body", type=click.File("rb"), required=True, help="The raw body; - reads standard input.")
@click.option("--signature", required=True, metavar="TEXT", help="What the header x-voucherify-signature said.")
@click.option("--secret", metavar="REF", help="env:NAME or file:PATH; by default the source's secrets.")
@click.option("--source", metavar="NAME", help=f"Use this source's secrets.  [default: {DEFAULT_SOURCE}]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def verify(
    context: Context, body: IO[bytes], signature: str, secret: str | None, source: str | None, as_json: bool
) -> None:
    """Say whether and why a signature matches a body.

    The body's bytes must be those that were sent: saved from a proxy or a
    tunnel, or printed by `tiercast deliveries show ID --body`.

    \b
    Examples:
      tiercast verify --body body.json --signature 5f0c...
      tiercast verify --body - --signature 5f0c... --secret env:OLD_SECRET
    """
    content = body.read()
    secrets = _secrets(context, secret, source)
    verdict = check_signature(content, signature, secrets)
    hint = None if verdict.ok else _hint(content, signature, secrets)
    if as_json:
        number = None if verdict.secret is None else verdict.secret + 1
        output.as_json({"matches": verdict.ok, "reason": verdict.reason, "secret": number, "hint": hint})
    else:
        click.echo(_sentence(verdict))
        if hint:
            click.echo(hint)
    if not verdict.ok:
        click.get_current_context().exit(1)


def _secrets(context: Context, reference: str | None, source: str | None) -> tuple[str, ...]:
    if reference is not None:
        if source is not None:
            raise click.UsageError("Give --secret or --source, not both.")
        return _resolve(reference)
    name = source or DEFAULT_SOURCE
    known = context.sources
    if name not in known:
        raise ConfigError(
            f"There is no source {name!r}; the configuration has {', '.join(known) or 'none'}. "
            "Name one with --source, or a secret with --secret env:NAME."
        )
    return known[name].secrets


def _resolve(reference: str) -> tuple[str, ...]:
    """By reference only: what is typed ends in the shell's history."""
    from ..config.document import resolve_secret

    if reference.partition(":")[0] not in {"env", "file"}:
        raise click.UsageError("--secret takes a reference, env:NAME or file:PATH, never the secret itself.")
    try:
        text = resolve_secret(reference, base=None)
    except ValueError as error:
        raise click.UsageError(f"--secret: {error}.") from None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _sentence(verdict: Verdict) -> str:
    if verdict.ok:
        return f"The signature matches: {verdict.reason}."
    return f"The signature does not match: {verdict.reason}."


def _hint(body: bytes, signature: str, secrets: tuple[str, ...]) -> str | None:
    """Try what people get wrong, and say what would have matched."""
    for header, what in _other_headers(signature):
        if check_signature(body, header, secrets).ok:
            return f"It would match {what}. Send the header as Voucherify does: 64 lower-case hex digits."
    for content, what in _other_bodies(body):
        if check_signature(content, signature, secrets).ok:
            return f"It would match {what}: the file is not byte for byte what was sent."
    return None


def _other_headers(signature: str) -> list[tuple[str, str]]:
    bare = signature.strip()
    tries = [(bare, "without the space around the header"), (bare.lower(), "in lower case")]
    for prefix in _PREFIXES:
        if bare.lower().startswith(prefix):
            tries.append((bare[len(prefix) :].lower(), f"without the prefix {prefix}"))
    return tries


def _other_bodies(body: bytes) -> list[tuple[bytes, str]]:
    return [
        (body.rstrip(b"\r\n"), "without the line break at the file's end"),
        (body + b"\n", "with a line break at the file's end"),
        (body.removeprefix(b"\xef\xbb\xbf"), "without the byte order mark at the file's start"),
        (body.replace(b"\r\n", b"\n"), "with LF in place of CR LF"),
        (body.replace(b"\n", b"\r\n"), "with CR LF in place of LF"),
    ]
