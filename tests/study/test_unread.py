"""What the fitted position reader lists as unreadable stands in a study's results, once for all points that share it."""

import json
from pathlib import Path

from ctt.study.loading import results
from tests.made_store import made_store

LISTED = [{"scene": 10_003, "question_id": 4, "category": "counterfactual", "reason": "unique at position 3: there are 2, not one"}]


def test_questions_that_cannot_be_read_are_in_the_results(tmp_path: Path) -> None:
    store, plan = made_store(tmp_path / "store", "demo", "seed=0,1")
    assert results(plan, store).unread == {}
    (probe,) = (stage for stage in plan.stages.values() if stage.kind == "probe")
    with store.lease(probe.key) as lease:
        folder = store.work_folder(probe.key)
        (folder / "metrics.json").write_text(json.dumps({"levels": {}, "reach": [], "unread": LISTED}))
        store.publish(probe.key, folder, lease, {**probe.describe(), "facts": {}, "provenance": {}})
    assert results(plan, store).unread == {"reader": LISTED}
