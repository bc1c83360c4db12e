"""What kind of file system a path is on, from the kernel's mount table. Only Linux has one; elsewhere: unknown."""

from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "afs"})
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


def file_system_of(path: Path, mount_table: Path | None = None) -> str | None:
    """Return the type of the file system that holds a path (which need not exist yet), or None if unknown."""
    try:
        lines = (mount_table or MOUNT_TABLE).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    target = str(path.resolve())
    best, kind = -1, None
    for line in lines:
        mount_point, type_ = _parse(line)
        if _is_below(target, mount_point) and len(mount_point) >= best:
            best, kind = len(mount_point), type_
    return kind


def is_mount_point(path: Path, mount_table: Path | None = None) -> bool:
    """Tell whether something is mounted at a path itself; a single file can be. A rename cannot replace that."""
    try:
        lines = (mount_table or MOUNT_TABLE).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    return any(_parse(line)[0] == str(path) for line in lines)


def _parse(line: str) -> tuple[str, str]:
    """Read one line of mountinfo(5): the mount point is field 5, the type follows the lone dash."""
    before, _, after = line.partition(" - ")
    mount_point = before.split(" ")[4]
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        mount_point = mount_point.replace(escaped, character)
    return mount_point, after.split(" ")[0]


def _is_below(target: str, mount_point: str) -> bool:
    return target == mount_point or target.startswith(mount_point.rstrip("/") + "/")
