"""A service's configuration files give the command line what oslo.config gives the service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rdknotify.cli import service_conf
from rdknotify.errors import ConfigError
from rdknotify.option_table import Role
from rdknotify.options import for_role, resolve
from rdknotify.url import TransportURL

cfg = pytest.importorskip("oslo_config.cfg")
pytest.importorskip("oslo_messaging")

URL = "kafka://kafka1:9092"
NOTIFICATIONS = "oslo_messaging_notifications"
ROLES: tuple[Role, ...] = ("producer", "consumer", "listener", "driver")


def write(folder: Path, *texts: str) -> list[Path]:
    files = [folder / f"{number}.conf" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return files


def by_oslo(files: Sequence[Path]) -> Any:
    """What a service sees that runs with these files."""
    from oslo_messaging import transport
    from oslo_messaging.notify import notifier

    from rdknotify import oslo_driver

    conf = cfg.ConfigOpts()
    # Those that releases before 18 knew by further names.
    former = {
        "transport_url": [cfg.DeprecatedOpt("notification_transport_url", group="DEFAULT")],
        "topics": [
            cfg.DeprecatedOpt("topics", group="rpc_notifier2"),
            cfg.DeprecatedOpt("notification_topics", group="DEFAULT"),
        ],
    }
    conf.register_opts(
        [
            type(opt)(opt.name, default=opt.default, deprecated_opts=former.get(opt.dest, []))
            for opt in notifier._notifier_opts
        ],
        group=NOTIFICATIONS,
    )
    conf.register_opts([*transport._transport_opts, cfg.StrOpt("my_host"), cfg.StrOpt("secret", default=None)])
    conf.register_opts([cfg.StrOpt("place")], group="site")
    oslo_driver._register(conf)
    conf([], default_config_files=[str(file) for file in files], default_config_dirs=[])
    return conf


def oslo_options(conf: Any) -> dict[str, Any]:
    from rdknotify import oslo_driver

    values = {name: conf[oslo_driver.GROUP][name] for name in oslo_driver._TAKEN}
    unset = [name for name in oslo_driver._DEFAULTS if conf.get_location(name, oslo_driver.GROUP).location.name in
             ("opt_default", "set_default")]  # fmt: skip
    return {**values, **{name: oslo_driver._DEFAULTS[name] for name in unset}, "librdkafka": None}


FILES: dict[str, tuple[str, ...]] = {
    "the group's own URL": ((
        f"[DEFAULT]\ntransport_url = rabbit://guest:guest@rabbit:5672/\n[{NOTIFICATIONS}]\n"
        "transport_url = kafka://u:p%40ss@kafka1:9092,u:p%40ss@kafka2/blue?linger=0.5\n"
    ),),
    "everything's URL": ("[DEFAULT]\ntransport_url=kafka://kafka1:9092\n",),
    "an empty one falls back": (f"[DEFAULT]\ntransport_url: {URL}\n[{NOTIFICATIONS}]\ntransport_url =\n",),
    "quotes": (f"[{NOTIFICATIONS}]\ntransport_url = '{URL}'\ntopics = \"a, b,c\"\n",),
    "comments, and none": (
        f"# a comment\n; another\n[{NOTIFICATIONS}]\ntransport_url = {URL}\n#topics = x\ntopics = a # b, c;d\n",
    ),
    "values over several lines": (f"[{NOTIFICATIONS}]\ntransport_url = {URL}\ntopics = a,\n  b,\n\tc\n\n[x]\ny=1\n",),
    "the last of a file, the last file": (
        f"[{NOTIFICATIONS}]\ntransport_url = kafka://other\ntransport_url = {URL}\ntopics = a\n",
        f"[{NOTIFICATIONS}]\ntopics = b\n[oslo_messaging_kafka]\nconsumer_group = billing\n",
        "[oslo_messaging_kafka]\nconsumer_group = audit\n",
    ),
    "former names": (f"[DEFAULT]\nnotification_transport_url = {URL}\nnotification_topics = old,older\n",),
    "a former name in a later file": (
        f"[{NOTIFICATIONS}]\ntransport_url = {URL}\ntopics = new\n",
        "[rpc_notifier2]\ntopics = former\n",
    ),
    "references": ((
        "[DEFAULT]\nmy_host = kafka7\nsecret = a$$b\n[site]\nplace = rack-$my_host\n"
        f"[{NOTIFICATIONS}]\ntransport_url = kafka://me:x\\$y@${{my_host}}:9092/${{site.place}}\ntopics = $my_host,b\n"
    ),),
    "a group in other letters": (f"[Oslo_Messaging_Notifications]\ntransport_url = {URL}\n",),
    "options": ((
        f"[{NOTIFICATIONS}]\ntransport_url = {URL}\n[oslo_messaging_kafka]\nkafka_max_fetch_bytes = 4096\n"
        "kafka_consumer_timeout = 0.5\nconsumer_group = g\nproducer_batch_timeout = 0.25\nproducer_batch_size = 10\n"
        "compression_codec = zstd\nenable_auto_commit = False\nmax_poll_records = 7\nsecurity_protocol = SASL_SSL\n"
        "sasl_mechanism = SCRAM-SHA-256\nssl_cafile = /etc/ca.pem\nauto_offset_reset = latest\nsettle = after\n"
        "notification_key = publisher_id\nnotify_wait = on\nretry_delay = 1.5\ncreate_topics = no\n"
    ),),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("texts", FILES.values(), ids=FILES)
def test_the_same_files_say_the_same(tmp_path: Path, texts: tuple[str, ...]) -> None:
    files = write(tmp_path, *texts)
    conf, found = by_oslo(files), service_conf.read(files)
    assert found.url == TransportURL.parse(conf[NOTIFICATIONS].transport_url or conf.transport_url)
    assert list(found.topics) == conf[NOTIFICATIONS].topics
    theirs = oslo_options(conf)
    url = TransportURL(found.url.hosts, "user", "password")
    for role in ROLES:
        ours = resolve(url, role, for_role(found.options, role)).values
        assert ours == resolve(url, role, for_role(theirs, role)).values, role


@pytest.mark.parametrize(
    "text",
    [
        "socket.timeout.ms:3000,client.id:nova",
        " debug: broker,topic , client.id:a:b",
        "",
        "sasl.oauthbearer.config:a=b c=d",
    ],
)
def test_properties_of_librdkafka_are_read_as_a_dict(tmp_path: Path, text: str) -> None:
    files = write(tmp_path, f"[DEFAULT]\ntransport_url = {URL}\n[oslo_messaging_kafka]\nlibrdkafka = {text}\n")
    assert service_conf.read(files).config == by_oslo(files).oslo_messaging_kafka.librdkafka


def test_properties_in_the_url_come_first(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        f"[DEFAULT]\ntransport_url = {URL}/?librdkafka=client.id:x&linger=1\n"
        "[oslo_messaging_kafka]\nlibrdkafka = a.b:c\n",
    )
    found = service_conf.read([file])
    assert found.config == {"client.id": "x"}
    assert found.url.query == {"linger": "1"}


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, f"[{NOTIFICATIONS}]\ntransport_url = kafka://other\ntopics = a\n")
    monkeypatch.setenv("OS_OSLO_MESSAGING_NOTIFICATIONS__TRANSPORT_URL", URL)
    assert service_conf.read(files).url == TransportURL.parse(by_oslo(files)[NOTIFICATIONS].transport_url)


PIECES = ["[DEFAULT]", "[g]", "[", "[]", "a = 1", "b=x y", "a: 'q'", 'b = "q', "a=$b", "b=$$", "b=${a}", r"a=\$",
          "  more", "\tmore = x", "", "  ", "# c", "; c", " # c", "=", "nothing", "a =",
          "b = 'x' y'", "a = x # y"]  # fmt: skip


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8), min_size=1, max_size=2))
@example([["[DEFAULT]", "a = 1", "# c", "  more"]])
@example([["[g]", "a = $b", "[DEFAULT]", "b = $$"], ["[DEFAULT]", "b = 2"]])
def test_any_file_is_read_as_oslo_config_reads_it(tmp_path: Path, files: list[list[str]]) -> None:
    paths = write(tmp_path, *("\n".join(lines) for lines in files))

    def theirs(group: str, name: str) -> str | None:
        conf = cfg.ConfigOpts()
        conf.register_opts([cfg.StrOpt("a"), cfg.StrOpt("b")])
        conf.register_opts([cfg.StrOpt("a"), cfg.StrOpt("b")], group="g")
        conf([], default_config_files=[str(path) for path in paths], default_config_dirs=[])
        value: str | None = conf[name] if group == "DEFAULT" else conf[group][name]
        return value

    def ours(group: str, name: str) -> str | None:
        values = service_conf._Values([service_conf._File(path, service_conf._parse(path)) for path in reversed(paths)])
        found = values.first([(group, name)])
        return None if found is None else found.text

    for group in ("DEFAULT", "g"):
        for name in "ab":
            try:
                expected = theirs(group, name)
            except (cfg.Error, RecursionError):
                with pytest.raises(ConfigError):
                    ours(group, name)
                continue
            if expected == "" or _refers_to_nothing(paths):
                continue  # oslo.config knows the options of a service, and puts nothing in for those without a value
            assert ours(group, name) == expected


def _refers_to_nothing(paths: Sequence[Path]) -> bool:
    return "$" in "".join(path.read_text() for path in paths).replace("$$", "").replace(r"\$", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[DEFAULT]\nhost = x\n", "no transport_url in [oslo_messaging_notifications] nor in [DEFAULT]"),
        ("[DEFAULT]\ntransport_url = rabbit://me:hidden@r:5672/\n", "[DEFAULT] transport_url is rabbit://"),
        ("[DEFAULT]\ntransport_url = fake:/\n", "has no scheme, which is not Kafka"),
        ("[DEFAULT]\ntransport_url = kafka://me:hidden@host:x/\n", "[DEFAULT] transport_url: transport URL: port"),
        ("[DEFAULT]\ntransport_url = kafka://me:hidden@$host/\n", "$host is set nowhere in these files"),
        ("[DEFAULT]\ntransport_url = $transport_url\n", "what it refers to refers to it"),
        ("transport_url = kafka://me:hidden@h/\n", "line 1: no [group] goes before it"),
        ("[DEFAULT]\nhidden\n", "line 2: an option is written as name = value"),
        ("[DEFAULT\n", "line 1: a group is written as [name]"),
        ("[DEFAULT]\n  hidden\n", "line 2: it goes on"),
        (f"[DEFAULT]\ntransport_url = {URL}\n[oslo_messaging_kafka]\nlibrdkafka = hidden\n", "write it as name:value"),
        (f"[DEFAULT]\ntransport_url = {URL}\n[oslo_messaging_notifications]\ntopics = ,\n", "topics: there is none"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place_and_no_secret(tmp_path: Path, text: str, told: str) -> None:
    (file,) = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        service_conf.read([file])
    assert told in str(error.value)
    assert str(file) in str(error.value)
    assert "hidden" not in str(error.value)
