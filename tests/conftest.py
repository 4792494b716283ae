"""For all tests: hypothesis without deadlines; Mosquitto and PulseAudio as processes, amqtt, subscribers."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from hypothesis import HealthCheck, settings
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.sound_server import PulseAudio, missing

# A busy machine is slow, not wrong.
settings.register_profile("busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy-machine")

# A shell lets what it starts in the background ignore Ctrl-C, and so would the programs that tests start and end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port():
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(port, timeout_s=10.0):
    """Returns once the port takes connections."""
    give_up_s = time.monotonic() + timeout_s
    while time.monotonic() < give_up_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port} after {timeout_s} s")


@pytest.fixture
def wait_until():
    """A function that returns once a condition holds."""

    def wait(condition, timeout_s=15.0):
        give_up_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"not so within {timeout_s:.0f} s")
            time.sleep(0.02)

    return wait


class Mosquitto:
    """A Mosquitto of its own: nothing of the machine's is touched.

    `start` begins it (again, on the same port), `stop` ends it in order, `kill` at once, `freeze` lets it hang. It
    keeps what it holds over a `stop` where persistent, else it forgets everything. A `config`, which listens on `port`,
    takes the place of all that.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        *,
        accounts: dict[str, str] | None = None,
        persistent: bool = False,
        config: str | None = None,
        port: int | None = None,
    ):
        self.port = port or free_port()
        self._process = None
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._log = folder / f"mosquitto-{self.port}.log"
        lines = [f"listener {self.port} {self.host}", "max_queued_messages 0"]
        lines += ["persistence true", f"persistence_location {folder}/"] if persistent else ["persistence false"]
        if os.geteuid() == 0:
            lines += ["user root"]  # else it becomes a user who cannot read the test's folder
        if accounts:
            passwords = folder / f"mosquitto-{self.port}.passwords"
            passwords.write_text("".join(f"{user}:{password}\n" for user, password in accounts.items()))
            passwords.chmod(0o600)
            subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        else:
            lines += ["allow_anonymous true"]
        self._config.write_text(config or "\n".join(lines) + "\n")

    @property
    def url(self):
        """The broker's address for a command line."""
        return f"mqtt://{self.host}:{self.port}"

    def start(self):
        """Starts it and waits until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([mosquitto_program(), "-c", self._config], stdout=log, stderr=log)
        try:
            wait_until_listening(self.port)
        except TimeoutError:
            raise RuntimeError(f"mosquitto does not listen:\n{self._log.read_text()}") from None

    def stop(self):
        """Ends it as a service manager would."""
        self._end(subprocess.Popen.terminate)

    def kill(self):
        """Ends it as a power cut would."""
        self._end(subprocess.Popen.kill)

    def freeze(self):
        """Lets it hang: connections stay, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how):
        if self._process is not None:
            how(self._process)
            self._process.wait(10)
            self._process = None


def mosquitto_program():
    """The path of the broker's program, or None; Debian keeps it where a user's PATH does not lead."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture
def make_mosquitto(tmp_path):
    """A function that makes brokers, not started yet; its keywords are those of Mosquitto."""
    if mosquitto_program() is None:
        pytest.skip("the program mosquitto is not installed (apt install mosquitto)")
    made = []

    def make(**settings):
        made.append(Mosquitto(tmp_path, **settings))
        return made[-1]

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture
def mosquitto(make_mosquitto):
    """A running Mosquitto without accounts: host, port, url, start(), stop(), kill()."""
    broker = make_mosquitto()
    broker.start()
    return broker


@pytest.fixture(scope="module")
def pulse(tmp_path_factory):
    """A running PulseAudio: start(), stop(), kill(), freeze(), thaw()."""
    if lacking := missing():
        pytest.skip(f"not installed: {', '.join(lacking)}")
    server = PulseAudio(tmp_path_factory.mktemp("pulse"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.start()
        yield server
        server.close()


class Relay:
    """Passes TCP connections on to a port of this machine, and cuts them in the midst of what a client sends.

    cut_after: bytes from a client after which its connection is reset, one number a connection; later ones are whole.
    """

    def __init__(self, there: int, *, host: str = "127.0.0.1", cut_after: Sequence[int] = ()):
        self.host = host
        self.cuts = 0
        self._there = there
        self._cut_after = list(cut_after)
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        """Takes no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._there))
            except OSError:
                return
            limit = self._cut_after.pop(0) if self._cut_after else None
            threading.Thread(target=self._pass, args=(near, far, limit), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, None), daemon=True).start()

    def _pass(self, source, target, limit):
        try:
            while data := source.recv(4096):
                if limit is not None and len(data) >= limit:
                    target.sendall(data[:limit])
                    self.cuts += 1
                    for side in (source, target):
                        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, no end
                    return
                limit = limit and limit - len(data)
                target.sendall(data)
        except OSError:
            return
        finally:
            for side in (source, target):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
                side.close()


@pytest.fixture
def make_relay():
    """A function that makes a Relay to a port."""
    made = []

    def make(there, **how):
        made.append(Relay(there, **how))
        return made[-1]

    yield make
    for relay in made:
        relay.close()


class AmqttBroker:
    """An amqtt broker in a thread: host, port, url, start(), stop()."""

    host = "127.0.0.1"

    def __init__(self):
        self.port = free_port()
        self._loop = None
        self._thread = None

    @property
    def url(self):
        """The broker's address for a command line."""
        return f"mqtt://{self.host}:{self.port}"

    def start(self):
        """Starts it and waits until it listens."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._broker = self._on_loop(self._make())
        self._on_loop(self._broker.start())
        wait_until_listening(self.port)

    def stop(self):
        """Ends it in order."""
        if self._thread is not None:
            self._on_loop(self._broker.shutdown())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._thread = None

    async def _make(self):
        from amqtt.broker import Broker
        from amqtt.contexts import BrokerConfig, ListenerConfig

        return Broker(
            BrokerConfig(
                listeners={"default": ListenerConfig(bind=f"{self.host}:{self.port}")},
                plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            )
        )

    def _on_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


@pytest.fixture
def amqtt_broker():
    """A running amqtt broker without accounts."""
    pytest.importorskip("amqtt", reason="amqtt is not installed (pip install amqtt)")
    broker = AmqttBroker()
    broker.start()
    yield broker
    broker.stop()


@dataclass(frozen=True)
class Heard:
    """One message as a subscriber got it; payload is the decoded JSON, or the text where it is none."""

    topic: str
    payload: object
    retained: bool

    @property
    def leaf(self):
        """The last level of the topic."""
        return self.topic.rsplit("/", 1)[1]


class Subscriber:
    """Listens to everything below edge_asd/ with QoS 1, and comes back when the broker does."""

    def __init__(self, broker, *, client_id: str, durable: bool):
        self.heard: list[Heard] = []
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=not durable)
        self._client.reconnect_delay_set(0.05, 0.2)
        self._client.on_connect = lambda client, *_: client.subscribe("edge_asd/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        if not self._subscribed.wait(10):
            raise TimeoutError("the broker did not confirm the subscription")

    def wait_for(self, enough: Callable[[list[Heard]], bool], timeout_s: float = 15.0) -> list[Heard]:
        """Everything heard so far, as soon as it is enough."""
        with self._news:
            if not self._news.wait_for(lambda: enough(self.heard), timeout_s):
                raise TimeoutError(f"not enough in {len(self.heard)} messages, the last of them {self.heard[-3:]}")
            return list(self.heard)

    def close(self):
        """Ends the subscription."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client, _data, message):
        text = message.payload.decode()
        payload = json.loads(text) if text.startswith("{") else text
        with self._news:
            self.heard.append(Heard(topic=message.topic, payload=payload, retained=message.retain))
            self._news.notify_all()


@pytest.fixture
def subscribe():
    """A function that subscribes to a broker's edge_asd/# and returns the Subscriber."""
    made = []

    def make(broker, *, durable=False):
        made.append(Subscriber(broker, client_id=f"test-{os.getpid()}-{len(made)}", durable=durable))
        return made[-1]

    yield make
    for subscriber in made:
        subscriber.close()
