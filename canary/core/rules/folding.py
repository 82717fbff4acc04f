"""Text as a reader sees it: folds, cases, accents, invisible characters and lookalike letters taken away.

Whoever strips a signature from a commit leaves nothing to find; whoever disguises it (a Cyrillic letter, a zero-width
space, a broken line) leaves text that looks the same and compares as different. `folded` and `squeezed` give both the
same spelling, and `disguised` says that somebody tried. Linear in the text, without patterns that backtrack.
"""

import re
import unicodedata

# fmt: off
_LOOKS_LIKE = {
    "a": "аαɑ", "b": "вьβ", "c": "сᴄς", "d": "ԁɗ", "e": "еεҽ", "f": "ғ", "g": "ɡց", "h": "һհ", "i": "іιıɩ", "j": "јϳ",
    "k": "кκ", "l": "ӏ", "m": "мᴍ", "n": "пηոռ", "o": "оοσօᴏ", "p": "рρ", "q": "ԛզ", "r": "гᴦ", "s": "ѕꜱ", "t": "тτ",
    "u": "υսᴜ", "v": "ѵνᴠ", "w": "ԝωᴡ", "x": "хχ", "y": "уγү", "z": "ᴢ", "A": "АΑ", "B": "ВΒ", "C": "С", "E": "ЕΕ",
    "G": "Ԍ", "H": "НΗ", "I": "ІΙӀ", "J": "ЈͿ", "K": "КΚ", "L": "Լ", "M": "МΜ", "N": "Ν", "O": "ОΟՕ", "P": "РΡ",
    "Q": "Ԛ", "S": "ЅՏ", "T": "ТΤ", "U": "Ս", "V": "Ѵ", "W": "Ԝ", "X": "ХΧ", "Y": "УΥҮ", "Z": "Ζ",
}
# fmt: on
_LATIN = {ord(odd): latin for latin, odds in _LOOKS_LIKE.items() for odd in odds}
_UNSEEN = frozenset({"Cf", "Mn", "Me"})  # format characters, marks on letters
_SPACES = re.compile(r"[^\S\n]+")
_SAID = re.compile(r"[^0-9a-z@+:/]+")


def folded(text: str) -> str:
    """Return the lines of a text in one spelling: Latin lower case, one space between words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        unseen = {ord(each): None for each in set(text) if unicodedata.category(each) in _UNSEEN}
        text = text.translate(unseen).translate(_LATIN)
    return _SPACES.sub(" ", text.casefold().replace("\r\n", "\n").replace("\r", "\n"))


def joined(text: str) -> str:
    """Return a folded text with each line that begins with a space at the end of the one before."""
    return text.replace("\n ", " ")


def squeezed(text: str) -> str:
    """Return what is left of a folded text without spaces and punctuation; `@`, `+`, `:` and `/` stay."""
    return _SAID.sub("", text)


def disguised(text: str) -> bool:
    """Tell whether a Latin word holds a letter of another script that looks Latin, or an invisible character."""
    if text.isascii():
        return False
    odd = "".join(each for each in set(text) if ord(each) in _LATIN or unicodedata.category(each) == "Cf")
    return bool(odd) and re.search(f"[A-Za-z][{re.escape(odd)}]|[{re.escape(odd)}][A-Za-z]", text) is not None
