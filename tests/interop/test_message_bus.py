"""Events on a real RabbitMQ, read by oslo.messaging's own listener, as Ceilometer and others do."""

from __future__ import annotations

import queue
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg
from oslo_service import backend

from tests.api.checks import queued
from tests.conftest import MakeServer
from tests.support.rabbit import Rabbit

with warnings.catch_warnings():
    # A library below imports eventlet where it is there, and that warns of itself.
    warnings.simplefilter("ignore")
    backend.init_backend(backend.BackendType.THREADING)
    import oslo_messaging

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    with Rabbit(tmp_path_factory.mktemp("rabbit")) as running:
        yield running


class Listener:
    """Whoever listens for Glance's notifications."""

    def __init__(self, url: str, topic: str) -> None:
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        conf = cfg.ConfigOpts()
        conf([], project="listener", default_config_files=[], default_config_dirs=[])
        transport = oslo_messaging.get_notification_transport(conf, url=url)
        self._listener = oslo_messaging.get_notification_listener(
            transport,
            [oslo_messaging.Target(topic=topic, exchange="glance")],
            [self],
            executor="threading",
        )
        self._listener.start()

    def info(
        self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any
    ) -> None:
        """An ordinary event."""
        self._note("info", ctxt, publisher_id, event_type, payload, metadata)

    def error(
        self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any
    ) -> None:
        """Something that failed."""
        self._note("error", ctxt, publisher_id, event_type, payload, metadata)

    def _note(self, priority: str, ctxt: Any, publisher_id: str, *rest: Any) -> None:
        event_type, payload, metadata = rest
        self.heard.put(
            {
                "priority": priority,
                "context": ctxt,
                "publisher_id": publisher_id,
                "event_type": event_type,
                "payload": payload,
                "message_id": metadata["message_id"],
                "timestamp": metadata["timestamp"],
            }
        )

    def wait_for(self, number: int) -> list[dict[str, Any]]:
        """The next messages, so many of them."""
        return [self.heard.get(timeout=60) for _ in range(number)]

    def stop(self) -> None:
        """Stop listening."""
        self._listener.stop()
        self._listener.wait()


@pytest.fixture
def listener(rabbit: Rabbit) -> Iterator[Listener]:
    listening = Listener(rabbit.url, "notifications")
    yield listening
    listening.stop()


def config(rabbit: Rabbit, **more: Any) -> dict[str, Any]:
    amqp = {"url": rabbit.url, "publisher_id": "image.example", **more}
    return {
        "notifications": {"amqp": amqp, "retry_seconds": 0.1, "retry_seconds_max": 1.0},
    }


@pytest.mark.parametrize("envelope", [True, False], ids=["messagingv2", "messaging"])
def test_listeners_of_glance_understand_what_is_told(
    rabbit: Rabbit, listener: Listener, make_server: MakeServer, envelope: bool
) -> None:
    server = make_server(config(rabbit, envelope=envelope))
    demo = server.log_in_to_cloud("transom-demo")
    image_id = queued(demo, disk_format="qcow2", name="ü")
    assert demo.put_data(image_id, b"no qcow2" * 100).status_code == 415
    assert demo.delete(f"/v2/images/{image_id}").status_code == 204
    heard = listener.wait_for(6)
    # Two queues, so that failures come in no order with the rest.
    ordinary = [each for each in heard if each["priority"] == "info"]
    assert [each["event_type"] for each in ordinary] == [
        *("image.create", "image.update", "image.prepare", "image.update", "image.delete")
    ]
    [failed] = [each for each in heard if each["priority"] == "error"]
    assert failed["event_type"] == "image.upload"
    assert image_id in failed["payload"]
    created = ordinary[0]
    assert created["publisher_id"] == "image.example"
    assert created["payload"]["id"] == image_id
    assert created["payload"]["name"] == "ü"
    assert set(created["payload"]) == {
        *("id", "name", "status", "created_at", "updated_at", "min_disk", "min_ram", "protected"),
        *("checksum", "owner", "disk_format", "container_format", "size", "virtual_size"),
        *("is_public", "visibility", "properties", "tags", "deleted", "deleted_at"),
    }
    assert ordinary[-1]["payload"]["deleted"] is True
    assert len({each["message_id"] for each in heard}) == 6
    time.strptime(created["timestamp"].partition(".")[0], "%Y-%m-%d %H:%M:%S")


def test_what_happens_while_the_broker_is_away_is_told_when_it_is_back(
    tmp_path_factory: pytest.TempPathFactory, make_server: MakeServer
) -> None:
    broker = Rabbit(tmp_path_factory.mktemp("rabbit-away"))
    server = make_server(
        config(broker, events=["image.create", "image.delete"], topics=["one", "two"])
    )
    demo = server.log_in_to_cloud("transom-demo")
    began = time.monotonic()
    ids = [demo.create()["id"] for _ in range(3)]
    assert demo.delete(f"/v2/images/{ids[0]}").status_code == 204
    assert time.monotonic() - began < 10
    with broker:
        for topic in ("one", "two"):
            listening = Listener(broker.url, topic)
            heard = listening.wait_for(4)
            listening.stop()
            told = [(each["event_type"], each["payload"]["id"]) for each in heard]
            assert sorted(told) == sorted(
                [*(("image.create", id_) for id_ in ids), ("image.delete", ids[0])]
            )
            assert told.index(("image.create", ids[0])) < told.index(("image.delete", ids[0]))
        deadline = time.monotonic() + 20
        while "Nothing" not in server.run(["events", "list"]):
            assert time.monotonic() < deadline
