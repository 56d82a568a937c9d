"""Which file system a folder is on, as far as this decides whether its changes are announced."""

from __future__ import annotations

import os

import psutil

# fmt: off
SILENT = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "afpfs", "ceph", "9p", "davfs",
    "webdav", "lustre", "glusterfs", "vboxsf", "prl_fs", "fuse.sshfs", "fuse.rclone",
    "fuse.glusterfs", "fuse.s3fs", "fuse.davfs", "fuse.ceph-fuse", "fuse.vmhgfs-fuse",
    "fuse.grpcfuse", "fuse.osxfs", "fakeowner", "virtiofs",
})
# fmt: on
"""File systems on which others change files without this machine being told."""


def is_silent(folder: str | os.PathLike[str]) -> bool:
    """Whether changes that other machines make in a folder are not announced here.

    False too when the system does not tell what is mounted.
    """
    real = os.path.realpath(folder)
    best, silent = "", False
    try:
        mounts = psutil.disk_partitions(all=True)
    except OSError:
        return False
    for mount in mounts:
        point = os.path.join(mount.mountpoint, "")
        if os.path.join(real, "").startswith(point) and len(point) >= len(best):
            best = point
            silent = mount.fstype.lower() in SILENT or "remote" in mount.opts.split(",")
    return silent
