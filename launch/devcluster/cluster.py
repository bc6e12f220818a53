#!/usr/bin/env python3
"""The command line of the private cluster.

python launch/devcluster/cluster.py up FOLDER        # two nodes of 8 CPUs and 4 simulated GPUs, with accounting
export SLURM_CONF=FOLDER/slurm.conf                  # then sbatch, squeue, sacct ... as on any cluster
python launch/devcluster/cluster.py crash FOLDER node1 | start FOLDER node1 | status FOLDER
python launch/devcluster/cluster.py down FOLDER --wipe
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from private_cluster import Cluster, ClusterError
from slurm_files import Size


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster.py", description="A private SLURM cluster in one folder.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in {
        "up": "start it, or the daemons that are missing",
        "down": "cancel its jobs and stop its daemons",
        "crash": "kill a node and all its processes",
        "start": "start a crashed node again",
        "status": "list the daemons that run",
        "watch": "stop it and remove its folder when standard input closes without input",
    }.items():
        command = verbs.add_parser(verb, help=text)
        command.add_argument("folder", type=Path)
        if verb in ("crash", "start"):
            command.add_argument("node")
        if verb == "down":
            command.add_argument("--wipe", action="store_true", help="also remove the folder")
        if verb == "up":
            command.add_argument("--nodes", type=int, default=Size.nodes)
            command.add_argument("--cpus", type=int, default=Size.cpus)
            command.add_argument("--memory-mb", type=int, default=Size.memory_mb)
            command.add_argument("--gpus", type=int, default=Size.gpus)
            command.add_argument("--grace", type=int, default=Size.grace, help="seconds that a preempted job has to end")
            command.add_argument("--no-accounting", dest="accounting", action="store_false", help="no MariaDB, no sacct")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = vars(_parser().parse_args(arguments))
    verb, folder = given.pop("verb"), given.pop("folder")
    try:
        if verb == "up":
            cluster = Cluster(folder, Size(**given))
            cluster.up()
            print(cluster.run("sinfo", "-N", "-p", "debug", "-o", "%N %t %c CPUs %m MB %G"))
            print(f"export SLURM_CONF={cluster.conf}")
        elif verb == "status":
            cluster = Cluster(folder)
            for name, pid in cluster.running().items():
                print(f"{name} {pid}")
            return 0 if cluster.running() else 1
        elif verb == "watch":
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            if not sys.stdin.read():  # `down` writes to it
                Cluster(folder).down(wipe=True)
        elif verb == "down":
            Cluster(folder).down(wipe=given["wipe"])
        else:
            getattr(Cluster(folder), verb)(given["node"])
    except ClusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
