"""What is in the data decides: format verification and safety checks (lifecycle §7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.api import disk_images as made
from tests.api.checks import EMPTY, check_still_queued, queued
from tests.api.configs import OWN_FORMATS
from tests.conftest import MakeImage, ServerWith
from tests.support.server import Client, told

Maker = Callable[[], bytes]

PROPER: dict[str, list[tuple[str, Maker]]] = {
    "qcow2": [("v3", made.qcow2), ("v2", lambda: made.qcow2(version=2))],
    "vhd": [("dynamic", made.vhd)],
    "vhdx": [("plain", made.vhdx)],
    "vmdk": [("sparse", made.vmdk), ("streamed", made.vmdk_streamed)],
    "vdi": [("plain", made.vdi)],
    "iso": [("plain", made.iso), ("hybrid", made.hybrid_iso)],
}
UNSAFE: list[tuple[str, str, Maker]] = [
    ("qcow2 of version 4", "qcow2", lambda: made.qcow2(version=4)),
    ("qcow2 of version 1", "qcow2", lambda: made.qcow2(version=1)),
    ("qcow2 with a backing file", "qcow2", lambda: made.qcow2(backing_offset=512)),
    ("qcow2 v2 with a backing file", "qcow2", lambda: made.qcow2(version=2, backing_offset=512)),
    ("qcow2 with a data file", "qcow2", lambda: made.qcow2(incompatible=4)),
    ("qcow2 v2 with the data file bit", "qcow2", lambda: made.qcow2(version=2, incompatible=4)),
    ("qcow2 with an unknown feature", "qcow2", lambda: made.qcow2(incompatible=1 << 4)),
    ("qcow2 with a high unknown feature", "qcow2", lambda: made.qcow2(incompatible=1 << 63)),
    (
        "vmdk that names a host file",
        "vmdk",
        lambda: made.vmdk(made.descriptor(extent='RW 16384 SPARSE "/etc/passwd"')),
    ),
    (
        "vmdk that names a file elsewhere",
        "vmdk",
        lambda: made.vmdk(made.descriptor(extent='RW 16384 SPARSE "../other.vmdk"')),
    ),
    (
        "vmdk of flat extents",
        "vmdk",
        lambda: made.vmdk(made.descriptor("monolithicFlat", 'RW 16384 FLAT "flat.vmdk" 0')),
    ),
    ("vmdk without extents", "vmdk", lambda: made.vmdk(made.descriptor(extent=""))),
    (
        "vmdk with a strange line",
        "vmdk",
        lambda: made.vmdk(made.descriptor(extra="two words = x y z here")),
    ),
    ("vmdk that is no ASCII", "vmdk", lambda: made.vmdk(made.descriptor(extra="# \xff"))),
    ("vmdk of a descriptor alone", "vmdk", made.vmdk_descriptor_only),
    ("qed", "raw", made.qed),
    ("disk with a broken MBR", "raw", lambda: made.mbr(boot_flag=5)),
    ("luks of version 2", "raw", lambda: made.luks(version=2)),
]
proper = pytest.mark.parametrize(
    ("disk_format", "make"),
    [
        pytest.param(disk_format, make, id=f"{disk_format}-{variant}")
        for disk_format, variants in PROPER.items()
        for variant, make in variants
    ],
)


@proper
def test_data_in_the_declared_format_gives_the_virtual_size(
    owner: Client, image: MakeImage, disk_format: str, make: Maker
) -> None:
    data = make()
    shown = image(data=data, disk_format=disk_format)
    assert shown["size"] == len(data)
    assert shown["virtual_size"] == made.DISK_SIZE
    assert owner.get(shown["file"]).content == data


@proper
@pytest.mark.parametrize("chunk", [1, 7, 511])
def test_verdict_does_not_depend_on_how_the_data_arrives(
    owner: Client, image: MakeImage, disk_format: str, make: Maker, chunk: int
) -> None:
    data = make()
    # The header in small pieces, the rest in one: thousands of tiny pieces only cost time.
    head = [data[start : start + chunk] for start in range(0, 1200 - 1200 % chunk, chunk)]
    rest = data[sum(map(len, head)) :]
    image_id = image(disk_format=disk_format, container_format="bare")["id"]
    answer = owner.put_data(image_id, iter([*head, rest]))
    assert answer.status_code == 204, told(answer)
    assert owner.show(image_id)["virtual_size"] == made.DISK_SIZE


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=f"{disk_format}-{variant}")
        for disk_format, variants in PROPER.items()
        for variant, make in variants
        if make is not made.hybrid_iso  # iso and gpt together is defined for iso only
    ],
)
def test_safe_data_of_any_format_may_be_declared_raw(image: MakeImage, make: Maker) -> None:
    data = make()
    shown = image(data=data, disk_format="raw")
    assert shown["virtual_size"] == len(data), "a raw disk is as large as its bytes"


@pytest.mark.parametrize("declared", [*PROPER, "ami", "ari", "aki", "ploop", "raw"])
@pytest.mark.parametrize("disk_format", list(PROPER))
def test_data_in_another_format_is_refused_and_leaves_the_image_queued(
    owner: Client, image: MakeImage, disk_format: str, declared: str
) -> None:
    data = PROPER[disk_format][0][1]()
    image_id = image(disk_format=declared, container_format="bare")["id"]
    answer = owner.put_data(image_id, data)
    if declared in (disk_format, "raw"):
        assert answer.status_code == 204, told(answer)
        return
    assert answer.status_code == 415, told(answer)
    shown = owner.show(image_id)
    assert {name: shown[name] for name in EMPTY} == EMPTY
    assert owner.get(f"/v2/images/{image_id}/file").status_code == 204
    # What failed can be mended and repeated.
    owner.patch(
        f"/v2/images/{image_id}", [{"op": "replace", "path": "/disk_format", "value": disk_format}]
    )
    assert owner.upload(image_id, data)["virtual_size"] == made.DISK_SIZE


@pytest.mark.parametrize("declared", list(PROPER))
def test_unrecognised_data_is_only_raw(owner: Client, image: MakeImage, declared: str) -> None:
    image_id = image(disk_format=declared, container_format="bare")["id"]
    answer = owner.put_data(image_id, made.raw())
    assert answer.status_code == 415, told(answer)
    shown = owner.show(image_id)
    assert {name: shown[name] for name in EMPTY} == EMPTY


@pytest.mark.parametrize("declared", ["ami", "ari", "aki", "ploop"])
def test_formats_without_an_inspector_take_unrecognised_data(
    image: MakeImage, declared: str
) -> None:
    assert image(data=made.raw(), disk_format=declared)["virtual_size"] is None


@pytest.mark.parametrize(
    ("make", "size"),
    [(made.mbr, 4096), (made.gpt, 4096), (made.luks, 8192)],
    ids=["mbr", "gpt", "luks"],
)
def test_disks_without_a_format_of_their_own_are_raw(
    image: MakeImage, make: Maker, size: int
) -> None:
    assert image(data=make(), disk_format="raw")["virtual_size"] == size


@pytest.mark.parametrize(
    ("disk_format", "length"), [("qcow2", 511), ("qcow2", 100), ("qcow2", 4), ("qcow2", 1)]
)
def test_file_that_ends_inside_its_header_is_not_that_format(
    owner: Client, image: MakeImage, disk_format: str, length: int
) -> None:
    data = made.qcow2()[:length]
    image_id = image(disk_format=disk_format, container_format="bare")["id"]
    assert owner.put_data(image_id, data).status_code == 415
    check_still_queued_as_raw(owner, image_id)


def check_still_queued_as_raw(owner: Client, image_id: str) -> None:
    """The image waits; as raw it takes any data."""
    owner.patch(
        f"/v2/images/{image_id}", [{"op": "replace", "path": "/disk_format", "value": "raw"}]
    )
    check_still_queued(owner, image_id)


@pytest.mark.parametrize("make", [made.vdi, made.gpt], ids=["vdi", "gpt"])
def test_511_bytes_are_only_raw(image: MakeImage, make: Maker) -> None:
    assert image(data=make()[:511], disk_format="raw")["virtual_size"] == 511


@pytest.mark.parametrize(("_what", "disk_format", "make"), UNSAFE, ids=[row[0] for row in UNSAFE])
@pytest.mark.parametrize("as_raw", [False, True], ids=["declared", "as-raw"])
def test_unsafe_data_is_refused_and_leaves_the_image_queued(
    owner: Client,
    image: MakeImage,
    _what: str,
    disk_format: str,
    make: Maker,
    as_raw: bool,
) -> None:
    declared = "raw" if as_raw else disk_format
    image_id = image(disk_format=declared, container_format="bare")["id"]
    answer = owner.put_data(image_id, make())
    assert answer.status_code == 415, told(answer)
    check_still_queued_as_raw(owner, image_id)


@pytest.mark.parametrize("declared", ["qcow2", "vdi", "raw"])
def test_two_formats_at_once_are_refused(owner: Client, image: MakeImage, declared: str) -> None:
    image_id = image(disk_format=declared, container_format="bare")["id"]
    answer = owner.put_data(image_id, made.qcow2_and_vdi())
    assert answer.status_code == 415, told(answer)
    check_still_queued_as_raw(owner, image_id)


@pytest.mark.parametrize("container", ["ami", "ari", "aki", "ovf", "ova", "docker", "compressed"])
def test_only_bare_containers_are_inspected(image: MakeImage, container: str) -> None:
    for data in (made.raw(), made.qcow2(), made.qcow2(backing_offset=512)):
        shown = image(data=data, disk_format="qcow2", container_format=container)
        assert shown["virtual_size"] is None


@pytest.mark.parametrize("declared", [*PROPER, "raw", "ploop"])
def test_no_bytes_match_every_format(image: MakeImage, declared: str) -> None:
    shown = image(data=b"", disk_format=declared)
    assert shown["size"] == 0
    assert shown["virtual_size"] is None


def test_virtual_size_of_zero_stays_null(image: MakeImage) -> None:
    assert image(data=made.qcow2(size=0), disk_format="qcow2")["virtual_size"] is None


def test_virtual_size_may_be_huge(image: MakeImage) -> None:
    shown = image(data=made.qcow2(size=(1 << 63) - 1), disk_format="qcow2")
    assert shown["virtual_size"] == (1 << 63) - 1


def test_virtual_size_that_no_column_can_hold_never_breaks_the_server(
    owner: Client, image: MakeImage
) -> None:
    image_id = image(disk_format="qcow2", container_format="bare")["id"]
    answer = owner.put_data(image_id, made.qcow2(size=(1 << 64) - 1))
    assert answer.status_code in (204, 415), told(answer)
    expected = "active" if answer.status_code == 204 else "queued"
    assert owner.show(image_id)["status"] == expected


class TestWithoutVerification:
    """`images.verify_formats = false`: mismatches pass, unsafe data does not."""

    CONFIG = {"images": {"verify_formats": False}}

    @pytest.mark.parametrize(
        ("declared", "make"),
        [
            ("vmdk", made.qcow2),
            ("qcow2", made.raw),
            ("qcow2", made.qcow2_and_vdi),
            ("aki", lambda: made.mbr(boot_flag=5)),
            ("ari", lambda: made.mbr(boot_flag=5)),
        ],
    )
    def test_mismatch_is_accepted_without_a_virtual_size(
        self, server_with: ServerWith, declared: str, make: Maker
    ) -> None:
        demo = server_with(self.CONFIG).demo
        shown = demo.upload(queued(demo, disk_format=declared), make())
        assert shown["virtual_size"] is None

    def test_match_still_gives_the_virtual_size(self, server_with: ServerWith) -> None:
        demo = server_with(self.CONFIG).demo
        shown = demo.upload(queued(demo, disk_format="qcow2"), made.qcow2())
        assert shown["virtual_size"] == made.DISK_SIZE

    @pytest.mark.parametrize(
        ("_what", "disk_format", "make"), UNSAFE, ids=[row[0] for row in UNSAFE]
    )
    @pytest.mark.parametrize("declared", ["own", "vdi", "raw"])
    def test_unsafe_data_is_still_refused(
        self, server_with: ServerWith, _what: str, disk_format: str, make: Maker, declared: str
    ) -> None:
        demo = server_with(self.CONFIG).demo
        image_id = queued(demo, disk_format=disk_format if declared == "own" else declared)
        answer = demo.put_data(image_id, make())
        assert answer.status_code == 415, told(answer)
        assert demo.show(image_id)["status"] == "queued"


class TestGpt:
    """`gpt` as a disk format, and its one check."""

    def test_gpt_is_a_format_where_it_is_listed(self, server_with: ServerWith) -> None:
        demo = server_with(OWN_FORMATS).demo
        for make in (made.gpt, made.mbr):
            shown = demo.upload(queued(demo, disk_format="gpt"), make())
            assert shown["virtual_size"] == 4096

    def test_formats_that_are_not_listed_are_refused(self, server_with: ServerWith) -> None:
        demo = server_with(OWN_FORMATS).demo
        answer = demo.post("/v2/images", json={"disk_format": "qcow2"})
        assert answer.status_code == 400, told(answer)
        schema = demo.get("/v2/schemas/image").json()
        assert schema["properties"]["disk_format"]["enum"] == [None, "raw", "gpt", "iso"]

    @pytest.mark.parametrize("declared", ["gpt", "raw"])
    def test_named_check_only_warns(self, server_with: ServerWith, declared: str) -> None:
        demo = server_with(OWN_FORMATS).demo
        demo.upload(queued(demo, disk_format=declared), made.mbr(boot_flag=5))
