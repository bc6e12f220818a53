"""LaTeX: booktabs tables with notes, whose numbers stand by their decimal point; best ones are bold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctt.report.tables.arrangement import NUMBER, parts
from ctt.report.tables.grid import Grid, Page

PACKAGES = "\\usepackage{booktabs,siunitx,threeparttable}"
WIDTH = 397.0
"""What tables fit, in points: 5.5 in, the text width of most conferences. Wider ones go on below."""
_NUMBER, _LETTER, _SMALL, _GAP, _LEAST = 4.6, 5.4, 4.2, 6.6, 62.0
"""Widths in points: of a digit, a letter, a character of an interval, the gap between columns, the first column at least."""
_SIDES = r" −([\d.]+)\+([\d.]+)"
BEST = "Bold: the best of the sweep's points."


def draw_latex(page: Page) -> str:
    """A table for each grid, with a label; needs booktabs, siunitx and threeparttable."""
    out = [f"% needs {PACKAGES}"]
    labels: list[str] = []
    for number, grid in enumerate(page.grids):
        label = f"tab:{_slug(page.title)}-{_slug(re.split(r' [(:]|: ', grid.title)[0])}"
        labels.append(label)
        if (same := labels.count(label)) > 1:
            label = f"{label}-{same}"
        notes = [*([BEST] if grid.best else []), *(page.notes if number == 0 else ())]
        out.append(_table(f"{_tex(page.title)}: {_tex(grid.title)}", label, grid, notes))
    return "\n\n".join(out) + "\n"


def _table(caption: str, label: str, grid: Grid, notes: Sequence[str]) -> str:
    tabulars = [_tabular(part) for part in parts(grid, _LEAST, WIDTH, lambda column: _width(grid, column))]
    lines = [
        "\\begin{table}[htbp]\n\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        "\\sisetup{detect-weight=true,mode=text,retain-explicit-plus,group-minimum-digits=9}",
        f"\\caption{{{caption}}}\n\\label{{{label}}}",
    ]
    for number, tabular in enumerate(tabulars):
        items = "\n".join(f"\\item {_note(line)}" for line in notes) if number == len(tabulars) - 1 else ""
        below = f"\n\\begin{{tablenotes}}[flushleft]\\scriptsize\n{items}\n\\end{{tablenotes}}" if items else ""
        lines.append(f"\\begin{{threeparttable}}\n{tabular}{below}\n\\end{{threeparttable}}")
    return "\n".join([lines[0], *lines[1:3], "\n\\par\\medskip\n".join(lines[3:]), "\\end{table}"])


def _tabular(grid: Grid) -> str:
    columns = range(grid.text_columns, len(grid.header))
    left = WIDTH - sum(_width(grid, column) for column in columns)
    spec = _text_columns(grid, left) + "".join(_number_column([line[c] for line in grid.lines]) for c in columns)
    body, number = [], 0
    for k, block in enumerate(grid.blocks):
        body += ["\\midrule"] if k else []
        for line in block:
            body.append(_line(grid, line, {column for at, column in grid.best if at == number}))
            number += 1
    head = [_tex_broken(grid.header[0]), *map(_tex, grid.header[1 : grid.text_columns])]
    head += [f"{{{_stacked(name)}}}" for name in grid.header[grid.text_columns :]]
    rows = ["\\toprule", " & ".join(head) + " \\\\", "\\midrule", *body, "\\bottomrule"]
    return "\n".join([f"\\begin{{tabular}}{{{spec}}}", *rows, "\\end{tabular}"])


def _text_columns(grid: Grid, left: float) -> str:
    """The first column is as wide as its longest text, or as what the others leave; it breaks between words and at = and _."""
    others = "l" * (grid.text_columns - 1)
    left -= sum(_longest(grid, column) * _NUMBER + _GAP for column in range(1, grid.text_columns))
    wide = max(_LEAST, min(_longest(grid, 0) * _NUMBER, left) - _GAP)
    return f">{{\\raggedright\\arraybackslash\\hangindent=.6em}}p{{{wide:.0f}pt}}{others}"


def _longest(grid: Grid, column: int) -> int:
    return max(len(line[column]) for line in (grid.header, *grid.lines))


def _width(grid: Grid, column: int) -> float:
    """Points that a column of numbers needs, its head broken."""
    head = max(len(line) for line in _broken(grid.header[column])) * _LETTER
    split = [_split(line[column]) for line in grid.lines]
    words = max((len(rest) for number, rest in split if not number), default=0) * _NUMBER
    sign, whole, decimals = _digits([number for number, _ in split if number])
    after = max((_after_width(rest) for number, rest in split if number), default=0.0)
    return max(head, words, (2 * len(sign) + whole + decimals + 0.5) * _NUMBER + after) + _GAP


def _digits(numbers: Sequence[str]) -> tuple[str, int, int]:
    """The sign that a column of numbers needs, its digits before the decimal point, and those after it."""
    whole = max((len(number.lstrip("+−").partition(".")[0]) for number in numbers), default=0)
    decimals = max((len(number.partition(".")[2]) for number in numbers), default=0)
    return "+" if any(number[0] in "+−" for number in numbers) else "", whole, decimals


def _after_width(rest: str) -> float:
    """Points that what stands after a number needs, about."""
    sides = re.match(_SIDES, rest)
    return (max(map(len, sides.groups())) + 2 + len(rest) - sides.end() if sides else len(rest)) * _SMALL


def _split(text: str) -> tuple[str, str]:
    """The number that a cell begins with, and the rest; no number: "" and all of it."""
    match = NUMBER.match(text)
    return (match[0], text[match.end() :]) if match else ("", text)


def _number_column(texts: Sequence[str]) -> str:
    """A siunitx column with space for the digits of its numbers, their signs, and the intervals and marks after them."""
    split = [_split(text) for text in texts]
    numbers = [number for number, _ in split if number]
    if not numbers:
        return "c"
    sign, whole, decimals = _digits(numbers)
    after = max((rest for number, rest in split if number), key=_after_width)
    space = f",table-space-text-post={{{_after(after)}}},table-align-text-after=false" if after else ""
    return f"S[table-format={sign}{whole}.{decimals}{space}]"


def _line(grid: Grid, line: Sequence[str], best: set[int]) -> str:
    cells = [_tex_broken(line[0]), *map(_tex, line[1 : grid.text_columns])]
    for column, text in list(enumerate(line))[grid.text_columns :]:
        number, rest = _split(text)
        if not number:
            cells.append(f"{{{_tex(text)}}}" if text else "")
        else:
            bold = "\\bfseries " if column in best else ""
            cells.append(f"{bold}{number.replace('−', '-')}{f'{{{_after(rest)}}}' if rest else ''}")
    return " & ".join(cells) + " \\\\"


def _after(rest: str) -> str:
    """What stands after a number: "±1.2" small, "−9+12" below and above, marks raised, other text as it is."""
    mark = rest[len(rest.rstrip("*°")) :]
    rest = rest.removesuffix(mark)
    raised = "".join(_TEX[character] for character in mark)
    if sides := re.fullmatch(_SIDES, rest):
        return f"$^{{+{sides[2]}}}_{{-{sides[1]}}}${raised}"
    if rest.startswith(" ±"):
        return f"{{\\scriptsize\\,{_tex(rest.strip())}}}{raised}"
    return f"{_tex(rest)}{raised}"


_BROKEN = {
    "descriptive": "descrip-\ntive",
    "explanatory": "explana-\ntory",
    "predictive": "predic-\ntive",
    "counterfactual": "counter-\nfactual",
}
_HEAD = 14  # characters after which the words of a head go on in another line


def _broken(head: str) -> list[str]:
    """The lines of a column's head."""
    lines = [""]
    for word in _BROKEN.get(head, head).replace("\n", " ").split(" "):
        if lines[-1] and (len(lines[-1]) + len(word) >= _HEAD or lines[-1].endswith("-")):
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _stacked(head: str) -> str:
    lines = [_tex(line) for line in _broken(head)]
    return lines[0] if len(lines) == 1 else "\\shortstack{" + " \\\\ ".join(lines) + "}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


_TEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "±": "$\\pm$", "−": "$-$",
    "–": "--", "≥": "$\\geq$", "×": "$\\times$", "*": "$^{*}$", "°": "$^{\\circ}$", "…": "\\ldots{}", "→": "$\\to$",
}  # fmt: skip


def _note(line: str) -> str:
    """A note, in which `commands` are set in typewriter."""
    return re.sub(r"`([^`]+)`", r"\\texttt{\1}", _tex(line))


def _tex_broken(text: str) -> str:
    """A text of the first columns, which may break at = and _."""
    return _tex(text).replace("\\_", "\\_\\allowbreak{}").replace("=", "=\\allowbreak{}")


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
