"""Durations, sizes and numbers of things as text."""


def duration(seconds: float) -> str:
    """ "38 s", "4 min 12 s" or "3 h 23 min", rounded to its last unit; a part that is 0 is left out."""
    rounded = int(seconds + 0.5)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return _two(rounded, 60, "min", "s")
    return _two((rounded + 30) // 60, 60, "h", "min")


def size(number: float) -> str:
    """1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def count(number: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _two(number: int, per: int, large: str, small: str) -> str:
    whole, rest = divmod(number, per)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"
