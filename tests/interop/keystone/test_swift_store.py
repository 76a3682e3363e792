"""Images in Swift through Glance's driver: its API on Ceph's radosgw, its users in a real Keystone."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_store import (  # noqa: F401 - the suite of all stores, on this one
    Case,
    all_of,
    get,
    put,
    store,
    test_a_bad_key_is_refused_everywhere,
    test_a_cancelled_task_leaves_nothing,
    test_a_chunk_may_be_changed_after_write_returned,
    test_a_key_is_never_overwritten,
    test_a_list_may_be_left_early,
    test_a_range_cannot_be_negative,
    test_a_range_gives_its_bytes_cut_at_the_end,
    test_a_reader_may_be_closed_early_and_twice,
    test_a_store_may_be_closed_twice,
    test_a_store_that_works_passes_its_check_and_stays_clean,
    test_a_task_cancelled_while_it_commits_leaves_nothing_or_all,
    test_a_write_whose_object_was_deleted_fails_and_leaves_nothing,
    test_a_writer_that_ended_takes_no_more,
    test_a_wrong_size_hint_does_no_harm,
    test_an_error_inside_leaves_nothing_and_comes_out_unchanged,
    test_an_unknown_option_is_refused_at_the_start,
    test_cancel_after_a_commit_does_nothing,
    test_cancel_may_be_called_again_and_again,
    test_delete_removes_and_may_be_repeated,
    test_delete_removes_partial_objects_too,
    test_entries_tell_when_they_changed,
    test_every_allowed_key_works_and_keys_differ_by_case,
    test_leaving_without_a_commit_leaves_nothing,
    test_many_readers_of_one_object_each_get_all_of_it,
    test_many_writers_at_once_keep_apart,
    test_nothing_is_readable_before_commit,
    test_objects_may_come_and_go_while_they_are_listed,
    test_pieces_are_bytes_of_at_most_about_a_mebibyte,
    test_reading_what_is_not_there_fails_before_the_first_byte,
    test_two_writers_of_one_key_do_not_mix,
    test_urls_are_stable_and_tell_keys_apart,
    test_what_a_store_tells_of_itself_can_be_said_in_json,
    test_what_is_written_is_what_is_read,
)
from tests.interop.keystone.conftest import SERVICE_PASSWORD
from tests.interop.keystone.server import Cloud, KeystoneServer
from tests.support import ceph
from transom.errors import StoreUnavailable
from transom.settings import StoreSettings
from transom.stores import open_store
from transom.stores.store import KeyMissing, Store

pytestmark = pytest.mark.interop
MIB = 1024 * 1024
PASSWORD = "the password of the account"


@pytest.fixture(scope="module")
def options(
    cloud: Cloud, keystone: KeystoneServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Keys of `[stores.NAME]` that lead to a container of the account `keeper`."""
    keeper = f"keeper-{uuid.uuid4().hex[:8]}"
    cloud.user(keeper, PASSWORD, project=cloud.project(keeper), roles=["member"])
    folder = tmp_path_factory.mktemp("swift")

    def file(password: str) -> Path:
        path = folder / f"{hashlib.sha256(password.encode()).hexdigest()[:8]}.conf"
        path.write_text(
            f"[images]\nauth_version = 3\nauth_address = {keystone.url}\n"
            f"user = {keeper}:{keeper}\nkey = {password}\n"
            "user_domain_name = Default\nproject_domain_name = Default\n"
        )
        return path

    with ceph.own_gateway(
        rgw_enable_apis="s3, swift, swift_auth",
        rgw_keystone_url=keystone.url.removesuffix("/v3"),
        rgw_keystone_api_version="3",
        rgw_keystone_admin_user="transom",
        rgw_keystone_admin_password=SERVICE_PASSWORD,
        rgw_keystone_admin_project="service",
        rgw_keystone_admin_domain="Default",
        rgw_keystone_accepted_roles="member",
    ) as gateway:

        def lead(password: str = PASSWORD, **more: Any) -> dict[str, Any]:
            return {
                "kind": "swift",
                "swift_store_config_file": str(file(password)),
                "default_swift_reference": "images",
                "swift_store_endpoint": f"{gateway.url}/swift/v1",
                "swift_store_container": "images",
                "swift_store_create_container_on_put": True,
                "swift_store_large_object_chunk_size": 1,
            } | more

        yield lead


@pytest.fixture
def case(options: Callable[..., dict[str, Any]]) -> Case:
    """The store under test, for the suite."""

    def configure(folder: Path) -> StoreSettings:
        prefix = hashlib.sha256(str(folder).encode()).hexdigest()[:16] + "-"
        return StoreSettings(driver="glance_store", options=options(prefix=prefix))

    return Case("glance_store", configure, True, 80)


async def test_the_location_holds_a_reference_and_no_password(store: Store) -> None:  # noqa: F811
    url = (await put(store, "key", b"x")).url
    assert url.startswith("swift+config://images/images/")
    assert PASSWORD not in url
    assert (await store.find(url)).key == "key"
    for other in (url + "x", url.replace("images/", "others/", 1), "swift+config://images/x"):
        with pytest.raises(KeyMissing):
            await store.find(other)


async def test_long_objects_are_made_of_segments_and_go_with_all_of_them(
    store: Store,  # noqa: F811
) -> None:
    data = os.urandom(5 * MIB + 7)
    await put(store, "long", *(data[at : at + 300_000] for at in range(0, len(data), 300_000)))
    assert await get(store, "long") == data
    assert await get(store, "long", offset=2 * MIB - 2, length=5) == data[2 * MIB - 2 :][:5]
    entries = await all_of(store.list())
    assert {key: each.size_bytes for key, each in entries.items()} == {"long": len(data)}
    await store.delete("long")
    assert await all_of(store.list_partial()) == {}


async def test_segments_without_an_object_are_partial_and_go_by_their_key(
    store: Store,  # noqa: F811
) -> None:
    data = os.urandom(3 * MIB)
    await put(store, "long", data[:MIB], data[MIB:], b"x")
    backend = store._shelf.backend  # type: ignore[attr-defined]
    location, connection = backend.reach(store.url("long"))
    connection.delete_object(location.container, location.obj)
    assert await all_of(store.list()) == {}
    assert set(await all_of(store.list_partial())) == {"long"}
    await store.delete("long")
    assert await all_of(store.list_partial()) == {}


async def test_a_wrong_password_is_told_to_the_operator(
    options: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    settings = StoreSettings(driver="glance_store", options=options("another password"))
    opened = open_store("tested", settings, tmp_path)
    with pytest.raises(StoreUnavailable, match="an operator has to"):
        await opened.check()
    with pytest.raises(StoreUnavailable, match="an operator has to"):
        await put(opened, "key", b"x")
    await opened.close()
