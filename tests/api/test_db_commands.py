"""`transom db`: a lab on SQLite that grew up moves to PostgreSQL, and nobody sees a difference."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import configured
from tests.support import postgres, seed
from tests.support.catalogs import DIALECTS, empty_url
from tests.support.server import Client, ServerProcess, told
from transom.catalog import Catalog, migrations
from transom.catalog.bulk import load
from transom.catalog.engine import Engine

COUNT = 3000
DATA = b"some data of an image" * 5000
NAMESPACE = {
    "namespace": "OS::Test::Moved",
    "display_name": "Ünïcode",
    "visibility": "public",
    "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "hw_"}],
    "properties": {"cpus": {"title": "CPUs", "type": "integer"}},
    "tags": [{"name": "fast"}],
}


def command(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`transom db …` on the server's data, as an operator calls it."""
    return subprocess.run(
        [
            sys.executable, "-m", "transom", "db", *arguments,
            "--config", str(server.config_path), "--data", str(server.data),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=server.environment(),
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server on SQLite with thousands of images, users, members, definitions and tasks."""
    folder = tmp_path_factory.mktemp("lab")
    url = {"database": {"url": "sqlite:///<data>/transom.db"}}
    server = configured(folder, {**url, "images": {"show_multiple_locations": True}}).start()
    actors = server.provision(
        {"alice": ("lab", ["member"]), "bob": ("guests", ["member"]), "eve": ("lab", ["reader"])}
    )
    _fill(server, actors["alice"], actors["bob"])
    server.stop()
    catalog = Catalog(Engine(f"sqlite:///{server.data}/transom.db"))
    images = [*seed.images(COUNT)]
    load(catalog.engine, images, seed.members(images))
    catalog.close()
    # Some of them look as if somebody had died over them. A sweep puts them right: at once, so that
    # none changes between two answers.
    swept = subprocess.run(
        [
            sys.executable, "-m", "transom", "sweep", "--apply",
            "--config", str(server.config_path), "--data", str(server.data),
        ],
        capture_output=True, text=True, timeout=300, env=server.environment(), check=False,
    )  # fmt: skip
    assert swept.returncode == 0, swept.stderr
    yield server
    server.kill()


def _fill(server: ServerProcess, alice: Client, bob: Client) -> None:
    """One of everything, through the API."""
    admin = server.log_in_to_cloud()
    formats = {"disk_format": "raw", "container_format": "bare"}
    whole = alice.create(name="whole", visibility="shared", tags=["a", "ß"], kind="Ü", **formats)
    alice.upload(whole["id"], DATA)
    project = bob.get("/v3/auth/tokens", headers={"X-Subject-Token": bob.token or ""}).json()
    member = {"member": project["token"]["project"]["id"]}
    assert alice.post(f"/v2/images/{whole['id']}/members", json=member).status_code == 200
    staged = alice.create(name="staged", **formats)
    body = {"content": DATA, "headers": {"Content-Type": "application/octet-stream"}}
    assert alice.put(f"/v2/images/{staged['id']}/stage", **body).status_code == 204
    gone = alice.create(name="gone")
    assert alice.delete(f"/v2/images/{gone['id']}").status_code == 204
    assert admin.post("/v2/metadefs/namespaces", json=NAMESPACE).status_code == 201
    method = {"method": {"name": "web-download", "uri": "http://127.0.0.1:9/none"}}
    failing = alice.create(name="failing", **formats)
    assert alice.post(f"/v2/images/{failing['id']}/import", json=method).status_code in (202, 400)


def answers(server: ServerProcess) -> dict[str, tuple[int, str, bytes]]:
    """What three callers are told, by question: status, kind and every byte."""
    clients = [
        server.log_in_to_cloud(),
        server.log_in("alice", "alice-secret", "lab", "alice"),
        server.log_in("bob", "bob-secret", "guests", "bob"),
    ]
    found: dict[str, tuple[int, str, bytes]] = {}
    for who in clients:
        for path in _questions(who):
            answer = who.get(path)
            kind = answer.headers.get("content-type", "")
            # Every start has another port.
            content = answer.content.replace(server.url.encode(), b"here")
            found[f"{who.who} {path}"] = (answer.status_code, kind, content)
    return found


def _questions(client: Client) -> Iterator[str]:
    """Paths of whole lists, page by page, and of what stands in them."""
    ids: list[str] = []
    for query in ("", "&sort=name:asc,size:desc", "&visibility=all&sort=updated_at"):
        path: str | None = f"/v2/images?limit=250{query}"
        while path is not None:
            yield path
            page = client.get(path).json()
            ids += [image["id"] for image in page["images"]]
            path = page.get("next")
    yield from (
        f"/v2/images?{query}"
        for query in (
            "tag=golden", "os_distro=ubuntu", "status=active&visibility=public", "name=cirros",
            "member_status=all&visibility=shared", "size_min=5000000000", "os_hidden=true",
            "protected=true", "created_at=gt:2024-01-02T00:00:00Z",
        )
    )  # fmt: skip
    for image_id in itertools.islice(dict.fromkeys(ids), 0, None, 53):
        yield f"/v2/images/{image_id}"
        yield f"/v2/images/{image_id}/members"
        yield f"/v2/images/{image_id}/tasks"
    yield from (
        "/v2/metadefs/namespaces", "/v2/metadefs/namespaces/OS::Test::Moved",
        "/v2/metadefs/resource_types", "/v2/tasks", "/v3/users", "/v3/projects", "/v3/roles",
        "/v2/info/usage", "/v2/images/00000000-0000-4000-8000-000000000000",
    )  # fmt: skip


def test_a_lab_moves_to_postgresql_and_back_and_answers_the_same(
    lab: ServerProcess, tmp_path: Path
) -> None:
    lab.start()
    before = answers(lab)
    alice = lab.log_in("alice", "alice-secret", "lab")
    (whole,) = alice.list_ids(name="whole")
    refused = command(lab, "copy", "--to", "postgresql:///none")
    assert refused.returncode == 1
    assert "stop them" in refused.stderr
    lab.stop()
    assert len(before) > 200
    assert sum(status == 200 for status, _, _ in before.values()) > 200

    url = empty_url("postgresql", tmp_path)
    done = command(lab, "copy", "--to", url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["table", "rows", "hash", "same"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:-1]}
    assert int(rows["images"][0]) > COUNT
    assert {len(digest) for _, digest, _ in rows.values()} == {32}
    assert {same for *_, same in rows.values()} == {"yes"}
    assert "database.url" in lines[-1]

    lab.restart({"database": {"url": url}})
    after = answers(lab)
    assert after.keys() == before.keys()
    assert [path for path in before if after[path] != before[path]] == []
    # A token that was given before is still good: keys and users came along.
    assert lab.client(alice.token).get(f"/v2/images/{whole}/file").content == DATA
    fresh = lab.log_in("alice", "alice-secret", "lab").create(name="after the move", tags=["t"])
    assert lab.log_in_to_cloud().show(fresh["id"])["tags"] == ["t"]
    checked = command(lab, "check")
    assert checked.returncode == 0, checked.stdout
    assert "Nothing is wrong with the postgresql database" in checked.stdout
    lab.stop()

    home = tmp_path / "home.db"
    done = command(lab, "copy", "--to", f"sqlite:///{home}")
    assert done.returncode == 0, done.stderr
    lab.restart({"database": {"url": f"sqlite:///{home}"}})
    assert lab.log_in("alice", "alice-secret", "lab").list_ids(name="after the move")
    assert command(lab, "check").returncode == 0
    lab.stop()
    lab.config["database"] = {"url": "sqlite:///<data>/transom.db"}
    assert {path.name for path in tmp_path.iterdir()} <= {"home.db", "home-tasks.db"}


def test_a_backup_of_a_running_service_is_restored(lab: ServerProcess, tmp_path: Path) -> None:
    with lab:
        alice = lab.log_in("alice", "alice-secret", "lab")
        (whole,) = alice.list_ids(name="whole")
        done = command(lab, "backup", str(tmp_path / "saved.db"))
        assert done.returncode == 0, done.stderr
        assert f"{tmp_path / 'saved.db'}: " in done.stdout
        late = alice.create(name="after the backup")
        again = command(lab, "backup", str(tmp_path / "saved.db"))
        assert again.returncode == 1
        assert "--replace" in again.stderr
    # As the how-to says: the file takes the place of the catalog and of what stands beside it.
    kept = {path: tmp_path / f"kept-{path.name}" for path in lab.data.glob("transom*.db*")}
    for path, aside in kept.items():
        shutil.move(path, aside)
    shutil.copy(tmp_path / "saved.db", lab.data / "transom.db")
    with lab:
        alice = lab.log_in("alice", "alice-secret", "lab")
        assert alice.get(f"/v2/images/{whole}/file").content == DATA
        assert alice.get(f"/v2/images/{late['id']}").status_code == 404
        assert alice.upload(alice.create(disk_format="raw", container_format="bare")["id"], DATA)
    assert command(lab, "check", "--quick").returncode == 0


def test_a_backup_of_postgresql_is_restored_by_its_own_tool(tmp_path: Path) -> None:
    url = postgres.cluster().database()
    with configured(tmp_path / "server", {"database": {"url": url}}) as server:
        demo = server.log_in_to_cloud("transom-demo")
        image = demo.create(name="there", disk_format="raw", container_format="bare")
        demo.upload(image["id"], DATA)
        done = command(server, "backup", str(tmp_path / "saved.dump"))
        assert done.returncode == 0, done.stderr
        demo.create(name="after the backup")
        server.stop()
        fresh = postgres.cluster().database()
        subprocess.run(
            [
                postgres.binary("pg_restore"), "--no-owner", "--exit-on-error",
                "--single-transaction", f"--dbname={fresh}", tmp_path / "saved.dump",
            ],
            check=True,
        )  # fmt: skip
        server.restart({"database": {"url": fresh}})
        demo = server.log_in_to_cloud("transom-demo")
        assert [each["name"] for each in _listed(demo)] == ["there"]
        assert demo.get(f"/v2/images/{image['id']}/file").content == DATA
        checked = command(server, "check")
        assert checked.returncode == 0, checked.stdout


def _listed(client: Client) -> list[dict[str, Any]]:
    answer = client.get("/v2/images")
    assert answer.status_code == 200, told(answer)
    found: list[dict[str, Any]] = json.loads(answer.content)["images"]
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_older_catalog_is_brought_up_to_date(tmp_path: Path, dialect: str) -> None:
    url = empty_url(dialect, tmp_path)
    old = Engine(url)
    old.exclusively(lambda connection: migrations.take_steps(connection, "0002"))
    old.close()
    server = ServerProcess(tmp_path / "server", {"database": {"url": url}})
    server._write_config()
    assert "is at revision 0002" in command(server, "check").stdout
    done = command(server, "upgrade")
    assert done.stdout == f"The schema is at revision {migrations.head()}.\n"
    assert command(server, "check").returncode == 0


def test_a_check_that_finds_something_ends_with_1(tmp_path: Path) -> None:
    with configured(
        tmp_path / "server", {"database": {"url": "sqlite:///<data>/transom.db"}}
    ) as server:
        pass
    by_hand = Engine(f"sqlite:///{server.data}/transom.db")
    by_hand.exclusively(lambda connection: connection.exec_driver_sql("DROP INDEX ix_images_name"))
    by_hand.close()
    done = command(server, "check")
    assert done.returncode == 1
    assert done.stdout == "problem  schema      index ix_images_name is missing\n1 problem.\n"


@pytest.mark.parametrize(
    "verb", [["check"], ["backup", "saved.db"], ["copy", "--to", "x"]], ids=str
)
def test_a_catalog_that_is_not_there_is_not_made(tmp_path: Path, verb: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "transom", "db", *verb, "--data", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert "There is no catalog" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_copy_into_itself_is_refused(lab: ServerProcess) -> None:
    done = command(lab, "copy", "--to", f"sqlite:///{lab.data}/../data/transom.db")
    assert done.returncode == 1
    assert "the same database" in done.stderr
