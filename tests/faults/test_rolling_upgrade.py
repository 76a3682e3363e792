"""One release takes the place of another, replica by replica, while clients go on.

The older release is the real one, out of the repository's history. Set PREVIOUS to the commit of a
release when it is made: the next one has to run beside it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.crowd import Crowd, Source, by_verb
from tests.support.history import History, violations
from tests.support.importing import active_image, ended, new_image, stage, start
from tests.support.replicas import IMPORTS, ROOT, Deployment, Replica, shared_folders
from tests.support.resting import at_rest
from transom.catalog import migrations

pytestmark = pytest.mark.faults

PREVIOUS = "ee3d5b265710b00edab68f57edff468d2881802c"
SIDE_BY_SIDE_SECONDS = 1.5
"""How long clients go on between two replicas."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the older release."""
    archive = subprocess.run(
        ["git", "archive", PREVIOUS, "src/transom"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"the repository's history does not hold the older release {PREVIOUS[:7]}")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder / "src"


@pytest.fixture
def cluster_url() -> str:
    """An empty database."""
    return postgres.cluster().database()


@pytest.fixture
def cloud(tmp_path: Path, older: Path, cluster_url: str) -> Iterator[Deployment]:
    """Three replicas and two workers of the older release."""
    shared = shared_folders(tmp_path / "stores", database={"url": cluster_url}, **IMPORTS)
    with Deployment(tmp_path, shared, source=older) as running:
        yield running


def revision_of(url: str) -> str:
    """The revision of a database's schema."""
    name = url.removeprefix("postgresql:///").partition("?")[0]
    rows = postgres.cluster().sql("SELECT version_num FROM alembic_version", database=name)
    return str(rows[0][0])


def upgrade_schema(replica: Replica) -> None:
    """`transom db upgrade`, of the present release."""
    done = subprocess.run(
        [sys.executable, "-m", "transom", "db", "upgrade", "--config", str(replica.config_path),
         "--data", str(replica.folder / "elsewhere")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"The schema is at revision {migrations.head()}.\n"


def test_replicas_are_upgraded_one_by_one_and_no_request_fails(
    cloud: Deployment, cluster_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = revision_of(cluster_url)
    client = cloud.log_in("transom")
    with Source() as source:
        crowd = Crowd(
            cloud.url, str(client.token), source, seed=7, clients=4, second_store="second"
        )
        crowd.start()
        try:
            time.sleep(SIDE_BY_SIDE_SECONDS)
            upgrade_schema(cloud.serving[0])
            time.sleep(SIDE_BY_SIDE_SECONDS)
            ends = []
            for replica in cloud.every:
                ends.append(replica.end())
                replica.source = None
                replica.start()
                time.sleep(SIDE_BY_SIDE_SECONDS)
                if replica in (cloud.serving[0], cloud.working[0]):
                    # Half of those that serve are of each release, and later of those that work.
                    check_side_by_side(cloud, cloud.serving[0], cloud.serving[1])
        finally:
            crowd.stop()
        end = at_rest(cloud, client, crowd)
    history = History(crowd.calls, end)
    # Without an answer, or with one that is nobody's but the proxy's.
    failed = [call for call in history.calls if not call.status or call.status >= 500]
    with capsys.disabled():
        print(
            f"\nfrom {before} to {migrations.head()}: {len(history.calls)} calls, {len(failed)} "
            f"failed; ends took {max(ends):.1f} s at most\n{by_verb(history.calls)}"
        )
    assert violations(history) == [], cloud.log_ends(1500)
    assert not failed, "\n".join(
        [*(f"{call.image} {call}" for call in failed[:10]), cloud.nginx.log()[-3000:]]
    )


def check_side_by_side(cloud: Deployment, newer: Replica, older: Replica) -> None:
    """What one release begins the other goes on with: images, staged data, imports, tokens."""
    old = cloud.log_in(at=older)
    new = newer.client(old.token)
    data = random.Random(1).randbytes(200_000)
    for writer, reader in ((old, new), (new, old)):
        image_id = active_image(writer, data)
        assert reader.get(f"/v2/images/{image_id}/file").content == data
        operations = [{"op": "add", "path": "/mark", "value": "here"}]
        assert reader.patch(f"/v2/images/{image_id}", operations).status_code == 200
        assert writer.show(image_id)["mark"] == "here"
        assert reader.delete(f"/v2/images/{image_id}").status_code == 204
        assert writer.get(f"/v2/images/{image_id}").status_code == 404
        image_id = new_image(writer)
        assert stage(writer, image_id, data).status_code == 204
        assert start(reader, image_id, "glance-direct").status_code == 202
        task = ended(writer, image_id, 60)
        assert task["status"] == "success", task
        assert reader.get(f"/v2/images/{image_id}/file").content == data
        assert writer.delete(f"/v2/images/{image_id}").status_code == 204
