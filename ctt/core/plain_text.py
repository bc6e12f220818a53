"""Text from outside, such as a server's or a file's, as one line that a terminal shows as it is."""

from __future__ import annotations


def plain(text: str, most: int | None = None) -> str:
    """The text without control characters: white space becomes single blanks, other characters that cannot be printed their
    escape sequences. Shortened to `most` characters."""
    line = " ".join(text.split())
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"
