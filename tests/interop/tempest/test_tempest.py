"""Every test of tempest that a real Glance passes, and that nothing yet unbuilt stands in the way of."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.interop.tempest.harness import (
    COMPUTE,
    COMPUTE_WITH_SNAPSHOTS,
    ENFORCING,
    FORMATS,
    LIMITS,
    LOCATIONS,
    SETTINGS,
    Deployment,
    Setting,
    judge,
    score,
)

pytestmark = pytest.mark.interop

SMOKE = (
    r"tempest\.api\.image\.v2\.(test_images\.BasicOperationsImagesTest|test_images_member|"
    r"test_images_tags|test_versions)"
)
IMAGE = r"^tempest\.api\.image"
PLUGIN = r"^glance_tempest_plugin\.tests\.(rbac|api)"
COMPUTE_IMAGES = (
    r"^tempest\.api\.compute\.images\.(test_list_images|test_list_image_filters|"
    r"test_image_metadata)"
)
"""The tests of the image view that need no server."""
COMPUTE_DELETES = r"^tempest\.api\.compute\.images.*ImagesDeleteNegativeTestJSON"
UNIFIED_LIMITS = r"^tempest\.scenario\.test_unified_limits"
LOCATION = r"LocationImportTest|ImageLocations|HashCalculationRemoteDeletionTest"
IMAGE_FORMATS = r"ImagesFormatTest\.test_accept"
IN_FULL = os.environ.get("TRANSOM_TEMPEST") == "full"
KEPT = os.environ.get("TRANSOM_TEMPEST_KEEP", "")
"""A folder to keep every outcome in."""


def run(folder: Path, setting: Setting, pattern: str) -> None:
    deployment = Deployment(folder, setting)
    try:
        outcomes = deployment.run(pattern)
    finally:
        deployment.stop()
    print(f"{setting.name} {pattern}: {score(outcomes)}")
    assert any(outcome["status"] == "success" for outcome in outcomes.values()), outcomes
    if KEPT:
        name = f"{setting.name}-{re.sub('[^a-z]+', '-', pattern)}.json"
        Path(KEPT, name).write_text(json.dumps(outcomes))
    wrong = judge(setting, outcomes)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.skipif(IN_FULL, reason="part of the full run")
def test_the_smoke_part_passes(tmp_path: Path) -> None:
    run(tmp_path, Setting("smoke", {}), SMOKE)


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [(COMPUTE, COMPUTE_IMAGES), (COMPUTE_WITH_SNAPSHOTS, COMPUTE_DELETES)],
    ids=lambda each: each.name if isinstance(each, Setting) else "",
)
def test_the_compute_view_passes(tmp_path: Path, setting: Setting, pattern: str) -> None:
    run(tmp_path, setting, pattern)


@pytest.mark.skipif(not IN_FULL, reason="`make tempest` runs it")
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_image_api_passes(tmp_path: Path, setting: Setting) -> None:
    run(tmp_path, setting, IMAGE)


@pytest.mark.skipif(not IN_FULL, reason="`make tempest` runs it")
def test_the_roles_pass(tmp_path: Path) -> None:
    run(tmp_path, ENFORCING, PLUGIN)


@pytest.mark.skipif(not IN_FULL, reason="`make tempest` runs it")
def test_images_of_every_format_are_taken_or_refused(tmp_path: Path) -> None:
    run(tmp_path, FORMATS, IMAGE_FORMATS)


def test_limits_of_keystone_are_kept(tmp_path: Path) -> None:
    run(tmp_path, LIMITS, UNIFIED_LIMITS)


def test_locations_pass_where_one_store_takes_data(tmp_path: Path) -> None:
    run(tmp_path, LOCATIONS, LOCATION)
