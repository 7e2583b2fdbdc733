"""The one place that makes what came from outside fit to be seen: in messages, logs, files and on pages.

Addresses hold passwords, and names hold bytes that steer a terminal. `without_secrets` hides the first,
`printable` the second, and `shown` is both: what any text of a stranger (a path, a class name, a library's
error, an address) passes before a person or a log gets it. Commands do so for all they say: `exit_code` for
errors and logs, the parser for wrong usage, `ShownStream` for what is printed, `to_plain` for JSON.
"""

from __future__ import annotations

import io
import re
import unicodedata

HIDDEN = "***"
LONGEST = 500

_STEERING = ("Cc", "Cs", "Zl", "Zp")  # control, surrogates, line ends of Unicode
_ESCAPED = (*_STEERING, "Cf", "Co", "Cn")  # and format (bidi marks, zero width), private, unassigned
_JOINERS = "\u200c\u200d"  # Persian, Hindi and emoji are spelt with them
_BIDI_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_LAYOUT = {ord(each): None for each in "\n\r\t"}
_CURSOR_STEP = re.compile(r"\x1b\[[0-9]{0,2}[AK]")  # up, and clear the line: what tqdm sends

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
# Where a path is a file's name, however long: nobody streams to these.
_STORE = re.compile(
    r"(?:file|s3a?|gc?s|az|abfss?|adl|oss|hdfs|webhdfs|memory|zip|tar|sftp|ssh|smb):", re.IGNORECASE
)
_NAMED = re.compile(
    rf"((?<![\w-])[\"']?{_SECRET_NAMES}[\"']?\s*(?:=|:)\s*)(?!expected\b)(\"[^\"]*\"?|'[^']*'?|[^\s&;,!}}\]]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\b(Basic|Bearer|Digest)\s+[\w+/=.~-]{6,}", re.IGNORECASE)
_FLAG = re.compile(rf"((?<!\S)--?{_SECRET_NAMES}\s+)(\"[^\"]*\"?|'[^']*'?|\S+)", re.IGNORECASE)


def shown(text: object, longest: int = LONGEST) -> str:
    r"""Return a stranger's text fit for a message: no secrets, nothing that steers a terminal, not too long.

    >>> shown("cannot open rtsp://admin:pw@cam/live: \x1b[31mno")
    'cannot open rtsp://***@cam/live: \\x1b[31mno'
    """
    said = str(text)
    if len(said) > 4 * longest:  # what looks for secrets takes minutes for 100,000 letters
        *words, last = re.split(r"(\s)", said[: 4 * longest])
        # An address whose @ was cut off would show its password.
        said = "".join((*words, "…" if re.search("//|:|%3a", last, re.IGNORECASE) else last))
    said = printable(without_secrets(said))
    return said if len(said) <= longest else f"{said[: longest - 1]}…"


def printable(text: str) -> str:
    r"""Return a text whose control characters, direction marks and lone surrogates are escaped.

    Line ends and tabs become blanks, since a message is one line.

    >>> printable("a\u202eb\x07c\nd")
    'a\\u202eb\\x07c d'
    >>> printable("路面 ✓")
    '路面 ✓'
    """
    return text if _is_plain(text) else "".join(map(_printable, text))


def printable_lines(text: str) -> str:
    r"""Return a text as `printable` does, but with its lines and tabs.

    >>> printable_lines("a\u202eb\n\tc\x1b[2J")
    'a\\u202eb\n\tc\\x1b[2J'
    """
    if _is_plain(text.replace("\n", "").replace("\t", "")):
        return text
    return "".join(each if each in "\n\t" else _printable(each) for each in text)


def well_formed(text: str) -> str:
    r"""Return a text whose lone surrogates are escaped, so that it can be encoded; they stand for odd bytes.

    >>> well_formed("caf\udce9 ✓")
    'caf\\udce9 ✓'
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def steers(text: str) -> bool:
    r"""Whether a text holds what moves a cursor, turns the reading direction or cannot be encoded.

    >>> [steers(text) for text in ("road", "راه\u200cآهن", "a\nb", "evil\u202egnp", "\udcff")]
    [False, False, True, True, True]
    """
    return any(unicodedata.category(each) in _STEERING or each in _BIDI_MARKS for each in text)


class ShownStream(io.TextIOWrapper):
    """A text stream whose control characters, direction marks and lone surrogates are escaped.

    Only ends of lines, tabs, and the carriage return and the cursor steps of a progress bar pass.
    """

    def write(self, text: str, /) -> int:
        """Write a text; return its length."""
        if not _is_plain(text.translate(_LAYOUT)):
            parts = _CURSOR_STEP.split(text)
            steps = _CURSOR_STEP.findall(text)
            clean = [
                "".join(each if each in "\n\t\r" else _printable(each) for each in part) for part in parts
            ]
            super().write("".join(a + b for a, b in zip(clean, [*steps, ""], strict=True)))
        else:
            super().write(text)
        return len(text)


def _is_plain(text: str) -> bool:
    """Whether there is nothing to escape; what Python calls printable has no category of `_ESCAPED`."""
    return text.isprintable()


def _printable(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if unicodedata.category(character) in _ESCAPED and character not in _JOINERS:
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
    if not _STORE.match(address):
        address = _KEY_IN_PATH.sub(HIDDEN, address)
    return _NAMED_IN_PATH.sub(rf"\1{HIDDEN}", address)


def _named(found: re.Match[str]) -> str:
    """Hide a named value, unless it is hidden already or a folder's name, such as frames/user=1/0.png."""
    before = found.string[: found.start()]
    if HIDDEN in found[2] or (before.endswith(("/", "\\")) and "://" not in before.split()[-1]):
        return found[0]
    quote = found[2][0] if found[2][0] in "\"'" else ""
    return f"{found[1]}{quote}{HIDDEN}{quote}"
