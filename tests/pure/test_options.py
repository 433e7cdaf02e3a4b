"""Options: the table, what becomes of it for librdkafka, and the errors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdknotify.errors import ConfigError
from rdknotify.option_table import DEFAULTS, OPTIONS, OWNED, Option, Role, markdown
from rdknotify.options import for_role, resolve

ROLES: tuple[Role, ...] = ("producer", "consumer", "share consumer")
OSLO_TABLE = {
    "kafka_max_fetch_bytes", "kafka_consumer_timeout", "consumer_group", "producer_batch_timeout",
    "producer_batch_size", "compression_codec", "enable_auto_commit", "max_poll_records", "security_protocol",
    "sasl_mechanism", "ssl_cafile", "ssl_client_cert_file", "ssl_client_key_file", "ssl_client_key_password",
}  # fmt: skip


def refused(
    role: Role,
    options: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    url: str = "kafka://h",
) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(url, role, options, config)
    return str(caught.value)


def test_every_option_of_oslo_messaging_is_there() -> None:
    assert {option.oslo for option in OPTIONS} >= OSLO_TABLE


def test_each_name_means_one_option() -> None:
    spellings = [{option.name, *option.older} | ({option.oslo} if option.oslo else set()) for option in OPTIONS]
    assert sum(map(len, spellings)) == len(set.union(*spellings))


@pytest.mark.parametrize("role", ROLES)
def test_defaults(role: Role) -> None:
    settings = resolve("kafka://h1,h2:1", role)
    assert settings.conf["bootstrap.servers"] == "h1:9092,h2:1"
    assert settings.conf["security.protocol"] == "PLAINTEXT"
    assert settings.conf["log.queue"] == "true"
    assert not any(name.startswith("sasl.") for name in settings.conf)
    for name, (value, _) in DEFAULTS[role].items():
        assert settings.conf[name] == value
    assert all(isinstance(value, str) for value in settings.conf.values())
    assert set(settings.values) == {o.name for o in OPTIONS if role in o.roles and not o.instead}
    for option in OPTIONS:
        if option.default is not None and role in option.roles:
            assert settings.values[option.name] == option.default
            assert type(settings.values[option.name]) is option.type


def test_what_the_roles_promise() -> None:
    producer, consumer = resolve("kafka://h", "producer").conf, resolve("kafka://h", "consumer").conf
    assert (producer["enable.idempotence"], producer["acks"], producer["linger.ms"]) == ("true", "all", "0")
    assert producer["message.timeout.ms"] == "120000"
    assert (consumer["enable.auto.commit"], consumer["enable.auto.offset.store"]) == ("false", "false")
    assert consumer["partition.assignment.strategy"] == "cooperative-sticky"
    assert consumer["auto.offset.reset"] == "earliest"
    assert consumer["group.id"] == "oslo_messaging_consumer"


def test_librdkafka_refuses_a_strategy_with_the_consumer_protocol() -> None:
    conf = resolve("kafka://h", "consumer", {"group_protocol": "consumer"}).conf
    assert conf["group.protocol"] == "consumer"
    assert "partition.assignment.strategy" not in conf
    assert (
        "partition.assignment.strategy"
        not in resolve("kafka://h", "consumer", None, {"group.protocol": "consumer"}).conf
    )


def test_what_is_set_later_wins() -> None:
    def linger(url: str = "kafka://h", **given: Any) -> tuple[Any, str]:
        settings = resolve(url, "producer", given.get("options"), given.get("config"))
        return settings.values["linger"], settings.conf["linger.ms"]

    options, config = {"linger": 0.02}, {"linger.ms": 30}
    assert linger(options=options) == (0.02, "20")
    assert linger(options=options, config=config) == (0.03, "30")
    assert linger("kafka://h?linger=0.04", options=options, config=config) == (0.04, "40")
    assert linger("kafka://h?linger.ms=50", options=options, config=config) == (0.05, "50")
    assert linger("kafka://h?producer_batch_timeout=0", options=options) == (0.0, "0")


@pytest.mark.parametrize(
    ("alias", "canonical", "value"),
    [("queue.buffering.max.ms", "linger.ms", "7"), ("delivery.timeout.ms", "message.timeout.ms", "7000"),
     ("compression.type", "compression.codec", "lz4"), ("request.required.acks", "acks", "all"),
     ("message.send.max.retries", "retries", "3")],
)  # fmt: skip
def test_second_names_of_librdkafka_are_the_same_setting(alias: str, canonical: str, value: str) -> None:
    conf = resolve("kafka://h", "producer", None, {alias: value}).conf
    assert conf[canonical] == value
    assert alias not in conf


def test_one_setting_given_twice() -> None:
    assert "linger.ms and queue.buffering.max.ms are the same setting" in refused(
        "producer", None, {"linger.ms": 1, "queue.buffering.max.ms": 2}
    )
    assert "linger and producer_batch_timeout are the same" in refused(
        "producer", {"linger": 1, "producer_batch_timeout": 2}
    )
    same = {"linger.ms": 1, "queue.buffering.max.ms": "1"}
    assert resolve("kafka://h", "producer", None, same).conf["linger.ms"] == "1"


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (7, "7"), (2.5, "2.5"), ("text", "text")]
)
def test_config_is_passed_on_as_librdkafka_reads_it(value: Any, text: str) -> None:
    assert resolve("kafka://h", "producer", None, {"some.property": value}).conf["some.property"] == text


def test_config_may_change_our_defaults_and_the_largest_record() -> None:
    conf = resolve("kafka://h", "producer", None, {"enable.idempotence": False, "message.max.bytes": 10**7}).conf
    assert (conf["enable.idempotence"], conf["message.max.bytes"]) == ("false", "10000000")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", [*OWNED, "metadata.broker.list", "auto.commit.enable", "dr_msg_cb", "rebalance_cb"])
def test_owned_properties_are_refused_with_the_reason(name: str, role: Role) -> None:
    assert f"config: {name} cannot be set: " in refused(role, None, {name: "hunter2"})
    if "." in name:
        text = refused(role, url=f"kafka://h?{name}=hunter2")
        assert f"URL parameter: {name} cannot be set: " in text and "hunter2" not in text


@pytest.mark.parametrize(
    ("role", "options", "says"),
    [
        ("producer", {"lingr": 1}, "option 'lingr' is unknown; did you mean linger?"),
        ("producer", {"zzz": 1}, "known are security_protocol"),
        ("producer", {"linger.ms": 1}, "config={...}"),
        ("producer", {"consumer_group": "g"}, "option consumer_group: a producer has none"),
        ("consumer", {"linger": 1}, "it is for a producer"),
        ("producer", {"linger": "soon"}, "option linger='soon': a number of seconds is needed"),
        ("producer", {"linger": True}, "a number of seconds is needed"),
        ("producer", {"linger": float("nan")}, "a number of seconds is needed"),
        ("producer", {"linger": -1}, "within 0..900 seconds"),
        ("producer", {"linger": [1]}, "a number of seconds is needed"),
        ("producer", {"max_in_flight": 1.5}, "a whole number of records is needed"),
        ("producer", {"max_in_flight": 0}, "within 1..2147483647 records"),
        ("producer", {"max_in_flight": 1e300}, "within 1.."),
        ("producer", {"compression_codec": "brotli"}, "one of none, gzip, snappy, lz4, zstd"),
        ("producer", {"compression_codec": 3}, "text is needed"),
        ("producer", {"delivery_timeout": 0.004, "linger": 0.005}, "more than linger=0.005"),
        ("producer", {"connect_timeout": 0}, "at least 0.001 seconds"),
        ("consumer", {"enable_auto_commit": "perhaps"}, "true or false is needed"),
        ("consumer", {"start": "middle"}, "one of earliest, latest"),
        ("consumer", {"group_protocol": "share"}, "one of classic, consumer"),
        ("consumer", {"security_protocol": "TLS"}, "one of PLAINTEXT, SASL_PLAINTEXT, SSL, SASL_SSL"),
        ("consumer", {"debug": "broker,fetsch"}, "names, with commas between, of generic, broker"),
    ],
)
def test_bad_options(role: Role, options: dict[str, Any], says: str) -> None:
    assert says in refused(role, options)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"linger": 1}, "config: linger is an option"),
        ({"linger.ms": "soon"}, "config linger.ms='soon': a number of milliseconds is needed"),
        ({"linger.ms": -5}, "config linger.ms=-5: it must be within 0..900 seconds"),
        ({"some.property": None}, "a str, number or bool is needed, not NoneType"),
        ({"some.property": ["x"]}, "not list"),
        ({3: 4}, "not the name of a librdkafka property"),
        ({"security.protocol": "tls"}, "one of PLAINTEXT"),
    ],
)
def test_bad_config(config: dict[str, Any], says: str) -> None:
    assert says in refused("producer", None, config)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("lingr=1", "URL parameter 'lingr' is unknown; did you mean linger?"),
        ("linger=x", "URL parameter linger='x'"),
        ("max_poll_records=0", "URL parameter max_poll_records='0'"),
    ],
)
def test_bad_parameters_of_the_url(query: str, says: str) -> None:
    assert says in refused("producer", url=f"kafka://h?{query}")


def test_a_url_may_hold_parameters_of_both_roles() -> None:
    url = "kafka://h?linger=1&max_poll_records=7&log.connection.close=false"
    producer, consumer = resolve(url, "producer"), resolve(url, "consumer")
    assert producer.values["linger"] == 1.0 and "max_poll_records" not in producer.values
    assert consumer.values["max_poll_records"] == 7 and "linger.ms" not in consumer.conf
    assert producer.conf["log.connection.close"] == consumer.conf["log.connection.close"] == "false"


def test_none_and_empty_text_mean_the_default_unless_none_is_a_value() -> None:
    given = {"ssl_cafile": "", "linger": None, "connect_timeout": None}
    settings = resolve("kafka://h", "producer", given)
    assert "ssl.ca.location" not in settings.conf
    assert settings.values["linger"] == 0.0
    assert settings.values["connect_timeout"] is None
    assert resolve("kafka://h?connect_timeout=", "producer").values["connect_timeout"] is None


def test_text_is_converted_as_configuration_files_need() -> None:
    values = resolve("kafka://h", "consumer", {"max_poll_records": "7", "enable_auto_commit": "No"}).values
    assert (values["max_poll_records"], values["enable_auto_commit"]) == (7, False)
    assert resolve("kafka://h", "producer", {"compression_codec": "LZ4"}).conf["compression.codec"] == "lz4"


@given(st.floats(0.0, 900.0))
def test_seconds_become_milliseconds(seconds: float) -> None:
    conf = resolve("kafka://h", "producer", {"linger": seconds, "delivery_timeout": seconds + 1}).conf
    assert float(conf["linger.ms"]) == pytest.approx(seconds * 1000, abs=1e-3)
    assert int(conf["message.timeout.ms"]) >= (seconds + 1) * 1000 - 1e-3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"ssl_ca_file": "ca"}, {"ssl_cafile": "ca"}),
        ({"sasl_mechanisms": "GSSAPI"}, {"sasl_mechanism": "GSSAPI"}),
        ({"ssl": True}, {"security_protocol": "SSL"}),
        ({"ssl": False}, {"security_protocol": "PLAINTEXT"}),
    ],
)
def test_older_spellings_work_with_a_warning(old: dict[str, Any], new: dict[str, Any]) -> None:
    (name,) = old
    with pytest.warns(DeprecationWarning, match=f"option {name} is deprecated: use {next(iter(new))}"):
        settings = resolve("kafka://h", "producer", old)
    assert settings.conf == resolve("kafka://h", "producer", new).conf
    with pytest.warns(DeprecationWarning):
        assert resolve(f"kafka://h?{name}={old[name]}", "producer").conf == settings.conf


def test_ssl_must_agree_with_the_protocol() -> None:
    with pytest.warns(DeprecationWarning):
        assert "contradicts security_protocol=PLAINTEXT" in refused(
            "producer", {"ssl": True, "security_protocol": "PLAINTEXT"}
        )
    with pytest.warns(DeprecationWarning):
        assert resolve("kafka://u:p@h", "producer", {"ssl": True}).conf["security.protocol"] == "SASL_SSL"


def test_credentials_choose_sasl() -> None:
    with pytest.warns(UserWarning, match="PLAIN sends the password in the clear"):
        conf = resolve("kafka://u:p@h", "producer").conf
    assert (conf["security.protocol"], conf["sasl.mechanism"]) == ("SASL_PLAINTEXT", "PLAIN")
    assert (conf["sasl.username"], conf["sasl.password"]) == ("u", "p")
    tls = resolve("kafka://u:p@h", "consumer", {"ssl_cafile": "ca", "sasl_mechanism": "scram-sha-256"}).conf
    assert (tls["security.protocol"], tls["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-256")
    assert resolve("kafka://h", "producer", {"ssl_cafile": "ca"}).conf["security.protocol"] == "SSL"


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the environment says is trusted."""
    (tmp_path / "bundle.pem").write_text(PEM)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return str(tmp_path / "bundle.pem")


def authorities(options: dict[str, Any], config: dict[str, str]) -> dict[str, str]:
    conf = resolve("kafka://h", "producer", {"security_protocol": "SSL", **options}, config).conf
    return {name: value for name, value in conf.items() if re.match(r"(ssl|https)\.ca\.", name)}


def test_whom_a_client_trusts(bundle: str) -> None:
    assert authorities({"ssl_cafile": "ca"}, {}) == {"ssl.ca.location": "ca"}
    assert authorities({"ssl_cafile": PEM}, {}) == {"ssl.ca.pem": PEM}
    assert authorities({}, {"ssl.ca.pem": PEM}) == {"ssl.ca.pem": PEM}
    assert authorities({}, {"ssl.ca.location": "probe"}) == {"ssl.ca.location": "probe"}
    assert authorities({}, {}) == {"ssl.ca.location": bundle}
    assert authorities({"security_protocol": "PLAINTEXT"}, {}) == {}


@pytest.mark.parametrize("off", [False, 0, "F"])
def test_a_client_that_checks_nobody_needs_no_authorities(off: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/absent")
    with pytest.raises(ConfigError, match="SSL_CERT_FILE=/absent"):
        resolve("kafka://h", "producer", {"security_protocol": "SSL"})
    with pytest.warns(UserWarning, match="can pose as one"):
        resolve("kafka://h", "producer", {"security_protocol": "SSL"}, {"enable.ssl.certificate.verification": off})


OIDC = {"sasl.oauthbearer.method": "OIDC", "sasl.oauthbearer.token.endpoint.url": "https://host/token"}
BEARER = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}


def test_whom_librdkafkas_oidc_client_trusts(bundle: str) -> None:
    both = {"ssl.ca.location": bundle, "https.ca.location": bundle}
    assert authorities(BEARER, OIDC) == both
    assert authorities({**BEARER, "ssl_cafile": "ca"}, OIDC) == both | {"ssl.ca.location": "ca"}
    assert authorities(BEARER, OIDC | {"https.ca.location": "mine"}) == both | {"https.ca.location": "mine"}
    assert authorities(BEARER, OIDC | {"https.ca.pem": PEM}) == {"ssl.ca.location": bundle, "https.ca.pem": PEM}
    local = OIDC | {"sasl.oauthbearer.token.endpoint.url": "http://127.0.0.1/token"}
    assert authorities(BEARER, local) == {"ssl.ca.location": bundle}


def test_the_secret_of_librdkafkas_oidc_client_is_kept() -> None:
    given = {**OIDC, "sasl.oauthbearer.client.id": "billing", "sasl.oauthbearer.client.secret": "hunter2"}
    settings = resolve("kafka://h", "producer", BEARER, given)
    assert settings.conf["sasl.oauthbearer.client.secret"] == "hunter2"
    assert "hunter2" not in repr(settings)
    with pytest.warns(UserWarning, match=r"token.endpoint.url: the client's secret is sent in the clear"):
        resolve("kafka://h", "producer", BEARER, given | {"sasl.oauthbearer.token.endpoint.url": "http://host/token"})


def test_tokens_come_from_one_place() -> None:
    assert "option oauth_token_url: with sasl.oauthbearer.method=oidc" in refused(
        "producer", {**BEARER, "oauth_token_url": "https://host/token"}, OIDC
    )


@pytest.mark.parametrize(
    ("name", "off"),
    [("enable.ssl.certificate.verification", False), ("ssl.endpoint.identification.algorithm", "none")],
)
def test_what_takes_the_trust_away_is_warned_of(name: str, off: object) -> None:
    with pytest.warns(UserWarning, match=f"{name}=.*can pose as one"):
        conf = resolve("kafka://h", "consumer", {"security_protocol": "SSL"}, {name: off}).conf
    assert conf[name] == str(off).lower()


def test_sasl_without_credentials() -> None:
    assert "needs a user name and password" in refused("producer", {"security_protocol": "SASL_SSL"})
    assert "needs a password" in refused("producer", url="kafka://u@h")
    kerberos = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "GSSAPI"}
    assert "sasl.username" not in resolve("kafka://h", "producer", kerberos).conf


def test_credentials_that_would_not_be_sent_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="credentials are not used: security_protocol=PLAINTEXT") as caught:
        conf = resolve("kafka://u:hunter2@h", "producer", {"security_protocol": "PLAINTEXT"}).conf
    assert "sasl.password" not in conf
    assert "hunter2" not in str(caught[0].message)
    with pytest.warns(UserWarning, match="ssl_cafile not used"):
        resolve("kafka://h", "producer", {"security_protocol": "PLAINTEXT", "ssl_cafile": "ca"})
    with pytest.warns(UserWarning, match="committed explicitly"):
        resolve("kafka://h", "consumer", {"enable_auto_commit": True})


def test_certificate_and_key_belong_together() -> None:
    assert "give ssl_client_cert_file too" in refused("producer", {"ssl_client_key_file": "k"})
    assert "give ssl_client_key_file too" in refused("producer", {"ssl_client_cert_file": "c"})
    conf = resolve("kafka://h", "producer", {"ssl_client_cert_file": "c"}, {"ssl.key.pem": "..."}).conf
    assert conf["security.protocol"] == "SSL"


def test_secrets_do_not_show() -> None:
    options = {"ssl_client_cert_file": "c", "ssl_client_key_file": "k", "ssl_client_key_password": "hunter2"}
    settings = resolve("kafka://u:hunter3@h?ssl.key.pem=hunter4", "producer", options)
    assert settings.conf["ssl.key.password"] == "hunter2"
    assert "hunter" not in repr(settings) + str(settings)
    assert "hunter" not in refused("producer", {"ssl_client_key_password": ["hunter2"]})


def test_options_for_a_role() -> None:
    given = {"linger": 1, "max_poll_records": 2, "ssl_cafile": "c", "unknown": 3}
    assert for_role(given, "producer") == {"linger": 1, "ssl_cafile": "c", "unknown": 3}
    assert for_role(given, "consumer") == {"max_poll_records": 2, "ssl_cafile": "c", "unknown": 3}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_table_is_consistent(option: Option) -> None:
    assert option.help.endswith(".")
    assert set(option.roles) <= set(get_args(Role))
    assert option.default is None or type(option.default) is option.type
    assert not option.choices or option.default is None or option.default in option.choices
    assert option.unit == "" or option.minimum is not None or option.type is str


def test_the_page_of_options_is_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text(encoding="utf-8").splitlines() == list(markdown()), (
        "run: python -m rdknotify.option_table > docs/options.md"
    )
