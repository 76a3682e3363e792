"""The two published documents of the Compute view, replayed (seeds map §3, §5).

002: an operator's page of 2014/15 with an executed example. 004: another's of 2015 with a template, a
sample, an executed example and an error example.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conftest import MakeImage
from tests.support.server import Client, told

OLD_HEADERS = {
    "Accept-Encoding": "gzip, deflate, compress",
    "Accept": "application/json",
    "Content-Type": "application/json",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
APPLICATION = {
    "display_order": "260",
    "app": "GitLab-7.9.1-64bit",
    "hw_qemu_guest_agent": "yes",
    "os_type": "lin",
}
"""Metadata of an image in the executed example of 002."""


def listed(client: Client, **query: Any) -> Any:
    answer = client.get(f"/v2/{client.project_id}/images/detail", headers=OLD_HEADERS, params=query)
    assert answer.status_code == 200, told(answer)
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert re.fullmatch(r"req-[0-9a-f-]{36}", answer.headers["x-compute-request-id"])
    return answer.json()


def test_002_lists_details_newest_first_with_every_key_of_the_sample(
    owner: Client, image: MakeImage, mark: str
) -> None:
    plain = image(data=b"p" * 4096, name=mark, min_disk=500)
    app = image(data=b"a" * 8192, name=mark, **APPLICATION)
    body = listed(owner, name=mark)
    assert [item["id"] for item in body["images"]] == [app["id"], plain["id"]]
    with_app, without = body["images"]
    assert with_app["metadata"] == APPLICATION
    assert without["metadata"] == {}
    assert without["OS-EXT-IMG-SIZE:size"] == 4096
    assert (without["minDisk"], without["minRam"]) == (500, 0)
    assert (without["progress"], without["status"]) == (100, "ACTIVE")
    assert TIME.fullmatch(without["created"])
    assert TIME.fullmatch(without["updated"])
    project = owner.project_id
    assert without["links"] == [
        {"href": f"{owner.base_url}/v2/{project}/images/{plain['id']}", "rel": "self"},
        {"href": f"{owner.base_url}/{project}/images/{plain['id']}", "rel": "bookmark"},
        {
            "href": f"{owner.base_url}/{project}/images/{plain['id']}",
            "rel": "alternate",
            "type": "application/vnd.openstack.image",
        },
    ]


def test_002_parameters_select_and_page(owner: Client, image: MakeImage, mark: str) -> None:
    snapshot = image(data=b"s", name=mark, image_type="snapshot")["id"]
    backup = image(name=mark, image_type="backup")["id"]

    def found(**query: Any) -> list[str]:
        return [item["id"] for item in listed(owner, name=mark, **query)["images"]]

    assert found(**{"changes-since": "2011-01-24T17:08Z"}) == [backup, snapshot]
    assert found(status="ACTIVE") == [snapshot]
    assert found(type="backup") == [backup]
    assert found(limit=1) == [backup]
    assert found(marker=backup) == [snapshot]


def test_004_sample_image_is_shown_with_every_key_of_the_template(
    owner: Client, image: MakeImage, mark: str
) -> None:
    kernel = "70a599e0-31e7-49b7-b260-868f441e862b"
    fresh = image(
        data=b"sample",
        name=mark,
        architecture="x86_64",
        auto_disk_config="True",
        kernel_id=kernel,
        ramdisk_id=None,
    )
    (shown,) = listed(owner, name=mark)["images"]
    template = {
        "created", "id", "links", "metadata", "minDisk", "minRam", "name", "progress", "status",
        "updated",
    }  # fmt: skip
    assert template <= set(shown)
    assert shown["id"] == fresh["id"]
    assert shown["metadata"] == {
        "architecture": "x86_64",
        "auto_disk_config": "True",
        "kernel_id": kernel,
        "ramdisk_id": None,
    }
    assert [link["rel"] for link in shown["links"]] == ["self", "bookmark", "alternate"]
    assert shown["links"][2]["type"] == "application/vnd.openstack.image"
    assert shown["OS-DCF:diskConfig"] == "AUTO"


def test_004_server_parameter_is_a_url(owner: Client, image: MakeImage, mark: str) -> None:
    fresh = image(name=mark, instance_uuid=mark)
    for server in (f"https://compute.example.com/v2/openstack/servers/{mark}", mark):
        assert [item["id"] for item in listed(owner, server=server)["images"]] == [fresh["id"]]


@pytest.mark.parametrize("characters", [31, 32])
def test_004_error_example(owner: Client, characters: int) -> None:
    wrong = "d66f0c0f4f4a4a6f8b0a0c0d0e0f1011"[:characters]
    answer = owner.get(f"/v2/{wrong}/images/detail", headers=OLD_HEADERS)
    assert answer.status_code == 400, told(answer)
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert "x-compute-request-id" in answer.headers
    assert list(answer.json()) == ["badRequest"]
    fault = answer.json()["badRequest"]
    assert fault["code"] == 400
    assert fault["message"] == (
        f"Malformed request URL: URL's project_id '{wrong}' doesn't match Context's project_id "
        f"'{owner.project_id}'"
    )


def test_pages_are_as_large_as_the_samples_suggest(
    owner: Client, image: MakeImage, mark: str
) -> None:
    for number in range(5):
        image(name=mark, **(APPLICATION if number > 1 else {}))
    answer = owner.get(
        f"/v2/{owner.project_id}/images/detail", headers=OLD_HEADERS, params={"name": mark}
    )
    # Five images took 4,822 bytes in the executed example, with host names of another length.
    assert 2_500 < len(answer.content) < 7_500
