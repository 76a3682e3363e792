"""What a refusal becomes in each client: the exception class its users catch, and readable words."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from glanceclient import exc
from openstack import exceptions
from openstack.connection import Connection

from tests.conftest import configured
from tests.interop.clients.commands import Preloaded
from tests.interop.conftest import Cloud
from tests.interop.images.corpus import BootableImage

pytestmark = pytest.mark.interop

LARGEST_BYTES = 65536
DATA = b"x" * 1000
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def small_cloud(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Cloud]:
    """A cloud whose images may be 64 KiB at most and carry two members, tags, properties."""
    limits = {
        "image_size_bytes_max": LARGEST_BYTES,
        "image_tags_max": 2,
        "image_members_max": 2,
        "image_properties_max": 5,
    }
    with configured(tmp_path_factory.mktemp("small"), {"limits": limits}) as server:
        yield Cloud(server, tmp_path_factory.mktemp("small-home"), preloaded)


@dataclass
class Scene:
    """Who acts on what: a queued, an active and a protected image of the demo project."""

    cloud: Cloud
    demo: Connection
    neighbour: Connection
    queued: str
    active: str
    protected: str
    qcow2: bytes


@pytest.fixture
def scene(small_cloud: Cloud, bootable: dict[str, BootableImage]) -> Iterator[Scene]:
    """Fresh images; they are gone after the test."""
    demo = small_cloud.sdk("transom-demo")
    made = []

    def make(**attributes: Any) -> str:
        answer = demo.image.post(
            "/images", json={"disk_format": "vmdk", "container_format": "bare", **attributes}
        )
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
        return str(made[-1])

    active = make(disk_format="raw")
    assert demo.image.put(f"/images/{active}/file", data=DATA, headers=OCTETS).status_code == 204
    yield Scene(
        cloud=small_cloud,
        demo=demo,
        neighbour=small_cloud.sdk("neighbour"),
        queued=make(),
        active=active,
        protected=make(protected=True),
        qcow2=bootable["grub-rescue-qcow2"].path.read_bytes()[:LARGEST_BYTES],
    )
    for image_id in made:
        demo.image.update_image(image_id, is_protected=False)
        demo.image.delete_image(image_id)


def sdk_upload(connection: Connection, image_id: str, data: bytes) -> None:
    """What `upload_image` of the SDK does with an image that exists."""
    image = connection.image.get_image(image_id)
    exceptions.raise_from_response(image.upload(connection.image, data=io.BytesIO(data)))


@dataclass(frozen=True)
class Refusal:
    """One refusal: what is done with each library, the classes it must raise, words of the reason.

    `by_sdk` and `by_glance` get the scene; `by_glance` the demo user's glanceclient as well. The SDK
    sends an empty Accept when it patches or uploads, so the answer is plain text as from Glance,
    which the SDK does not show: `sdk_shows` is False there. A 413 of a quota says text/plain though
    its body is HTML, as Glance's does, and glanceclient shows it as it is: `is_markup`.
    """

    name: str
    status: int
    by_sdk: Callable[[Scene], Any]
    sdk_class: type[Exception]
    by_glance: Callable[[Scene, Any], Any]
    glance_class: type[Exception]
    words: str
    sdk_shows: bool = True
    is_markup: bool = False


REFUSALS = [
    Refusal(
        "an image that does not exist",
        404,
        lambda scene: scene.demo.image.get_image("4711"),
        exceptions.NotFoundException,
        lambda scene, glance: glance.images.get("4711"),
        exc.HTTPNotFound,
        "4711",
    ),
    Refusal(
        "an image of somebody else",
        404,
        lambda scene: scene.neighbour.image.get_image(scene.active),
        exceptions.NotFoundException,
        lambda scene, glance: scene.cloud.glance_library("neighbour").images.get(scene.active),
        exc.HTTPNotFound,
        "No image found",
    ),
    Refusal(
        "the deletion of a protected image",
        403,
        lambda scene: scene.demo.image.delete_image(scene.protected),
        exceptions.ForbiddenException,
        lambda scene, glance: glance.images.delete(scene.protected),
        exc.HTTPForbidden,
        "protected",
    ),
    Refusal(
        "publishing as an ordinary user",
        403,
        lambda scene: scene.demo.image.update_image(scene.queued, visibility="public"),
        exceptions.ForbiddenException,
        lambda scene, glance: glance.images.update(scene.queued, visibility="public"),
        exc.HTTPForbidden,
        "publicize_image",
        sdk_shows=False,
    ),
    Refusal(
        "a second upload",
        409,
        lambda scene: sdk_upload(scene.demo, scene.active, DATA),
        exceptions.ConflictException,
        lambda scene, glance: glance.images.upload(scene.active, io.BytesIO(DATA)),
        exc.HTTPConflict,
        "active",
        sdk_shows=False,
    ),
    Refusal(
        "an id that is taken",
        409,
        lambda scene: scene.demo.image._create(_sdk_image(), id=scene.active, name="again"),
        exceptions.ConflictException,
        lambda scene, glance: glance.images.create(id=scene.active, name="again"),
        exc.HTTPConflict,
        "already exists",
    ),
    Refusal(
        "data beyond the largest size",
        413,
        lambda scene: sdk_upload(scene.demo, scene.queued, bytes(LARGEST_BYTES + 1)),
        exceptions.HttpException,
        lambda scene, glance: glance.images.upload(
            scene.queued, io.BytesIO(bytes(LARGEST_BYTES + 1))
        ),
        exc.HTTPOverLimit,
        str(LARGEST_BYTES),
        sdk_shows=False,
    ),
    Refusal(
        "a tag beyond the quota",
        413,
        lambda scene: scene.demo.image.update_image(scene.queued, tags=["a", "b", "c"]),
        exceptions.HttpException,
        lambda scene, glance: glance.images.update(scene.queued, tags=["a", "b", "c"]),
        exc.HTTPOverLimit,
        "maximum 2",
        sdk_shows=False,
        is_markup=True,
    ),
    Refusal(
        "a qcow2 that says it is a vmdk",
        415,
        lambda scene: sdk_upload(scene.demo, scene.queued, scene.qcow2),
        exceptions.HttpException,
        lambda scene, glance: glance.images.upload(scene.queued, io.BytesIO(scene.qcow2)),
        exc.HTTPException,
        "qcow2",
        sdk_shows=False,
    ),
    Refusal(
        "a filter with a value that cannot be",
        400,
        lambda scene: list(scene.demo.image.images(visibility="secret")),
        exceptions.BadRequestException,
        lambda scene, glance: list(glance.images.list(filters={"visibility": "secret"})),
        exc.HTTPBadRequest,
        "visibility",
    ),
    Refusal(
        "a name that is too long",
        400,
        lambda scene: scene.demo.image.update_image(scene.queued, name="n" * 256),
        exceptions.BadRequestException,
        lambda scene, glance: glance.http_client.post("/v2/images", data={"name": "n" * 256}),
        exc.HTTPBadRequest,
        "name",
        sdk_shows=False,
    ),
]


def _sdk_image() -> Any:
    from openstack.image.v2.image import Image

    return Image


def check_words(message: str, refusal: Refusal) -> None:
    """The message tells the reason to a person, without markup."""
    assert refusal.words in message
    assert refusal.is_markup or not re.search(r"</?(html|head|title|body|h1|br)\b", message), (
        message
    )
    assert "Traceback" not in message


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_openstacksdk_raises_its_class_for(scene: Scene, refusal: Refusal) -> None:
    with pytest.raises(refusal.sdk_class) as raised:
        refusal.by_sdk(scene)

    assert raised.value.status_code == refusal.status
    if refusal.sdk_shows:
        check_words(str(raised.value), refusal)
    else:
        assert refusal.words in raised.value.response.text


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_glanceclient_raises_its_class_for(scene: Scene, refusal: Refusal) -> None:
    glance = scene.cloud.glance_library("transom-demo")

    with pytest.raises(refusal.glance_class) as raised:
        refusal.by_glance(scene, glance)

    # glanceclient has no class for 415 and gives its base class, which knows the text alone.
    assert raised.value.code == (refusal.status if refusal.status != 415 else "N/A")
    assert str(refusal.status) in str(raised.value)
    check_words(str(raised.value), refusal)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_nothing_changed_after(scene: Scene, refusal: Refusal) -> None:
    before = [scene.demo.image.get_image(i).to_dict() for i in (scene.queued, scene.active)]

    with pytest.raises(refusal.sdk_class):
        refusal.by_sdk(scene)

    after = [scene.demo.image.get_image(i).to_dict() for i in (scene.queued, scene.active)]
    for image in (*before, *after):
        image.pop("updated_at")
    assert after == before
    assert scene.demo.image.get_image(scene.protected).status == "queued"


def test_failed_upload_can_be_repeated(scene: Scene) -> None:
    image_id = scene.queued
    for data in (bytes(LARGEST_BYTES + 1), scene.qcow2):
        with pytest.raises(exceptions.HttpException):
            sdk_upload(scene.demo, image_id, data)
    scene.demo.image.update_image(image_id, disk_format="raw")

    sdk_upload(scene.demo, image_id, DATA)

    assert scene.demo.image.get_image(image_id).size == len(DATA)


@pytest.mark.parametrize(
    ("method", "path", "options", "sdk_class", "words"),
    [
        ("POST", "/images/{active}/members", {"json": {}}, "BadRequestException", "member"),
        ("PUT", "/images/{queued}/tags/" + "t" * 256, {}, "BadRequestException", "255"),
        ("GET", "/images?limit=-1", {}, "BadRequestException", "limit"),
        ("GET", "/images?marker=nowhere", {}, "BadRequestException", "Marker"),
        ("PATCH", "/images/{queued}", {"json": []}, "HttpException", "json"),
        ("PUT", "/images", {}, "HttpException", "PUT"),
        ("GET", "/nowhere", {}, "NotFoundException", "could not be found"),
    ],
)
def test_sdk_reads_the_reason_of_requests_it_would_not_send_itself(
    scene: Scene, method: str, path: str, options: dict[str, Any], sdk_class: str, words: str
) -> None:
    answer = scene.demo.image.request(
        path.format(active=scene.active, queued=scene.queued), method, **options
    )

    with pytest.raises(getattr(exceptions, sdk_class)) as raised:
        exceptions.raise_from_response(answer)

    assert words in str(raised.value)
    assert "<" not in str(raised.value)


def test_openstack_command_prints_the_reason_on_one_line(scene: Scene) -> None:
    shell = scene.cloud.openstack("transom-demo")

    said = shell.fails("image", "delete", scene.protected)

    assert "ForbiddenException: 403" in said
    assert f"Image {scene.protected} is protected and cannot be deleted" in said
    assert "<" not in said


def test_glance_command_prints_the_reason(scene: Scene) -> None:
    said = scene.cloud.glance("transom-demo").fails("image-show", str(uuid.uuid4()))

    assert "HTTP 404 Not Found" in said
    assert "No image found" in said
    assert "<" not in said


def test_a_token_that_is_no_longer_valid_is_replaced_by_a_new_login(scene: Scene) -> None:
    connection = scene.cloud.sdk("transom-demo")
    old = connection.session.get_token()
    connection.identity.delete("/auth/tokens", headers={"X-Subject-Token": old})

    assert connection.image.get_image(scene.active).id == scene.active

    assert connection.session.get_token() != old
