"""Which file system holds a path, from mount tables as Linux writes them."""

from pathlib import Path

import pytest

from blnkctl.system import mounts
from blnkctl.system.mounts import MEMORY_FILE_SYSTEMS, NETWORK_FILE_SYSTEMS, file_system_of

TABLE = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard
23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
24 22 0:22 / /run rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,size=403096k,mode=755
25 24 0:40 / /run/user/1000 rw,nosuid,nodev,relatime shared:200 - tmpfs tmpfs rw,mode=700,uid=1000
30 22 0:50 / /home rw,relatime shared:30 master:1 propagate_from:2 - nfs4 filer:/home rw,vers=4.2
31 30 0:51 / /home/ann/local rw,relatime - ext4 /dev/vdb1 rw
32 22 0:52 / /mnt/share rw - cifs //filer/share rw
33 22 0:53 / /mnt/with\040space rw - fuse.sshfs ann@host: rw
34 22 0:54 / /mnt/new rw - smb3 //filer/new rw
35 22 0:55 / /mnt/over rw - ext4 /dev/vdc1 rw
36 22 0:56 / /mnt/over rw - nfs filer:/over rw
37 22 0:57 / /mnt/back\134slash\011tab rw - 9p host rw
38 22 0:58 / /mnt/strange-\xff rw - xfs /dev/vdd1 rw
""".strip()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a file with the table."""
    path = tmp_path / "mountinfo"
    path.write_text(f"{TABLE}\n")
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/blnkctl", "ext4"),
        ("/run/user/1000/blnkctl/x.identity", "tmpfs"),
        ("/home/ann/.local/state/blnkctl", "nfs4"),
        ("/home/ann/local/state", "ext4"),
        ("/homeless", "ext4"),
        ("/mnt/share/state", "cifs"),
        ("/mnt/with space/state", "fuse.sshfs"),
        ("/mnt/new", "smb3"),
        ("/mnt/over/state", "nfs"),
        ("/mnt/back\\slash\ttab/state", "9p"),
    ],
)
def test_the_innermost_and_latest_mount_counts(table: Path, path: str, kind: str) -> None:
    assert file_system_of(Path(path), table) == kind


def test_a_link_counts_for_where_it_leads(table: Path, tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to("/mnt/share")

    assert file_system_of(tmp_path / "state" / "blnkctl", table) == "cifs"


def test_without_a_mount_table_nothing_is_known(tmp_path: Path) -> None:
    assert file_system_of(tmp_path, tmp_path / "absent") is None


def test_this_machines_own_table_is_read() -> None:
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(Path("/dev/shm")) == "tmpfs"


def test_the_table_can_be_another_one(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)

    assert file_system_of(Path("/mnt/share")) == "cifs"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"])
def test_file_systems_over_a_network_are_known_as_such(kind: str) -> None:
    assert kind in NETWORK_FILE_SYSTEMS
    assert kind not in MEMORY_FILE_SYSTEMS
