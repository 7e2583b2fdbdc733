"""User and password of a camera, kept apart from its address until it is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from runtime.base.secret_files import read_secret
from runtime.errors import ConfigError

USER_VARIABLE, PASSWORD_VARIABLE = "EDGESEG_SOURCE_USER", "EDGESEG_SOURCE_PASSWORD"
_SCHEMES = ("http", "https", "rtmp", "rtsp", "rtsps")


@dataclass(frozen=True)
class Credentials:
    """A user and a password; neither is in its `repr`."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Credentials:
        """Read a file of one line, USER:PASSWORD; the password may hold further colons.

        Raises:
            ConfigError: another file.
        """
        user, colon, password = read_secret(path, "USER:PASSWORD").partition(":")
        if not (user and colon):
            raise ConfigError(f"{path}: expected one line USER:PASSWORD, got one without a colon or a user")
        return cls(user, password)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Credentials | None:
        """Return what EDGESEG_SOURCE_USER and EDGESEG_SOURCE_PASSWORD hold; None without a user.

        Raises:
            ConfigError: a password without a user.
        """
        user, password = environment.get(USER_VARIABLE, ""), environment.get(PASSWORD_VARIABLE, "")
        if password and not user:
            raise ConfigError(f"{PASSWORD_VARIABLE}: expected {USER_VARIABLE} too, it is not set")
        return cls(user, password) if user else None

    def into(self, address: str) -> str:
        """Return an address with user and password in it; only for what opens it, never for a message.

        >>> Credentials("admin", "p@ss/word").into("rtsp://10.0.0.7:554/live")
        'rtsp://admin:p%40ss%2Fword@10.0.0.7:554/live'
        """
        scheme, _, rest = address.partition("://")
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{rest}"


def takes_credentials(address: str) -> bool:
    """Whether an address is one of a kind with users, and names none itself."""
    scheme, _, rest = address.partition("://")
    authority = rest.split("/")[0].split("?")[0]
    return scheme.lower() in _SCHEMES and "@" not in unquote(authority)


def with_credentials(address: str, given: Credentials | None) -> str:
    """Return an address as it is opened: with what was given, else with what the environment holds.

    Raises:
        ConfigError: credentials were given for an address that names a user itself, or that takes none.
    """
    if takes_credentials(address):
        credentials = given or Credentials.of_environment()
        return address if credentials is None else credentials.into(address)
    if given is not None:
        raise ConfigError(
            "source_credentials: expected an address of "
            f"{', '.join(_SCHEMES)} without a user in it as --source, got another; leave one of them out"
        )
    return address
