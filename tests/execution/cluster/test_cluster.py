"""The private cluster behaves as the launcher's tests expect, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.waiting import until

pytestmark = pytest.mark.slurm


def submit(cluster: Any, folder: Path, script: str, *options: str) -> str:
    """Submits a script; its job id. Output goes to FOLDER/JOB.out."""
    return cluster.run("sbatch", "--parsable", "-o", f"{folder}/%A_%a.out", *options, "--wrap", script)


def state(cluster: Any, job: str) -> str:
    """The state of a job from the accounting, which also has jobs the controller has dropped."""
    return cluster.run("sacct", "-n", "-X", "-P", "-j", job, "-o", "state").partition("\n")[0]


def wait_for(cluster: Any, job: str, wanted: str = "COMPLETED") -> None:
    ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE")  # after other states a job may be requeued
    until(lambda: state(cluster, job).startswith(ends), every=0.1)
    assert state(cluster, job).startswith(wanted)


def test_a_job_runs_with_the_devices_it_asked_for(cluster: Any, tmp_path: Path) -> None:
    assert os.environ["SLURM_CONF"] == str(cluster.conf)
    job = submit(cluster, tmp_path, "echo $CUDA_VISIBLE_DEVICES $SLURM_CPUS_PER_TASK", "--gres=gpu:2", "-c3")
    wait_for(cluster, job)
    [output] = tmp_path.glob("*.out")
    assert output.read_text().split() == ["0,1", "3"]


def test_an_array_and_the_job_after_it(cluster: Any, tmp_path: Path) -> None:
    array = submit(cluster, tmp_path, f"touch {tmp_path}/done.$SLURM_ARRAY_TASK_ID", "--array=0-3%2")
    after = submit(cluster, tmp_path, f"ls {tmp_path} | grep -c done", f"--dependency=afterok:{array}")
    wait_for(cluster, after)
    assert (tmp_path / f"{after}_4294967294.out").read_text().strip() == "4"


def test_what_waits_for_a_failed_job_is_cancelled(cluster: Any, tmp_path: Path) -> None:
    failing = submit(cluster, tmp_path, "exit 3")
    after = submit(cluster, tmp_path, f"touch {tmp_path}/never", f"--dependency=afterok:{failing}")
    wait_for(cluster, failing, "FAILED")
    wait_for(cluster, after, "CANCELLED")
    assert not (tmp_path / "never").exists()


def test_a_crashed_nodes_job_is_killed_and_runs_again(cluster: Any, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    script = f"""
        date >> {tmp_path}/starts
        [ $(wc -l < {tmp_path}/starts) = 2 ] && exit 0
        while :; do date +%s%N > {beat}; sleep 0.1; done
    """
    job = submit(cluster, tmp_path, script, "-w", "node1", "--requeue")
    until(beat.exists)
    cluster.crash("node1")
    assert cluster.steps("node1") == []
    last = beat.read_text()
    time.sleep(1)
    assert beat.read_text() == last, "the task died with its node"
    assert "slurmd.node1" not in cluster.running() and "slurmd.node2" in cluster.running()
    cluster.start("node1")
    wait_for(cluster, job)
    assert len((tmp_path / "starts").read_text().splitlines()) == 2


def test_a_job_in_debug_preempts_one_in_low_which_runs_again(cluster: Any, tmp_path: Path) -> None:
    signalled = tmp_path / "signalled"
    loop = tmp_path / "loop.sh"
    loop.write_text(f"""
        touch {tmp_path}/start.$SLURM_RESTART_COUNT
        [ -e {signalled} ] && exit 0
        trap 'touch {signalled}' TERM  # a job that ends now is not requeued
        while :; do sleep 0.1; done
    """)
    low = submit(cluster, tmp_path, f"srun -N1 -n1 sh {loop}", "-p", "low", "-N2", "--exclusive", "--requeue")
    until((tmp_path / "start.").exists)
    urgent = submit(cluster, tmp_path, "true", "-p", "debug", "-N2", "--exclusive")
    wait_for(cluster, urgent)
    wait_for(cluster, low)
    assert signalled.exists(), "it got SIGTERM before it was killed"
    assert (tmp_path / "start.1").exists(), "it was started again"


def test_two_clusters_run_at_once_and_end_independently(cluster: Any, devcluster: ModuleType, tmp_path: Path) -> None:
    other = devcluster.Cluster(tmp_path / "b", devcluster.Size(nodes=1, gpus=0, accounting=False))
    try:
        other.up()
        again = devcluster.Cluster(tmp_path / "b")
        again.up()
        assert again.running() == other.running(), "a second `up` changes nothing"
        assert other.run("sbatch", "--parsable", "--wait", "-o", "/dev/null", "--wrap", "true") == "1"
        assert set(other.running()) == {"munged", "slurmctld", "slurmd.node1"}
        listening = other.ports()
    finally:
        other.down()
    assert other.running() == {} and other.leftovers() == []
    for port in listening.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert len(cluster.running()) == 6
    assert cluster.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%t").split() == ["idle", "idle"]
    other.down(wipe=True)
    other.down(wipe=True)
    assert not other.folder.exists()


def test_a_process_with_a_recycled_id_is_not_killed(devcluster: ModuleType, tmp_path: Path) -> None:
    """daemons.json may outlive its processes: another process with one of their ids must survive `down`."""
    (tmp_path / "daemons.json").write_text(f'{{"slurmctld": {{"pid": {os.getpid()}, "began": 1}}}}')
    one = devcluster.Cluster(tmp_path)
    assert one.running() == {}
    one.down()


def test_an_interrupted_test_run_leaves_no_process_and_no_folder(devcluster: ModuleType, tmp_path: Path) -> None:
    """pytest is killed, so that no fixture is finalized, while a job runs on the cluster of its fixture."""
    root = Path(__file__).resolve().parents[3]
    (tmp_path / "test_sleeps.py").write_text(
        "import time\n"
        "from tests.execution.cluster.conftest import cluster, devcluster  # noqa\n"
        "def test_sleeps(cluster):\n"
        "    cluster.run('sbatch', '-o', '/dev/null', '--wrap', f'touch {cluster.folder}/began; exec sleep 300')\n"
        "    while not (cluster.folder / 'began').exists(): time.sleep(0.1)\n"
        f"    open({str(tmp_path / 'folder')!r}, 'x').write(str(cluster.folder) + '\\n')\n"
        "    time.sleep(300)\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    variables = {k: v for k, v in os.environ.items() if k != "SLURM_CONF"} | {"PYTHONPATH": str(root)}
    run = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    name = tmp_path / "folder"
    try:
        until(lambda: (name.exists() and name.read_text().endswith("\n")) or run.poll() is not None)
        one = devcluster.Cluster(name.read_text().strip())
        assert one.run("squeue", "-h", "-o", "%T") == "RUNNING" and len(one.steps()) == 1
        members = [*one.leftovers(), *(p for s in one.steps() for p in devcluster.processes.descendants(s))]
        assert len(members) >= 7
    finally:
        run.kill()
        run.wait()
    until(lambda: not one.folder.exists())
    assert one.leftovers() == []
    assert not any(devcluster.processes.began(int(str(member).split()[0])) for member in members)
