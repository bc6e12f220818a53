"""LaTeX: booktabs tables."""

from __future__ import annotations

import re

from ctt.report.tables.layout import Page


def draw_latex(page: Page) -> str:
    """A booktabs table for each grid; needs \\usepackage{booktabs,graphicx} and compiles with any LaTeX."""
    parts = ["% needs \\usepackage{booktabs,graphicx}"]
    for grid in page.grids:
        columns = "l" * grid.text_columns + "r" * (len(grid.header) - grid.text_columns)
        body = [_tex_line(grid.header), "\\midrule"]
        for i, block in enumerate(grid.blocks):
            body += ["\\midrule"] if i else []
            body += [_tex_line(line) for line in block]
        parts.append(
            "\n".join(
                [
                    "\\begin{table}[htbp]\n\\centering",
                    f"\\caption{{{_tex(page.title)}: {_tex(grid.title)}}}",
                    f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n\\begin{{tabular}}{{{columns}}}",
                    "\\toprule",
                    *body,
                    "\\bottomrule\n\\end{tabular}}\n\\end{table}",
                ]
            )
        )
    if page.notes:
        items = "\n".join(f"\\item {_note(line)}" for line in page.notes)
        parts.append(f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}")
    return "\n\n".join(parts) + "\n"


def _tex_line(texts: tuple[str, ...]) -> str:
    return " & ".join(_tex(text) for text in texts) + " \\\\"


_TEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "±": "$\\pm$", "−": "$-$",
    "–": "--", "≥": "$\\geq$", "×": "$\\times$", "*": "$^{*}$", "°": "$^{\\circ}$", "…": "\\ldots{}", "→": "$\\to$",
}  # fmt: skip


def _note(line: str) -> str:
    """A note, in which `commands` are set in typewriter."""
    return re.sub(r"`([^`]+)`", r"\\texttt{\1}", _tex(line))


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
