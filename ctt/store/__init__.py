"""The store: key → artifact, finished or absent; leases that let one builder at a time work on a key."""

from ctt.store.artifact import Artifact, DamagedArtifact
from ctt.store.holder import Holder
from ctt.store.leases import Lease
from ctt.store.store import Store, is_folder_name

__all__ = ["Artifact", "DamagedArtifact", "Holder", "Lease", "Store", "is_folder_name"]
