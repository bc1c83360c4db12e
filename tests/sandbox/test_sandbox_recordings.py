"""The emulation is what real servers were recorded to say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from blnkctl.sandbox import Emulator
from tests.sandbox.sandbox_replay import RECORDINGS, Player, options_for

UPGRADES = [path for path in RECORDINGS if path.name.startswith("upgrade")]
OTHERS = [path for path in RECORDINGS if path not in UPGRADES]


def test_there_are_recordings_to_replay() -> None:
    assert len(UPGRADES) == 4
    assert len(OTHERS) >= 20


@pytest.mark.parametrize("recording", OTHERS, ids=lambda path: path.stem)
def test_a_recording_replays_without_a_difference(recording: Path) -> None:
    skipped = [0.0]
    emulator = Emulator(options_for(recording), monotonic=lambda: time.monotonic() / 1_000 + skipped[0])
    player = Player(pause=lambda: skipped.append(skipped.pop() + 1.1))
    assert player.differences(recording, emulator) == []


def test_the_upgrade_replays_in_order_over_one_data_file(tmp_path: Path) -> None:
    player = Player()
    for recording in sorted(UPGRADES, key=lambda path: [int(part) for part in path.stem[8:].split(".")]):
        emulator = Emulator(options_for(recording, data=tmp_path / "rows"))
        assert player.differences(recording, emulator) == []
        emulator.close()
