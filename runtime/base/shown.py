"""The one place that makes what came from outside fit to be seen: in messages, logs, files and on pages.

Addresses hold passwords, and names hold bytes that steer a terminal. `without_secrets` hides the first,
`printable` the second, and `shown` is both: what any text of a stranger (a path, a class name, a library's
error, an address) passes before a person or a log gets it.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN = "***"
LONGEST = 500

_SECRET_NAMES = (
    r"(?:[\w.-]*(?:pass(?:w(?:or)?d|phrase)?|pwd|passwd|secret|token|auth(?:orization)?|api[_-]?key|credential"
    r"|signature|session(?:id)?)|key|sig|pw|user-?pw|user(?:-?(?:id|name))?|usr|login|loginuse|loginpas"
    r"|account|sign|[\w-]*[_-](?:key|sig|pw))"
)
# What a scheme may look like when it was typed in haste: rtsp://, rtsp:/, rtsp:, //, rtsp//.
_SCHEME = r"(?:[a-z][a-z0-9+.-]*:/{0,3}|[a-z][a-z0-9+.-]*//|//)"
# Everything from the scheme to the last @ of the word: passwords hold @, / and : as well.
_CREDENTIALS = re.compile(rf"(?<![\w/.])({_SCHEME})[^\s\"'<>|]*@", re.IGNORECASE)
_BARE_CREDENTIALS = re.compile(r"(?<![\w/.\\-])(?!\S*\*\*\*@)[^\s:/@\"'<>|\\=]+:[^\s\"'<>|]*@(?=[\w\[.-]+)")
_ENCODED = re.compile(r"(%3a(?:%2f){1,2})\S*?%40", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>|]*", re.IGNORECASE)
_QUERY = re.compile(r"([?#]).*", re.DOTALL)
_NAMED_IN_PATH = re.compile(rf"({_SECRET_NAMES}=)[^&/;,\s]*?(?=$|[&/;,\s]|_\w+=)", re.IGNORECASE)
# A stream key in a path: long, and of letters and digits mixed.
_KEY_IN_PATH = re.compile(r"(?<=/)(?=[\w-]*\d)(?=[\w-]*[a-z])[\w-]{20,}(?=$|[/?#.;:,)])", re.IGNORECASE)
_NAMED = re.compile(
    rf"((?<![\w-])[\"']?{_SECRET_NAMES}[\"']?\s*(?:=|:)\s*)(\"[^\"]*\"?|'[^']*'?|[^\s&;,!}}\]]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\b(Basic|Bearer|Digest)\s+[\w+/=.~-]{6,}", re.IGNORECASE)
_FLAG = re.compile(rf"((?<!\S)--?{_SECRET_NAMES}\s+)(\"[^\"]*\"?|'[^']*'?|\S+)", re.IGNORECASE)


def shown(text: object, longest: int = LONGEST) -> str:
    r"""Return a stranger's text fit for a message: no secrets, nothing that steers a terminal, not too long.

    >>> shown("cannot open rtsp://admin:pw@cam/live: \x1b[31mno")
    'cannot open rtsp://***@cam/live: \\x1b[31mno'
    """
    said = printable(without_secrets(str(text)))
    return said if len(said) <= longest else f"{said[: longest - 1]}…"


def printable(text: str) -> str:
    r"""Return a text whose control characters, direction marks and lone surrogates are escaped.

    Line ends and tabs become blanks, since a message is one line.

    >>> printable("a\u202eb\x07c\nd")
    'a\\u202eb\\x07c d'
    >>> printable("路面 ✓")
    '路面 ✓'
    """
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character in "\n\r\t":
        return " "
    # Cc control, Cf format (bidi marks, zero width), Cs surrogates, Co private, Zl and Zp line ends of
    # Unicode.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character


def without_secrets(text: str) -> str:
    """Return a text whose addresses and settings show no user, password, query, token or key.

    Takes an address alone or any text that holds some; names of files stay as they are.

    >>> without_secrets("rtsp://admin:s3cret@10.0.0.7/live?token=abc")
    'rtsp://***@10.0.0.7/live?***'
    >>> without_secrets("rtsp://10.0.0.7/user=admin_password=1234_channel=1.sdp")
    'rtsp://10.0.0.7/user=***_password=***_channel=1.sdp'
    >>> without_secrets("rtspsrc location=rtsp://cam user-pw=1234 ! decodebin")
    'rtspsrc location=rtsp://cam user-pw=*** ! decodebin'
    >>> without_secrets("clips/drive.mp4")
    'clips/drive.mp4'
    """
    text = _CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
    text = _ENCODED.sub(rf"\1{HIDDEN}%40", text)
    text = _BARE_CREDENTIALS.sub(f"{HIDDEN}@", text)
    text = _ADDRESS.sub(_address, text)
    text = _HEADER.sub(rf"\1 {HIDDEN}", text)
    text = _FLAG.sub(rf"\1{HIDDEN}", text)
    return _NAMED.sub(_named, text)


def _address(found: re.Match[str]) -> str:
    """Hide what an address with a scheme holds behind ? and # and in its path."""
    address = _QUERY.sub(rf"\1{HIDDEN}", found[0])
    if not address.lower().startswith("file:"):
        address = _KEY_IN_PATH.sub(HIDDEN, address)
    return _NAMED_IN_PATH.sub(rf"\1{HIDDEN}", address)


def _named(found: re.Match[str]) -> str:
    """Hide a named value, unless it is hidden already or a folder's name, such as frames/user=1/0.png."""
    before = found.string[: found.start()]
    if HIDDEN in found[2] or (before.endswith(("/", "\\")) and "://" not in before.split()[-1]):
        return found[0]
    quote = found[2][0] if found[2][0] in "\"'" else ""
    return f"{found[1]}{quote}{HIDDEN}{quote}"
