"""MQTT with mosquitto and paho: QoS 0, at most once, nothing on disk."""

import contextlib
import os
import shutil
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion

from bench.peers.brokers import Broker, free_port, program, temporary_folder
from bench.peers.worker import End, PairedLibraryPeer, Reply, SyncSender, Take, decode, encode

TOPIC = "co2/bench"

BLOCKS_WAITING = 20
"""Blocks that may wait in the sender: the library's own queue has no bound."""


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        client = connect(address)
        client.loop_start()
        self._publish = partial(client.publish, TOPIC)
        self._last: MQTTMessageInfo | None = None
        self._waiting: deque[MQTTMessageInfo] = deque()
        self.send = self._send

    def _send(self, packed: bytes) -> None:
        self._last = self._publish(packed)

    def block_done(self) -> None:
        assert self._last
        self._waiting.append(self._last)
        if len(self._waiting) > BLOCKS_WAITING:
            self._waiting.popleft().wait_for_publish()

    def flush(self) -> None:
        assert self._last
        self._last.wait_for_publish()


class Both(End):
    def __init__(self, address: str, out: str, into: str) -> None:
        self._client, self._out, self._in = connect(address), f"{TOPIC}/{out}", f"{TOPIC}/{into}"

    def send(self, packed: bytes) -> None:
        self._client.publish(self._out, packed)

    def receive(self, reply: Reply) -> None:
        def received(_client: Client, _data: Any, message: MQTTMessage) -> None:
            if (answer := reply(decode(message.payload))) is not None:
                self.send(encode(answer))

        self._client.on_message = received
        self._client.subscribe(self._in)
        self._client.loop_forever()


class Mosquitto(PairedLibraryPeer):
    title = "mosquitto, QoS 0"
    module = __name__

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
        binary = shutil.which("mosquitto", path=search)
        if not binary:
            raise FileNotFoundError("no mosquitto here")
        port = free_port()
        with temporary_folder() as folder:
            config = Path(folder) / "mosquitto.conf"
            # No bound for what waits: by default a receiver that is slow for a moment misses messages.
            config.write_text(
                f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                "max_queued_messages 0\nset_tcp_nodelay true\n"
            )
            with program([binary, "-c", str(config)], port, folder) as pid:
                yield Broker(str(port), pid)

    def sender(self, address: str) -> SyncSender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        def received(_client: Client, _data: Any, message: MQTTMessage) -> None:
            take(decode(message.payload))

        client = connect(address)
        client.on_message = received
        client.subscribe(TOPIC)
        client.loop_forever()

    def end(self, address: str, out: str, into: str) -> End:
        return Both(address, out, into)


def connect(address: str) -> Client:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(address))
    return client


PEER = Mosquitto()
