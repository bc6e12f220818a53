"""Text as one line of a terminal: of what comes from outside, such as a server or a file, and of long names."""

from __future__ import annotations


def plain(text: str, most: int | None = None) -> str:
    """The text without control characters: white space becomes single blanks, other characters that cannot be printed their
    escape sequences. Shortened to `most` characters."""
    line = " ".join(text.split())
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def shortened(name: str, width: int) -> str:
    """A run's or job's name in `width` characters: first the keys of its settings lose their middles, as evenly as it takes, then
    the whole does; values stay as long as they can."""
    longest = max(map(len, name.split()), default=0)
    for most in range(longest, LEAST_KEY - 1, -1):
        text = " ".join(_short_key(word, most) for word in name.split(" "))
        if len(text) <= width:
            return text
    text = name if longest < LEAST_KEY else text
    head = (width - 1) // 3
    return text if len(text) <= width else f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}" if width > 1 else "…"


def _short_key(word: str, most: int) -> str:
    key, sign, value = word.rpartition("=")
    return word if len(key) <= most else f"{key[: most - 2]}…{key[-1:]}{sign}{value}"


LEAST_KEY = 7
"""The fewest characters that a key is shortened to: `ctt_i…t` and `ctt_s…t` differ."""
