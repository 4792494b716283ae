"""The shipped settings of Mosquitto, run as they are but for ports and folders: TLS, identities, ACL, persistence."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.cli import main
from edge_asd.ledger import Ledger
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics, address_of
from edge_asd.mqtt.backoff import Backoff
from edge_asd.mqtt.broker import BrokerSettings, TlsFiles
from edge_asd.mqtt.publisher import Publisher
from edge_asd.mqtt.subscription import Subscription
from edge_asd.outbox import Outbox
from firmware_configs.generate import FOLDER

SHIPPED = FOLDER / "mosquitto"
MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
AT = Moment(utc_s=1_767_225_600.0, monotonic_s=1.0, clock_synced=True)
PASSWORDS = {name: secrets.token_hex(8) for name in ("hall/fan-7", "viewer", "operator")}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The folder with those of the broker and of the device hall/orin, and of an authority that nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed (apt install openssl)")
    folder = tmp_path_factory.mktemp("certificates")
    for words in (
        [folder, "broker", "localhost", "127.0.0.1"],
        [folder, "device", "hall", "orin"],
        [folder / "foreign", "device", "hall", "orin"],
        [folder / "foreign", "broker", "127.0.0.1"],
    ):
        subprocess.run(["sh", SHIPPED / "make-certificates.sh", *words], check=True)
    return folder


@dataclass(frozen=True)
class Site:
    """The broker, its two ports, and the client's side of TLS."""

    broker: object
    by_certificate: int
    by_password: int
    certificates: Path

    def tls(self, certificate: str | None = None, authority: str = "ca.crt") -> TlsFiles:
        """Files of a client, with the certificate of that name."""
        path = self.certificates
        return TlsFiles(
            ca_file=path / authority,
            cert_file=path / f"{certificate}.crt" if certificate else None,
            key_file=path / f"{certificate}.key" if certificate else None,
        )

    def settings(self, *, user: str | None = None, protocol=5, tls: TlsFiles | None = None) -> BrokerSettings:
        """How hall/orin logs in with its certificate, or a user with a password."""
        return BrokerSettings(
            host="127.0.0.1",
            port=self.by_password if user else self.by_certificate,
            client_id=f"edge-asd-{user or 'hall-orin'}",
            username=user,
            password=PASSWORDS.get(user or ""),
            protocol=protocol,
            tls=tls or self.tls(None if user else "hall_orin"),
            connect_timeout_s=5.0,
        )


@pytest.fixture
def site(make_mosquitto, certificates, tmp_path):
    """The site's broker, running on the shipped settings."""
    folder = tmp_path / "etc"
    (folder / "certs").mkdir(parents=True)
    for name in ("ca.crt", "broker.crt", "broker.key"):
        (folder / "certs" / name).write_bytes((certificates / name).read_bytes())
    (folder / "acl").write_text((SHIPPED / "acl").read_text())
    (folder / "acl").chmod(0o600)
    (folder / "passwords").write_text("".join(f"{user}:{password}\n" for user, password in PASSWORDS.items()))
    (folder / "passwords").chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", folder / "passwords"], check=True)
    by_certificate, by_password = free_ports()
    config = (SHIPPED / "mosquitto.conf").read_text()
    for shipped, here in (
        ("/etc/mosquitto/", f"{folder}/"),
        ("/var/lib/mosquitto/", f"{tmp_path}/"),
        ("listener 8883", f"listener {by_certificate} 127.0.0.1"),
        ("listener 8884", f"listener {by_password} 127.0.0.1"),
    ):
        assert shipped in config
        config = config.replace(shipped, here)
    if os.geteuid() == 0:
        config += "user root\n"
    broker = make_mosquitto(config=config, port=by_password)
    broker.start()
    return Site(broker=broker, by_certificate=by_certificate, by_password=by_password, certificates=certificates)


def free_ports():
    """Two TCP ports that nothing listens on."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture
def publish(tmp_path):
    """A function that starts a publisher with three scores in its spool."""
    started = []

    def start(settings, device="orin"):
        outbox = Outbox(tmp_path / f"{len(started)}.db", max_bytes=1_000_000)
        outbox.put_many([score() for _ in range(3)])
        publisher = Publisher(
            settings, topics=Topics(site="hall", device=device), spool=outbox, backoff=Backoff(0.05, 0.2)
        )
        publisher.start()
        started.append((publisher, outbox))
        return publisher, outbox

    yield start
    for publisher, outbox in started:
        publisher.stop(0.0)
        outbox.close()


def score():
    return MESSAGES.score("fan", AT, score=1.0, threshold=2.0, coverage=1.0, latency_ms=5.0, engine="fake")


def heard(subscription, count, timeout_s=15.0):
    """The next messages that come."""
    give_up_s = time.monotonic() + timeout_s
    messages = []
    while len(messages) < count and time.monotonic() < give_up_s:
        message = subscription.get(0.2)
        messages += [message] if message else []
    return messages


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_device_with_a_certificate_is_its_common_name(site, publish, protocol, wait_until):
    """No password: what it publishes below its own name arrives over TLS, and the viewer reads it."""
    with Subscription(site.settings(user="viewer", protocol=protocol), ["edge_asd/#"]) as viewer:
        publisher, outbox = publish(site.settings(protocol=protocol))
        topics = [message.topic for message in heard(viewer, 4)]
    assert topics == ["edge_asd/hall/orin/availability", *["edge_asd/hall/orin/fan/score"] * 3]
    wait_until(lambda: outbox.status().messages == 0)
    assert publisher.status().trouble is None


@pytest.mark.parametrize(("user", "device"), [(None, "fan-7"), ("hall/fan-7", "orin"), ("viewer", "orin")])
def test_nobody_publishes_as_another_device(site, publish, user, device, wait_until):
    """With MQTT 5 it learns that it was refused: the messages stay in its spool, and the log says why."""
    publisher, outbox = publish(site.settings(user=user), device=device)
    wait_until(lambda: publisher.status().trouble is not None)
    assert "it refused messages (Not authorized), which wait in the spool; check that its ACL lets user" in (
        publisher.status().trouble
    )
    assert (outbox.status().messages, publisher.status().acknowledged) == (3, 0)


def test_device_with_a_password_is_its_user(site, publish, wait_until):
    """The other way in, over TLS too: what it publishes is acknowledged."""
    publisher, outbox = publish(site.settings(user="hall/fan-7"), device="fan-7")
    wait_until(lambda: outbox.status().messages == 0)
    assert publisher.status().acknowledged == 3
    assert publisher.status().trouble is None


def test_commands_go_from_operators_to_their_device_alone(site):
    """A device reads its own commands; a viewer gives none, and another device reads none of them."""
    topic = "edge_asd/hall/orin/fan/command"
    with (
        Subscription(site.settings(), ["edge_asd/+/+/+/command"]) as orin,
        Subscription(site.settings(user="hall/fan-7"), ["edge_asd/+/+/+/command"]) as other,
    ):
        for user in ("viewer", "operator"):
            client = site.settings(user=user).client(reconnect=False)
            site.settings(user=user).connect(client)
            client.loop_start()
            client.publish(topic, user, qos=1).wait_for_publish(10)
            client.disconnect()
            client.loop_stop()
        assert [message.payload for message in heard(orin, 1)] == [b"operator"]
        assert heard(other, 1, timeout_s=0.5) == []


def test_broker_with_a_foreign_certificate_is_not_trusted(site, publish, wait_until):
    """Nothing is sent to it, not even the login; the message says what to check."""
    publisher, _ = publish(site.settings(tls=site.tls("hall_orin", authority="foreign/ca.crt")))
    wait_until(lambda: publisher.status().trouble is not None)
    assert "its certificate is not trusted (self-signed certificate in certificate chain)" in publisher.status().trouble
    assert "check that ca_file holds its authority" in publisher.status().trouble


def test_broker_of_another_name_is_not_trusted(site, publish, make_relay, wait_until):
    """Its certificate is for localhost and 127.0.0.1, so 127.0.0.2 may be anyone."""
    relay = make_relay(site.by_password, host="127.0.0.2")
    settings = site.settings(user="hall/fan-7")
    publisher, _ = publish(replace(settings, host="127.0.0.2", port=relay.port))
    wait_until(lambda: publisher.status().trouble is not None)
    assert "IP address mismatch" in publisher.status().trouble


@pytest.mark.parametrize("certificate", [None, "foreign/hall_orin"])
def test_device_without_a_good_certificate_is_kept_out(site, publish, certificate, wait_until):
    """None, or one that another authority signed: no connection, and a message that thinks of the certificate."""
    publisher, outbox = publish(site.settings(tls=site.tls(certificate)))
    wait_until(lambda: publisher.status().trouble is not None)
    assert "whether it trusts this client's certificate" in publisher.status().trouble
    assert publisher.status().connections == 0
    assert outbox.status().messages == 3


def test_plain_connection_is_kept_out(site):
    """No listener speaks MQTT without TLS."""
    for port in (site.by_certificate, site.by_password):
        answers = []
        client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.on_connect = lambda *_, answers=answers: answers.append("connected")
        client.connect("127.0.0.1", port)
        client.loop_start()
        time.sleep(0.3)
        client.disconnect()
        client.loop_stop()
        assert answers == []


def test_messages_for_an_absent_subscriber_outlive_the_broker(site, publish, wait_until):
    """Persistence: stopped and started, it still has what was acknowledged to the device."""
    settings = site.settings(user="viewer", protocol="3.1.1")
    away = settings.client(reconnect=False, session_s=60)
    subscribed = threading.Event()
    away.on_connect = lambda client, *_: client.subscribe("edge_asd/#", qos=1)
    away.on_subscribe = lambda *_: subscribed.set()
    settings.connect(away, session_s=60)
    away.loop_start()
    assert subscribed.wait(10)
    away.disconnect()
    away.loop_stop()
    _, outbox = publish(site.settings())
    wait_until(lambda: outbox.status().messages == 0)
    site.broker.stop()
    site.broker.start()
    with Subscription(settings, ["edge_asd/#"], session_s=60) as viewer:
        topics = [message.topic for message in heard(viewer, 4) if message.topic.endswith("score")]
    assert topics == ["edge_asd/hall/orin/fan/score"] * 3


def test_commands_take_tls_from_their_options(site, publish, capsys):
    """Watch and audit: mqtts, an authority, a password in the URL or a certificate; a wrong file is named."""
    url = f"mqtts://viewer:{PASSWORDS['viewer']}@127.0.0.1:{site.by_password}"
    ca = ["--ca", str(site.certificates / "ca.crt")]
    publish(site.settings())
    time.sleep(0.5)
    assert main(["watch", "--url", url, *ca, "--json", "--duration", "0.5"]) == 0
    assert '"payload": "online"' in capsys.readouterr().out
    certificate = [
        "--cert",
        str(site.certificates / "hall_orin.crt"),
        "--key",
        str(site.certificates / "hall_orin.key"),
    ]
    by_certificate = ["audit", "--url", f"mqtts://127.0.0.1:{site.by_certificate}", *ca]
    assert main([*by_certificate, *certificate, "--duration", "0.3"]) == 69  # a device may not read what devices say
    assert "no message was heard" in capsys.readouterr().err
    assert main(["watch", "--url", url, "--ca", str(SHIPPED / "acl"), "--duration", "0.1"]) == 69
    assert "acl: NO_CERTIFICATE_OR_CRL_FOUND; expected certificates of authorities in PEM" in capsys.readouterr().err
    assert main(["watch", "--url", url, "--cert", "x.crt"]) == 2
    assert main(["watch", "--url", "mqtt://localhost", *ca]) == 2


def test_daemon_reports_over_tls_with_credentials_of_its_unit(site, tmp_path):
    """The real one, as systemd starts it: certificate and key from $CREDENTIALS_DIRECTORY, MQTT 5, nothing missing."""
    config = yaml.safe_load((FOLDER / "demo.yaml").read_text())
    motor = config["machines"][0]
    motor["source"] = {"clips": [str(FOLDER / motor["source"]["clips"][0])], "speed": 1000.0}
    config |= {"site": "hall", "device": "orin", "machines": [motor], "state_dir": str(tmp_path / "state")}
    config["bundle"] = str(FOLDER / config["bundle"])
    config["mqtt"] = {
        "url": f"mqtts://127.0.0.1:{site.by_certificate}",
        "protocol": 5,
        "ca_file": str(site.certificates / "ca.crt"),
        "cert_file": "$CREDENTIALS_DIRECTORY/hall_orin.crt",
        "key_file": "$CREDENTIALS_DIRECTORY/hall_orin.key",
    }
    (tmp_path / "device.yaml").write_text(yaml.safe_dump(config))
    with Subscription(site.settings(user="viewer"), ["edge_asd/#"]) as viewer:
        done = subprocess.run(
            [sys.executable, "-m", "edge_asd.cli", "run", "--config", tmp_path / "device.yaml"],
            check=False,
            env=os.environ | {"CREDENTIALS_DIRECTORY": str(site.certificates)},
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        messages = heard(viewer, 1_000, timeout_s=1.0)
    assert [message.payload for message in messages if message.topic.endswith("availability")] == [
        b"online",
        b"stopped",
    ]
    ledger = Ledger()
    for message in messages:
        if not message.topic.endswith("availability"):
            ledger.hear(address_of(message.topic), json.loads(message.payload), retained=message.retained)
    assert [(account.first, account.unexplained) for account in ledger.accounts()] == [(1, 0), (1, 0)]


def test_names_that_would_reach_beyond_a_device_get_no_certificate(tmp_path):
    """A + in a common name would be a wildcard in the ACL."""
    done = subprocess.run(
        ["sh", SHIPPED / "make-certificates.sh", tmp_path, "device", "hall", "+"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, list(tmp_path.glob("*+*"))) == (2, [])
    assert "names without / + # *" in done.stderr


@pytest.mark.parametrize("allowed", [False, True])
def test_announcement_to_home_assistant_holds_nothing_up(site, publish, tmp_path, caplog, *, allowed, wait_until):
    """Its lines of the ACL are shipped with a #: without them it is refused and logged, and messages go their way."""
    if allowed:
        acl = tmp_path / "etc" / "acl"
        acl.write_text(acl.read_text().replace("#pattern", "pattern"))
        site.broker.stop()
        site.broker.start()
    publisher, outbox = publish(site.settings())
    publisher.keep("homeassistant/device/edge-asd-orin/config", b"{}")
    wait_until(lambda: outbox.status().messages == 0)
    outbox.put_many([score()])
    publisher.notify()
    wait_until(lambda: outbox.status().messages == 0)
    refused = "the MQTT broker refused a message to homeassistant/device/edge-asd-orin/config (Not authorized)"
    assert (refused in caplog.text) != allowed
    assert publisher.status().trouble is None
    assert publisher.status().connections == 1
