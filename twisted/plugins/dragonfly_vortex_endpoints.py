"""
Make the description ``mtls:`` of server endpoints known to ``serverFromString`` and ``twistd``. Twisted imports this
module to list its plugins, and hides it without a word if that fails: what it needs is imported when it is used.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IStreamServerEndpointStringParser)
class MutualTLSParser:
    """The parser of ``mtls:``, see :func:`dragonfly_vortex.transport.tls_endpoint.endpoint_from_string`."""

    prefix = "mtls"

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        """Parse the rest of a description."""
        from dragonfly_vortex.transport.tls_endpoint import endpoint_from_string

        return endpoint_from_string(reactor, *args, **kwargs)


mtls_server = MutualTLSParser()
