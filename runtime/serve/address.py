"""Where the page is served, and who may see it."""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass

from runtime.errors import OutputError

_TOKEN = re.compile(r"[A-Za-z0-9_-]{12,128}")
_LOOPBACK_NAMES = ("localhost",)


@dataclass(frozen=True)
class Address:
    """A host and a port to listen on.

    Attributes:
        host: an IP address, or a name that stands for one.
        port: 0 to 65535; 0 lets the system choose.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read HOST:PORT.

        Raises:
            OutputError: text that is not that.

        >>> Address.parse("[::1]:8080")
        Address(host='::1', port=8080)
        """
        host, _, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        right = port.isascii() and port.isdecimal() and int(port) <= 65535
        if not bare or not right or (":" in bare and bare == host):
            raise OutputError(f"expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, got {text!r}")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback_host(self.host)

    def __str__(self) -> str:
        """Return HOST:PORT, as a URL writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Guard:
    """Decides which requests are answered.

    With a token every request must bring it. Without one the page is on loopback, and requests must name
    a loopback host: else any web site could read the page through a name of its own that points to
    127.0.0.1 (DNS rebinding).
    """

    def __init__(self, address: Address, token: str | None) -> None:
        """Check that address and token fit together.

        Raises:
            OutputError: an address that others can reach without a token, or a token that is too weak.
        """
        if token is None and not address.is_loopback:
            raise OutputError(
                f"page on {address}: expected a token, since others can reach this address; set "
                "EDGESEG_TOKEN or --token-file, or serve on 127.0.0.1 and come through "
                "ssh -L 8080:127.0.0.1:8080"
            )
        if token is not None and not _TOKEN.fullmatch(token):
            raise OutputError(
                "page: expected a token of 12 to 128 letters, digits, - and _, got another; make one: "
                "python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        self._token = token

    @property
    def needs_token(self) -> bool:
        """Whether requests must bring a token."""
        return self._token is not None

    def admits(self, host_header: str | None, tokens: list[str]) -> bool:
        """Tell whether a request may be answered.

        Args:
            host_header: of the request.
            tokens: every token that it brought.
        """
        if self._token is None:
            return host_header is not None and is_loopback_host(_without_port(host_header))
        wanted = self._token.encode()
        return any(hmac.compare_digest(token.encode(), wanted) for token in tokens)


def is_loopback_host(host: str) -> bool:
    """Tell whether a host is this machine, seen from itself.

    >>> [is_loopback_host(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "robot.local")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES


def _without_port(host_header: str) -> str:
    """Return the host of a Host header."""
    found = re.fullmatch(r"(?:\[([^]]*)\]|([^:]*))(?::\d{0,5})?", host_header)
    return "" if found is None else found[1] or found[2] or ""
