"""The API on the other database. Everything in this folder runs on SQLite; what follows runs again on
PostgreSQL, and all of it when TRANSOM_TEST_EVERY_DATABASE=1 asks for that (decision 104)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CHOSEN = (
    "test_concurrency.py",
    "test_image_create.py",
    "test_image_delete.py",
    "test_image_filters.py",
    "test_image_update.py",
    "test_members.py",
    "test_metadef_namespaces.py",
    "test_states.py",
    "test_tags.py",
    "test_visibility.py",
)
"""What depends on the catalog most: filters, sorting, races, who sees what."""
SECONDS_MAX = 3600


def test_the_api_is_the_same_on_postgresql() -> None:
    if os.environ.get("TRANSOM_TEST_DATABASE", "sqlite") != "sqlite":
        pytest.skip("all of them run on that database now")
    everything = os.environ.get("TRANSOM_TEST_EVERY_DATABASE") == "1"
    paths = [FOLDER] if everything else [FOLDER / name for name in CHOSEN]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color", "no",
            *(str(path) for path in paths),
        ],
        cwd=FOLDER.parent.parent,
        env=environment | {"TRANSOM_TEST_DATABASE": "postgresql"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )  # fmt: skip
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stdout[-20_000:]
