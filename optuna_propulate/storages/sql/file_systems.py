"""Which file systems machines share, where SQLite's write-ahead log is not safe."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from pathlib import Path

    pass


_NETWORK_FILE_SYSTEMS = {
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "vboxsf",
    "dvs", "quobyte", "wekafs",
}  # fmt: skip


_LOCAL_FUSE_FILE_SYSTEMS = {
    "bindfs", "ext2", "fuse-overlayfs", "gocryptfs", "encfs", "mergerfs", "ntfs-3g", "zfs",
}  # fmt: skip


_ESCAPED = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that a file lies on.

    Args:
        path: The file; it need not exist.
        mounts: What ``/proc/self/mounts`` holds.

    Returns:
        The type by its name, such as ``ext4`` or ``nfs4``; ``""`` if it cannot be told.
    """
    place = os.path.realpath(path)
    best, found = "", ""
    for line in mounts.splitlines():
        _, mounted, kind, *_ = line.split(" ")
        mounted = _ESCAPED.sub(lambda m: chr(int(m[1], 8)), mounted)  # blanks are \040
        inside = place == mounted or place.startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) >= len(best):
            best, found = mounted, kind
    return found


def is_network(file_system: str) -> bool:
    """Tell whether a file system is shared by machines, so that WAL mode is not safe on it."""
    if file_system.startswith("fuse."):  # of these few are local, and new ones appear
        return file_system.removeprefix("fuse.") not in _LOCAL_FUSE_FILE_SYSTEMS
    return file_system in _NETWORK_FILE_SYSTEMS
