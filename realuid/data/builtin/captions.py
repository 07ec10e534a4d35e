"""Captions of the ten digits in three languages, some of them kept for judging."""

from __future__ import annotations

__all__ = ["DIGITS", "held_out", "training"]

DIGITS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "de": ("Null", "Eins", "Zwei", "Drei", "Vier", "Fünf", "Sechs", "Sieben", "Acht", "Neun"),
}
"""The words for 0 to 9, by language."""

TRAINING = {
    "en": ("{}", "a {}", "the digit {}", "the number {}", "a handwritten digit {}", "{}, written by hand"),
    "fr": ("{}", "le chiffre {}", "le nombre {}", "un chiffre {} manuscrit", "{} écrit à la main"),
    "de": ("{}", "die Ziffer {}", "die Zahl {}", "eine geschriebene {}", "{}, von Hand geschrieben"),
}
"""Wordings that images are captioned with."""

HELD_OUT = {
    "en": ("a handwritten {}", "please draw the number {}", "a small grey picture of {}"),
    "fr": ("dessine le chiffre {}", "une petite image de {}"),
    "de": ("eine handgeschriebene {}", "ein kleines Bild der Zahl {}"),
}
"""Wordings that no image is captioned with."""


def training(digit: int) -> list[str]:
    """All captions that an image of `digit` may have."""
    return _worded(TRAINING, digit)


def held_out(digit: int) -> list[str]:
    """Prompts for `digit` that no caption is equal to."""
    return _worded(HELD_OUT, digit)


def _worded(wordings: dict[str, tuple[str, ...]], digit: int) -> list[str]:
    return [wording.format(DIGITS[language][digit]) for language, forms in wordings.items() for wording in forms]
