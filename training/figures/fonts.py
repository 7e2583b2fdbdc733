"""Fonts for names in any script: what the usual font lacks is looked for in the others that are installed.

Matplotlib draws an empty box for a letter that no font has. Here such a name is drawn as its number, and one
line says which name it is and what to install.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from runtime.base.shown import printable

_log = logging.getLogger(__name__)
# "Last Resort" has a box for every letter, the others are of symbols and mathematics.
_NO_LETTERS = ("last resort", ".lastresort", "stix", "cm", "dejavu sans display", "dejavu serif display")
_ADVICE = "install a font that has them, such as fonts-noto-core and fonts-noto-cjk"


@dataclass(frozen=True)
class Lettering:
    """What some texts can be drawn with.

    Attributes:
        families: fonts in which a letter is looked for, in this order.
        missing: letters that none of them has.
    """

    families: tuple[str, ...]
    missing: frozenset[str]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Draw with these fonts within the block."""
        import matplotlib  # slow to import, and only needed here

        with matplotlib.rc_context({"font.family": list(self.families)}):
            yield

    def text(self, text: str) -> str:
        """Return a text to draw, its missing letters as escapes."""
        return "".join(_escaped(letter) if letter in self.missing else letter for letter in printable(text))

    def names(self, names: Sequence[str]) -> list[str]:
        """Return class names to draw; one with a missing letter becomes its number, which is logged."""
        drawn, numbered = [], []
        for number, name in enumerate(names):
            if self.missing.isdisjoint(printable(name)):
                drawn.append(printable(name))
            else:
                drawn.append(f"class {number}")
                numbered.append(f"class {number} is {printable(name)}")
        if numbered:
            _log.warning("figures: no installed font has all letters: %s; %s", ", ".join(numbered), _ADVICE)
        return drawn


def lettering(*texts: str) -> Lettering:
    """Return the installed fonts that together have the most letters of the texts, the usual one first."""
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    usual = tuple(matplotlib.rcParams["font.family"])
    wanted = {letter for text in texts for letter in printable(text) if not _is_invisible(letter)}
    unshaped = set() if _shapes() else {letter for letter in wanted if _needs_shaping(letter)}
    missing = wanted - _letters(findfont(FontProperties())) - unshaped
    families = list(usual)
    if missing:
        others = {
            font.fname: font.name
            for font in sorted(
                fontManager.ttflist, key=lambda font: (font.style != "normal", str(font.weight))
            )
            if not font.name.lower().startswith(_NO_LETTERS) and "color" not in font.name.lower()
        }
        while missing and others:
            best = max(others, key=lambda file: len(missing & _letters(file)))
            found = missing & _letters(best)
            if not found:
                break
            families.append(others.pop(best))
            missing -= found
    return Lettering(tuple(families), frozenset(missing | unshaped))


@lru_cache(maxsize=512)
def _letters(file: str) -> frozenset[str]:
    """Return the letters that a font file has; none of one that cannot be opened."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def _is_invisible(letter: str) -> bool:
    return letter.isspace() or unicodedata.category(letter) == "Cf"  # such as a joiner


def _shapes() -> bool:
    """Return whether this matplotlib joins letters and writes from right to left."""
    import matplotlib

    major, minor = matplotlib.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (3, 11)


def _needs_shaping(letter: str) -> bool:
    """Return whether a letter would be wrong where letters are set one by one from the left."""
    return unicodedata.bidirectional(letter) in ("R", "AL") or "\u0900" <= letter <= "\u0dff"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
