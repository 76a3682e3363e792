"""The file of the audit log: lines in order, rotation, disks that refuse, many writers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from transom import audit
from transom.audit import AuditLog
from transom.errors import ConfigurationError


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for_lines(path: Path, number: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().splitlines()) >= number:
            break
        time.sleep(0.01)
    return lines(path)


def test_events_are_lines_of_json_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "audit.log"
    log = AuditLog.open(path)
    for number in range(2500):
        log.write({"number": number, "text": "a\nb ü"})
    log.close()
    assert [line["number"] for line in lines(path)] == list(range(2500))
    assert lines(path)[0]["text"] == "a\nb ü"


def test_a_log_that_was_there_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for number in range(2):
        log = AuditLog.open(path)
        log.write({"number": number})
        log.close()
    assert lines(path) == [{"number": 0}, {"number": 1}]


def test_after_the_file_was_moved_lines_go_to_a_new_one(tmp_path: Path) -> None:
    path, old = tmp_path / "audit.log", tmp_path / "audit.log.1"
    log = AuditLog.open(path)
    log.write({"number": 0})
    wait_for_lines(path, 1)
    path.rename(old)
    log.write({"number": 1})
    log.close()
    assert lines(old) == [{"number": 0}]
    assert lines(path) == [{"number": 1}]


def test_after_the_file_was_cut_off_lines_begin_at_its_start(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog.open(path)
    log.write({"number": 0})
    wait_for_lines(path, 1)
    path.write_bytes(b"")
    log.write({"number": 1})
    log.close()
    assert path.read_bytes() == b'{"number":1}\n'


def test_reopen_takes_the_file_that_has_the_name_then(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog.open(path)
    log.reopen()
    log.write({"number": 1})
    log.close()
    assert lines(path) == [{"number": 1}]


def test_lines_wait_while_the_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RETRY_SECONDS", 0.01)
    folder = tmp_path / "folder"
    log = AuditLog.open(folder / "audit.log")
    (folder / "audit.log").unlink()
    folder.rename(tmp_path / "away")
    began = time.monotonic()
    for number in range(100):
        log.write({"number": number})
    assert time.monotonic() - began < 1
    time.sleep(0.05)
    folder.mkdir()
    found = wait_for_lines(folder / "audit.log", 100)
    log.close()
    assert [line["number"] for line in found] == list(range(100))


def test_more_lines_than_fit_are_lost_and_memory_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(audit, "LINES_MAX", 10)
    monkeypatch.setattr(audit, "CLOSE_SECONDS", 0.05)
    folder = tmp_path / "folder"
    log = AuditLog.open(folder / "audit.log")
    (folder / "audit.log").unlink()
    folder.rmdir()
    for number in range(5000):
        log.write({"number": number})
    assert len(log._lines) <= 10
    folder.mkdir()
    wait_for_lines(folder / "audit.log", 10)
    log.close()
    assert 10 <= len(lines(folder / "audit.log")) < 5000


def test_a_log_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"audit\.path"):
        AuditLog.open(tmp_path / "file" / "audit.log")


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    program = (
        "import sys; from pathlib import Path; from transom.audit import AuditLog\n"
        "log = AuditLog.open(Path(sys.argv[1]))\n"
        "for number in range(2000): log.write({'who': sys.argv[2], 'text': 'x' * 300})\n"
        "log.close()\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(path), who]) for who in ("a", "b")
    ]
    assert [each.wait(60) for each in running] == [0, 0]
    found = lines(path)
    assert sorted({line["who"] for line in found}) == ["a", "b"]
    assert len(found) == 4000
