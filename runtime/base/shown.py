"""The one place that makes an address fit to be seen: in messages, logs, files and on pages."""

from __future__ import annotations

import re

HIDDEN = "***"
_USER_AND_PASSWORD = re.compile(r"(?<=://).*@|^(?![a-z]+://)[^/\s:@]+:.*@", re.IGNORECASE)
_QUERY = re.compile(r"[?#].*")
# Many recorders take the password in the path: /user=admin&password=1234&channel=1.sdp
_NAMED_SECRET = re.compile(
    r"((?:user|login|pass|pwd|token|auth|secret|key)\w*?=)[^&/;,\s]*?(?=$|[&/;,\s]|_\w+=)", re.IGNORECASE
)


def without_secrets(address: str) -> str:
    """Return an address fit for messages: without user, password, query and secrets in its path.

    >>> without_secrets("rtsp://admin:s3cret@10.0.0.7/live?token=abc")
    'rtsp://***@10.0.0.7/live?***'
    >>> without_secrets("rtsp://10.0.0.7/user=admin_password=1234_channel=1.sdp")
    'rtsp://10.0.0.7/user=***_password=***_channel=1.sdp'
    >>> without_secrets("clips/drive.mp4")
    'clips/drive.mp4'
    """
    address = _USER_AND_PASSWORD.sub(f"{HIDDEN}@", address)
    address = _QUERY.sub(lambda found: found.group()[0] + HIDDEN, address) if "://" in address else address
    return _NAMED_SECRET.sub(rf"\1{HIDDEN}", address) if "://" in address else address
