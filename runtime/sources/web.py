"""What stands behind an http address: a recording, which has an end, or a live stream."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from runtime.base.shown import shown
from runtime.errors import SourceError
from runtime.sources.source import Capture, announced_frames

logger = logging.getLogger(__name__)

_RECORDED = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".webm"})
_TIMEOUT_S = 5.0
_LARGEST_PLAYLIST = 8 << 20


def is_recording(address: str, open_capture: Callable[[], Capture]) -> bool:
    """Whether an http or https address is a recording.

    It is where the server states a length and that it is no picture, or where a playlist of HLS says that it
    has an end. Where the server states no length the video itself may: a stream has none. Where the server
    does not answer, the name decides: .mp4 and the like are recordings.

    Args:
        address: with user and password.
        open_capture: opens it or raises SourceError.
    """
    path = PurePosixPath(urlsplit(address).path)
    try:
        with closing(_ask(address)) as answer:
            kind = answer.headers.get_content_type()
            if path.suffix.lower() == ".m3u8" or "mpegurl" in kind:
                return _has_end(address, answer)
            length = answer.headers.get("Content-Length", "")
            if kind.startswith(("image/", "multipart/")):
                return False
            if length.isdecimal():
                return int(length) > 0
    except (OSError, HTTPException, ValueError) as error:
        logger.info("%s: cannot ask what it is (%s)", shown(address), shown(error))
        return path.suffix.lower() in _RECORDED
    try:
        capture = open_capture()
    except SourceError:
        return False  # what is not there yet may be a camera
    try:
        return announced_frames(capture) > 0
    finally:
        capture.release()


def _has_end(address: str, answer: Any) -> bool:
    """Whether a playlist of HLS ends; of a list of variants, whether the first one does (RFC 8216)."""
    text = answer.read(_LARGEST_PLAYLIST).decode("utf-8", "replace")
    if "#EXT-X-STREAM-INF" in text:
        variant = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
        with closing(_ask(_joined(address, variant))) as inner:
            text = inner.read(_LARGEST_PLAYLIST).decode("utf-8", "replace")
    return "#EXT-X-ENDLIST" in text or "#EXT-X-PLAYLIST-TYPE:VOD" in text


def _joined(address: str, relative: str) -> str:
    """Return the address of what a playlist names, with the playlist's user and password."""
    parts = urlsplit(address)
    joined = urlsplit(urljoin(address, relative.strip()))
    if joined.hostname == parts.hostname and "@" not in joined.netloc and "@" in parts.netloc:
        joined = joined._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{joined.netloc}")
    return joined.geturl()


def _ask(address: str) -> Any:
    """Return the answer to a GET of which nothing but the head needs to be read."""
    import ssl  # here, since few programs need the web
    import urllib.request

    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"expected http or https, got {parts.scheme}")
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, plain, unquote(parts.username), unquote(parts.password or ""))
    context = ssl.create_default_context()
    # As FFmpeg, which reads it afterwards, and as cameras with certificates of their own need it.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )
    # GET, since cameras refuse HEAD or answer it differently; the connection is closed after the head.
    return opener.open(urllib.request.Request(plain, headers={"User-Agent": "edgeseg"}), timeout=_TIMEOUT_S)
