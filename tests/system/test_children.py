"""What a program that blnkctl starts does not inherit."""

from blnkctl.system.children import child_environment


def test_a_child_gets_everything_but_what_opens_the_server_or_the_store() -> None:
    kept = {
        "PATH": "/bin",
        "HOME": "/home/ann",
        "BLNKCTL_URL": "http://x",
        "BLNKCTL_STORE_DIR": "/s",
        "BLNK_API_KEY": "k",
    }
    held_back = {
        "BLNKCTL_ADMIN_KEY": "a",
        "BLNKCTL_ADMIN_KEY_FILE": "b",
        "BLNKCTL_ADMIN_KEY_COMMAND": "c",
        "BLNKCTL_STORE_PASSPHRASE": "d",
        "BLNKCTL_AGE_IDENTITY_FILE": "e",
    }

    assert child_environment(kept | held_back) == kept
