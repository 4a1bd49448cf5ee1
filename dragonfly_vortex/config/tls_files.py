"""
The certificates that a peer shows and trusts: those of ``tls``, unless ``upload.server`` or ``upload.client`` name
others.

A certificate and its key are one thing and come from one section; the authority is another. Nothing is read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from dragonfly_vortex.config.model import Config, TLSConfig

__all__ = ["TLSIdentity", "client_tls", "incomplete", "scheduler_tls", "server_tls", "surprises"]


class TLSIdentity(Struct, frozen=True, kw_only=True):
    """
    The files that one side of a connection needs, all in PEM.

    :param certificate: what it shows of itself, with what leads to an authority; None: it shows nothing.
    :param key: the certificate's private key; None exactly where there is no certificate.
    :param authority: the authorities that must have signed the other side's certificate. None: a server asks for no
        certificate; a client trusts the platform's authorities.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None


def server_tls(config: Config) -> TLSIdentity | None:
    """
    The TLS files of this peer as a parent, for all doors.

    :returns: always with a certificate; None where it speaks no TLS.
    """
    identity = _identity(config.upload.server, config.tls)
    return identity if identity.certificate is not None else None


def client_tls(config: Config) -> TLSIdentity:
    """The TLS files of this peer as a child, for parents whose addresses name TLS."""
    return _identity(config.upload.client, config.tls)


def scheduler_tls(config: Config) -> TLSIdentity | None:
    """
    What this peer is to schedulers.

    :returns: None where it speaks no TLS with them: as in the reference, it does where all three files are given.
    """
    section = config.scheduler
    if section.cert is None or section.key is None or section.ca_cert is None:
        return None
    return TLSIdentity(certificate=section.cert, key=section.key, authority=section.ca_cert)


def incomplete(config: Config) -> Iterator[tuple[str, str]]:
    """
    Find files for TLS that need another one, which is not configured.

    :returns: keys, dotted and in our spelling, and what is wrong with each.
    """
    sections = {"tls": config.tls, "upload.server": config.upload.server, "upload.client": config.upload.client}
    for name, section in sections.items():
        if section.cert is not None and section.key is None:
            yield f"{name}.cert", f"expected {name}.key beside it, the certificate's private key; got none"
        if section.key is not None and section.cert is None:
            yield f"{name}.key", f"expected {name}.cert beside it, the key's certificate; got none"
    if config.upload.server.ca_cert is not None and server_tls(config) is None:
        reason = "expected upload.server.cert and upload.server.key beside it, or those of tls; got none"
        yield "upload.server.ca_cert", f"{reason}, and without them there is no TLS"


def surprises(config: Config) -> Iterator[str]:
    """Find settings that do less than they seem to."""
    if config.tls.ca_cert is not None and server_tls(config) is None:
        yield "tls.ca_cert is for parents alone: without tls.cert and tls.key this peer serves without TLS"
    section = config.scheduler
    if scheduler_tls(config) is None and (section.cert or section.key or section.ca_cert):
        yield "scheduler: without all of caCert, cert and key, schedulers are spoken to without TLS"


def _identity(own: TLSConfig, common: TLSConfig) -> TLSIdentity:
    shown = own if own.cert is not None else common
    authority = own.ca_cert if own.ca_cert is not None else common.ca_cert
    return TLSIdentity(certificate=shown.cert, key=shown.key, authority=authority)
