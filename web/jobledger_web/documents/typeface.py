"""Sarabun, and what each of its Thai glyphs says to a search, a copy or a screen reader.

Text shaping draws sara am (U+0E33) as two glyphs, nikhahit and the same sara aa
that U+0E32 uses. A PDF holds one text a glyph, so in a document that has both,
one of the two vowels reads as the other: ``บำท`` for ``บาท``. Here the font gets a
second, equal sara aa that stands only behind a nikhahit, and every Thai glyph its
text. The page looks the same; its text is exact.
"""

import re
from copy import deepcopy
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from types import MappingProxyType
from typing import Final, Literal

from fontTools.otlLib.builder import (
    ChainContextSubstBuilder,
    ChainContextualRule,
    SingleSubstBuilder,
)
from fontTools.ttLib import TTFont

Weight = Literal["Regular", "SemiBold"]

SARA_AA: Final = "uni0E32"
SARA_AM_TAIL: Final = "uni0E32.am"
"""The glyph that is added: sara aa as the second half of sara am."""
SARA_AM: Final = "\u0e33"
NIKHAHIT: Final = "\u0e4d"

_THAI: Final = range(0x0E00, 0x0E80)
_THAI_GLYPH: Final = re.compile(r"uni((?:0E[0-9A-F]{2})+)(?:\.\w+)?")
_NAMED: Final = MappingProxyType(
    {
        "yoYingthai": "ญ",
        "doChadathai": "ฎ",
        "toPatakthai": "ฏ",
        "thoThanthai": "ฐ",
        "loChulathai": "ฬ",
    }
)
"""Letters whose forms without a foot are not named by their code."""
_TONES: Final = ("0E48", "0E49", "0E4A", "0E4B")


@lru_cache(maxsize=2)
def font_bytes(weight: Weight) -> bytes:
    """One weight of the typeface as a TrueType file, the same bytes each time."""
    source = files("jobledger_web.documents").joinpath(f"fonts/Sarabun-{weight}.ttf")
    # The time in the file stays its makers': the bytes must not depend on the day.
    font = TTFont(BytesIO(source.read_bytes()), recalcTimestamp=False)
    _add_tail(font)
    _substitute_tail(font)
    out = BytesIO()
    font.save(out)
    return out.getvalue()


@lru_cache(maxsize=1)
def thai_texts() -> dict[int, str]:
    """The text of each Thai glyph by its number, which is the same in all weights.

    A nikhahit says nothing: it is the first half of sara am, whose text its
    second half carries, after the tone mark that the reader types before it.
    """
    font = TTFont(BytesIO(font_bytes("Regular")))
    cmap = {name: chr(code) for code, name in font.getBestCmap().items() if code in _THAI}
    texts = {}
    for number, name in enumerate(font.getGlyphOrder()):
        match = _THAI_GLYPH.fullmatch(name)
        base = name.split(".")[0]
        text = cmap.get(base) or _NAMED.get(base, "")
        if match is not None:
            text = bytes.fromhex(match[1]).decode("utf-16-be")
        if text:
            texts[number] = text.replace(NIKHAHIT, "")
    texts[font.getGlyphID(SARA_AM_TAIL)] = SARA_AM
    return texts


def _add_tail(font: TTFont) -> None:
    """A copy of sara aa under a name of its own, without a code."""
    font.getGlyphOrder()
    font["glyf"][SARA_AM_TAIL] = deepcopy(font["glyf"][SARA_AA])
    font["hmtx"][SARA_AM_TAIL] = font["hmtx"][SARA_AA]
    classes = font["GDEF"].table.GlyphClassDef.classDefs
    if SARA_AA in classes:
        classes[SARA_AM_TAIL] = classes[SARA_AA]


def _substitute_tail(font: TTFont) -> None:
    """After a nikhahit, with or without a tone mark, sara aa becomes its copy."""
    table = font["GSUB"].table
    lookups = table.LookupList.Lookup
    names = font.getGlyphOrder()
    nikhahits = {name for name in names if name.startswith("uni0E4D")}
    tones = {name for name in names if name[3:7] in _TONES and name.startswith("uni")}

    swap = SingleSubstBuilder(font, None)
    swap.mapping = {SARA_AA: SARA_AM_TAIL}
    swap.lookup_index = len(lookups)
    context = ChainContextSubstBuilder(font, None)
    context.rules = [
        ChainContextualRule([nikhahits, *behind], [{SARA_AA}], [], [[swap]])
        for behind in ((), (tones,))
    ]
    context.lookup_index = swap.lookup_index + 1
    lookups += [swap.build(), context.build()]
    table.LookupList.LookupCount = len(lookups)
    for record in table.FeatureList.FeatureRecord:
        # The feature that composes Thai: always on.
        if record.FeatureTag == "ccmp":
            record.Feature.LookupListIndex.append(context.lookup_index)
            record.Feature.LookupCount = len(record.Feature.LookupListIndex)
