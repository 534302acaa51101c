"""Estimated widths of text in the fonts of the SVG, in px: from above, so that text fits."""

import unicodedata

# in em; checked against DejaVu Sans, the widest of the usual ones, and Noto Sans and Arial
_THIN, _NARROW, _NORMAL, _CAPITAL, _WIDE, _FULL = 0.34, 0.43, 0.65, 0.79, 1.0, 1.05
_BY_WIDTH = {_THIN: "ijl .,:;'|!", _NARROW: 'tfrI()[]-/·"', _WIDE: "mwMW%@&#+=<>~→←▸—…"}
_WIDTHS = {character: width for width, text in _BY_WIDTH.items() for character in text}
BOLD = 1.15


def text_width(text: str, size: float, bold: bool = False) -> float:
    """The width of a text at a font size in px."""
    ems = 0.0
    for character in text:
        if unicodedata.east_asian_width(character) in "WF":
            ems += _FULL
        elif character.isupper():
            ems += _WIDTHS.get(character, _CAPITAL)
        else:
            ems += _WIDTHS.get(character, _NORMAL)
    return ems * size * (BOLD if bold else 1.0)


def shorten(text: str, width: float, size: float, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than that."""
    if text_width(text, size, bold) <= width:
        return text
    while text and text_width(text + "…", size, bold) > width:
        text = text[:-1]
    return text.rstrip() + "…"
