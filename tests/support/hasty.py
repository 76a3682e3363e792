"""`transom` with short times, for tests that wait for them: python -m tests.support.hasty serve …

TRANSOM's own times are chosen for services that run for months. What depends on them behaves the
same with shorter ones.
"""

from __future__ import annotations

import sys

import transom.app
import transom.images.sweep
import transom.imports.engine
from transom.cli.main import main

transom.app.BEAT_SECONDS = 0.3
transom.app.SWEEP_SECONDS = 1.0
transom.images.sweep.DEAD_AFTER_SECONDS = 1.5
transom.images.sweep.WATCHED_SECONDS = 0.8
transom.imports.engine.TICK_SECONDS = 0.2
transom.imports.engine.STRAY_SECONDS = 1.0
transom.imports.engine.IDLE_SECONDS = 1.0
transom.imports.engine.FORGET_SECONDS = 1.0

if __name__ == "__main__":
    sys.exit(main())
