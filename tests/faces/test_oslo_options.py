"""``rdkafka://`` is configured by file and URL: what reaches the clients, what is refused, and that secrets stay so."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from support.oslo import GROUP, cfg, configuration, oslo_messaging, transport

from rdknotify import consumer, options, oslo_driver, producer
from rdknotify.errors import ConfigError
from rdknotify.option_table import OPTIONS
from rdknotify.options import Settings

URL = "rdkafka://user:url-secret@broker:9092/"
SECRETS = ("url-secret", "key-secret", "property-secret")
OURS = {
    option.oslo
    for option in OPTIONS
    if not option.instead and option.type is not Callable and option.roles != ("share consumer",)
}
VALUES: Mapping[str, Any] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-256",
    "ssl_cafile": "/etc/ca.pem",
    "ssl_client_cert_file": "/etc/client.pem",
    "ssl_client_key_file": "/etc/client.key",
    "ssl_client_key_password": "key-secret",
    "connect_timeout": 2.5,
    "statistics_interval": 15.0,
    "debug": "broker",
    "producer_batch_timeout": 0.25,
    "producer_batch_size": 10,
    "producer_batch_bytes": 2000,
    "compression_codec": "zstd",
    "max_in_flight": 300,
    "queue_timeout": 1.5,
    "delivery_timeout": 60.0,
    "flush_timeout": 4.5,
    "consumer_group": "billing",
    "auto_offset_reset": "latest",
    "group_protocol": "consumer",
    "assignment_strategy": "range",
    "create_topics": False,
    "max_poll_records": 7,
    "kafka_consumer_timeout": 0.5,
    "kafka_max_fetch_bytes": 4096,
    "enable_auto_commit": True,
    "commit_timeout": 3.5,
    "close_timeout": 1.25,
    "settle": "after",
    "max_deliveries": 2,
    "retry_delay": 0.75,
    "dead_letter_topic": "given-up",
    "stop_timeout": 6.5,
    "requeue_unsupported": "warn",
    "notify_wait": True,
    "notification_key": "publisher_id",
}
"""A value that is not the default for each option, by its name in the group."""
OAUTH = {
    "oauth_token_url": "https://host/token",
    "oauth_client_id": "billing",
    "oauth_client_secret": "oauth-secret",
    "oauth_client_secret_file": "/run/secrets/billing",
    "oauth_scope": "kafka",
}
"""The same for other ways to say who we are."""
PROPERTIES = {"socket.timeout.ms": "3000", "ssl.keystore.password": "property-secret"}
LIBRDKAFKA = ",".join(f"{name}:{value}" for name, value in PROPERTIES.items())

auto_commit_warns = pytest.mark.filterwarnings("ignore:enable_auto_commit=true has no effect:UserWarning")


def spied(monkeypatch: pytest.MonkeyPatch, *modules: Any) -> dict[str, Settings]:
    """The settings of each role that these modules resolved last."""
    found: dict[str, Settings] = {}

    def resolve(url: Any, role: Any, *given: Any) -> Settings:
        found[role] = options.resolve(url, role, *given)
        return found[role]

    for module in modules:
        monkeypatch.setattr(module, "resolve", resolve)
    return found


# -- what reaches the clients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["file", "URL"])
@auto_commit_warns
def test_every_option_reaches_the_settings(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {*VALUES, *OAUTH, "credentials_file", "librdkafka"} == OURS
    settings = spied(monkeypatch, oslo_driver)
    given = {**VALUES, "librdkafka": LIBRDKAFKA}
    if source == "file":
        transport(URL, configuration(tmp_path / "service.conf", **given))
    else:
        transport(f"{URL}?{urlencode(given)}")
    for option in OPTIONS:
        if option.oslo in VALUES and not option.instead:
            for role in {*option.roles} & {*settings}:
                assert settings[role].values[option.name] == VALUES[option.oslo], f"{option.name} of the {role}"
    for role in ("producer", "consumer"):
        conf = settings[role].conf
        assert conf.items() >= PROPERTIES.items()
        assert (conf["sasl.username"], conf["sasl.password"]) == ("user", "url-secret")


@pytest.mark.parametrize("source", ["file", "URL"])
def test_tokens_in_place_of_a_password(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = spied(monkeypatch, oslo_driver)
    given = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", **OAUTH}
    if source == "file":
        transport("rdkafka://broker", configuration(tmp_path / "service.conf", **given))
    else:
        transport(f"rdkafka://broker?{urlencode(given)}")
    for role in ("producer", "consumer"):
        assert settings[role].values.items() >= OAUTH.items()
        assert "oauth-secret" not in repr(settings[role])


def test_a_password_in_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = spied(monkeypatch, oslo_driver)
    (tmp_path / "password").write_text("file-secret\n")
    given = {"security_protocol": "SASL_SSL", "credentials_file": str(tmp_path)}
    transport("rdkafka://nova@broker", configuration(tmp_path / "service.conf", **given))
    for role in ("producer", "consumer"):
        assert settings[role].conf.items() >= {"sasl.username": "nova", "sasl.password": "file-secret"}.items()


def test_an_option_has_its_default_of_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = spied(monkeypatch, oslo_driver)
    transport("rdkafka://broker/")
    assert settings["producer"].conf["linger.ms"] == "1"
    assert settings["producer"].conf["bootstrap.servers"] == "broker:9092"
    assert settings["consumer"].values["start"] == "earliest"


def test_the_url_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = spied(monkeypatch, oslo_driver)
    conf = configuration(tmp_path / "service.conf", max_poll_records=5, consumer_group="file", librdkafka=LIBRDKAFKA)
    transport("rdkafka://broker/?max_poll_records=9&socket.timeout.ms=2000", conf)
    assert settings["consumer"].values["max_poll_records"] == 9
    assert settings["consumer"].values["consumer_group"] == "file"
    assert settings["consumer"].conf["socket.timeout.ms"] == "2000"


def test_the_clients_are_made_from_these_settings(
    mock_cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, made = spied(monkeypatch, oslo_driver), spied(monkeypatch, producer, consumer)
    given = {"consumer_group": "billing", "max_poll_records": 7, "compression_codec": "gzip", "librdkafka": LIBRDKAFKA}
    with_file = configuration(tmp_path / "service.conf", **given)
    here = transport(f"rdkafka://{mock_cluster.bootstrap_servers}/?max_in_flight=300", with_file)
    oslo_messaging.Notifier(here, "p", driver="messagingv2", topics=["t"]).info({}, "e", {})
    listener = oslo_messaging.get_notification_listener(here, [oslo_messaging.Target(topic="t")], [Endpoint()])
    listener.start()
    listener.stop()
    listener.wait()
    here.cleanup()
    for role in ("producer", "consumer"):
        assert made[role].conf == checked[role].conf
    assert made["consumer"].conf["group.id"] == "billing"


class Endpoint:
    def info(self, *call: Any) -> None:
        pass


# -- what is refused ---------------------------------------------------------------------------------------------------

WRONG_URLS = {
    "rdkafka://broker/?max_pol_records=5": ("max_pol_records", "max_poll_records"),
    "rdkafka://broker/?max_poll_records=many": ("max_poll_records", "many", "whole number"),
    "rdkafka://broker/?max_poll_records=0": ("max_poll_records", "within 1.."),
    "rdkafka://broker/?compression_codec=brotli": ("compression_codec", "brotli", "zstd"),
    "rdkafka://broker/?settle=later": ("settle", "later", "before"),
    "rdkafka://broker/?notify_wait=perhaps": ("notify_wait", "perhaps"),
    "rdkafka://broker/?librdkafka=client.id": ("librdkafka",),
    "rdkafka://broker/?group.id=g": ("group.id", "consumer_group"),
    "rdkafka://broker//": ("virtual_host", "'/'"),
    "rdkafka://broker/a%20b": ("virtual_host", "'a b'"),
    "rdkafka:///": ("host",),
    "rdkafka://": ("host",),
    "rdkafka://broker:99999/": ("port", "65535"),
    "rdkafka://a:1@one,b:2@two/": ("credentials",),
}
WRONG_VALUES = {
    "max_poll_records": ("many", "0"),
    "compression_codec": ("brotli",),
    "security_protocol": ("TLS",),
    "sasl_mechanism": ("CRAM-MD5",),
    "ssl_client_cert_file": ("/a/certificate/without/key",),
    "settle": ("later",),
    "delivery_timeout": ("0",),
    "notify_wait": ("perhaps",),
    "librdkafka": ("without a colon", "group.id:g", "enable.auto.commit:true", "consumer_group:g"),
}


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_url_is_refused_when_the_transport_is_made(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        transport(url)
    for part in WRONG_URLS[url]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_VALUES.items() for value in values]
)
def test_a_wrong_value_in_the_file_is_refused_when_the_transport_is_made(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        transport("rdkafka://broker/", configuration(tmp_path / "service.conf", **{name: value}))
    property_name, colon, _ = value.partition(":")
    assert (property_name if colon else name) in str(caught.value)


def test_a_topic_that_kafka_forbids_is_refused_when_it_is_used(caplog: pytest.LogCaptureFixture) -> None:
    here = transport("rdkafka://broker/")
    oslo_messaging.Notifier(here, "p", driver="messagingv2", topics=["no topic"]).info({}, "e", {})
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert isinstance(record.exc_info[1], ConfigError)
    assert "'no topic" in str(record.exc_info[1])

    target = oslo_messaging.Target(topic="no topic")
    with pytest.raises(ConfigError, match="'no topic"):
        oslo_messaging.get_notification_listener(here, [target], [Endpoint()]).start()


rpc_client = getattr(oslo_messaging, "get_rpc_client", oslo_messaging.RPCClient)
"""Before release 14.1 there was only the class."""


@pytest.mark.parametrize(
    "use",
    [
        lambda here, target: rpc_client(here, target).call({}, "method"),
        lambda here, target: rpc_client(here, target).cast({}, "method"),
        lambda here, target: oslo_messaging.get_rpc_server(here, target, [Endpoint()]).start(),
    ],
    ids=["call", "cast", "server"],
)
def test_rpc_is_refused_and_another_transport_named(use: Callable[[Any, Any], Any]) -> None:
    # The global one: what oslo.messaging registers there for its RPC clients it registers nowhere else.
    here = oslo_messaging.get_rpc_transport(cfg.CONF, url="rdkafka://broker/")
    with pytest.raises(NotImplementedError, match="rabbit://"):
        use(here, oslo_messaging.Target(topic="t", server="s"))


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """At DEBUG, by whichever logger."""
    caplog.set_level(logging.DEBUG)
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and logger.level:
            caplog.set_level(logging.DEBUG, name)
    return caplog


def assert_no_secret(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.filterwarnings("ignore:the URL's credentials are not used:UserWarning")
@pytest.mark.filterwarnings("ignore:.* not used. security_protocol=PLAINTEXT:UserWarning")
def test_no_secret_is_in_any_log(
    mock_cluster, tmp_path: Path, everything_logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {"ssl_client_key_password": "key-secret", "librdkafka": f"{LIBRDKAFKA},debug:all"}
    conf = configuration(tmp_path / "service.conf", **given)
    here = transport(f"rdkafka://user:url-secret@{mock_cluster.bootstrap_servers}/", conf)
    oslo_messaging.Notifier(here, "p", driver="messagingv2", topics=["t"]).info({}, "e", {})
    listener = oslo_messaging.get_notification_listener(here, [oslo_messaging.Target(topic="t")], [Endpoint()])
    listener.start()
    conf.log_opt_values(logging.getLogger("service"), logging.DEBUG)
    listener.stop()
    listener.wait()
    here.cleanup()

    output = capfd.readouterr()
    text = everything_logged.text + output.out + output.err
    for told in ("ssl_client_key_password", "librdkafka", "ssl.keystore.password"):
        assert told in text
    assert_no_secret(text)
    assert_no_secret(f"{here._driver} {here._driver!r} {here!r}")


WRONG_WITH_SECRET = [
    "rdkafka://user:url-secret@broker/?max_poll_records=many",
    "rdkafka://user:url-secret@broker:99999/",
    "rdkafka://user:url-secret@broker//",
    "rdkafka://user:url-secret@one,other:key-secret@two/",
    "rdkafka://:url-secret@broker/",
    "rdkafka://broker/?sasl.password=property-secret",
    "rdkafka://broker/?librdkafka=sasl.password:property-secret",
    "rdkafka://broker/?librdkafka=ssl.key.password%3Dproperty-secret",
    "rdkafka://broker/?ssl_client_key_pasword=key-secret",
]


@pytest.mark.parametrize("url", WRONG_WITH_SECRET)
def test_no_secret_of_a_wrong_url_is_in_the_error_or_a_log(
    url: str, everything_logged: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError) as caught:
        transport(url)
    assert_no_secret("".join(traceback.format_exception(caught.value)) + everything_logged.text)


@pytest.mark.parametrize("value", ["sasl.password:property-secret", "ssl.key.password=property-secret"])
def test_no_secret_of_a_wrong_file_is_in_the_error_or_a_log(
    value: str, tmp_path: Path, everything_logged: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError) as caught:
        transport("rdkafka://broker/", configuration(tmp_path / "service.conf", librdkafka=value))
    assert_no_secret("".join(traceback.format_exception(caught.value)) + everything_logged.text)


# -- beside oslo.messaging's own ---------------------------------------------------------------------------------------


def run(program: str) -> str:
    """The output of a fresh Python, in which nothing was imported before."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_an_option_that_only_the_other_driver_has_is_said_to_have_no_effect(tmp_path: Path) -> None:
    file = tmp_path / "service.conf"
    file.write_text(f"[{GROUP}]\nused = 3\n")
    told = run(f"""
import logging, sys
from oslo_config import cfg
from oslo_messaging._drivers.kafka_driver import kafka_options
kafka_options.KAFKA_OPTS += [cfg.IntOpt("used"), cfg.IntOpt("unused")]  # as another release may have
import oslo_messaging
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
conf = cfg.ConfigOpts()
conf(["--config-file", {str(file)!r}], project="tests")
oslo_messaging.get_notification_transport(conf, url="rdkafka://broker/")
""")
    assert told == f"WARNING [{GROUP}] used has no effect on rdkafka://\n"


@pytest.mark.parametrize("schemes", [("kafka", "rdkafka"), ("rdkafka", "kafka")], ids="-then-".join)
def test_both_drivers_share_a_configuration(schemes: tuple[str, str]) -> None:
    told = run(f"""
import oslo_messaging
from oslo_config import cfg
conf = cfg.ConfigOpts()
for scheme in {schemes}:
    transport = oslo_messaging.get_notification_transport(conf, url=f"{{scheme}}://broker/")
    print(type(transport._driver).__name__, conf.{GROUP}.consumer_group)
""")
    names = {"kafka": "KafkaDriver", "rdkafka": "RdKafkaDriver"}
    assert told.splitlines() == [f"{names[scheme]} oslo_messaging_consumer" for scheme in schemes]


def test_the_sample_configuration_has_every_option_once(tmp_path: Path) -> None:
    sample = tmp_path / "sample.conf"
    command = ["oslo-config-generator", "--namespace", "oslo.messaging", "--namespace", "rdknotify"]
    generator = Path(sys.executable).with_name(command[0])
    subprocess.run([generator, *command[1:], "--output-file", sample], check=True, timeout=60)
    in_group = sample.read_text().partition(f"[{GROUP}]")[2].partition("\n[")[0]
    names = [line[1:].partition("=")[0].strip() for line in in_group.splitlines() if "=" in line and line[1:2] != " "]
    ours = sorted(OURS)
    assert sorted(name for name in names if name in ours) == ours


def test_nothing_of_oslo_is_imported_unless_the_driver_is() -> None:
    told = run("""
import sys
import rdknotify
for name in rdknotify.__all__:
    getattr(rdknotify, name)
print([name for name in sys.modules if name.startswith(("oslo", "eventlet"))])
""")
    assert told == "[]\n"
