"""Help: aligned columns, no line wider than a terminal of 120 columns, every verb with its description."""

from __future__ import annotations

import pytest

from ctt.cli import VERBS, main


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help(verb: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"] if verb else ["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and max(map(len, text.splitlines())) <= 120
    if verb:
        assert (VERBS[verb].__doc__ or "").splitlines()[0] in text
    else:
        lines = [line for line in text.splitlines() if line.startswith("  ") and line.split()[0] in VERBS]
        starts = {line.index((VERBS[line.split()[0]].__doc__ or "")[:12]) for line in lines}
        assert len(lines) == len(VERBS) and len(starts) == 1
