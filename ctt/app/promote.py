"""`ctt promote`: retrains ALOE for the best points of a screened sweep, and compares the two rankings."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from ctt.core.errors import UsageError
from ctt.core.units import count
from ctt.store import Store
from ctt.study.promotion import best, compare, screened, write_sweep


def promote_points(store: Store, name: str, top: int, metric: str, run: Callable[[str], int], console: Console) -> int:
    """Promotes the `top` points by `metric`; `run` runs a sweep file and returns its exit code. Raises UsageError."""
    if top < 1:
        raise UsageError(f"--top must be at least 1, got {top}")
    recorded, table = screened(store, name)
    if metric not in table.categories.metrics:
        raise UsageError(f"--metric must be one of {', '.join(table.categories.metrics)}; got {metric}")
    labels = best(recorded, table, top, metric)
    what = f"{count(len(labels), 'point')} by screened {metric}: {', '.join(labels)}"
    console.print(f"promoting {what}", soft_wrap=True, highlight=False)
    code = run(write_sweep(store, recorded, labels))
    try:
        compare(store, name, metric, console)
    except UsageError as error:
        console.print(f"nothing to compare yet: {error}", soft_wrap=True, highlight=False)
    return code
