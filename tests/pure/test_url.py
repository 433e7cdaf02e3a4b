"""Transport URLs: read, written back, and silent about the password."""

import pickle
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdknotify.errors import ConfigError
from rdknotify.url import TransportURL, is_secret

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
hosts = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True),
    st.ip_addresses(v=6).map(str),
    st.just("fe80::1%eth0"),
)


@st.composite
def urls(draw: st.DrawFn) -> TransportURL:
    username, password = draw(st.one_of(st.just((None, None)), st.tuples(texts, st.one_of(st.none(), texts))))
    return TransportURL(
        hosts=tuple(draw(st.lists(st.tuples(hosts, st.integers(1, 65535)), min_size=1, max_size=3))),
        username=username,
        password=password,
        virtual_host=draw(st.one_of(st.none(), texts)),
        query=draw(st.dictionaries(texts, st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3)),
        scheme=draw(st.sampled_from(["kafka", "rdkafka"])),
    )


@given(urls())
def test_what_is_written_is_read_back(url: TransportURL) -> None:
    assert TransportURL.parse(url.unredacted()) == url
    assert pickle.loads(pickle.dumps(url)) == url
    assert TransportURL.parse(url) is url


@given(urls())
def test_text_is_a_url_with_hidden_secrets(url: TransportURL) -> None:
    shown = TransportURL.parse(str(url))
    assert (shown.hosts, shown.username, shown.virtual_host) == (url.hosts, url.username, url.virtual_host)
    assert shown.password == (None if url.password is None else "***")
    assert repr(url) == f"TransportURL({str(url)!r})"


@pytest.mark.parametrize(
    ("text", "servers", "username", "password", "vhost"),
    [
        ("kafka://h", "h:9092", None, None, None),
        ("kafka://h/", "h:9092", None, None, None),
        ("RDKAFKA://h1:1,h2", "h1:1,h2:9092", None, None, None),
        ("kafka://u:p@h1:9092,h2:9093/v", "h1:9092,h2:9093", "u", "p", "v"),
        ("kafka://u:p@h1:9092,u:p@h2:9092/v", "h1:9092,h2:9092", "u", "p", "v"),
        ("kafka://[::1]:9093,[fe80::1]", "[::1]:9093,[fe80::1]:9092", None, None, None),
        ("kafka://u%40x:p%2F%40%3A%2C@h", "h:9092", "u@x", "p/@:,", None),
        ("kafka://u@realm:p@h", "h:9092", "u@realm", "p", None),
        ("kafka://u:@h", "h:9092", "u", "", None),
        ("kafka://h/v%20w?linger=0.1&start=latest", "h:9092", None, None, "v w"),
        ("kafka://h1,,h2,", "h1:9092,h2:9092", None, None, None),
    ],
)
def test_forms_that_oslo_messaging_accepts(
    text: str, servers: str, username: str | None, password: str | None, vhost: str | None
) -> None:
    url = TransportURL.parse(text)
    assert (url.bootstrap_servers, url.username, url.password, url.virtual_host) == (
        servers,
        username,
        password,
        vhost,
    )


def test_parameters_are_decoded() -> None:
    assert TransportURL.parse("kafka://h?a=1+2&b=%2F&c=").query == {"a": "1 2", "b": "/", "c": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost:9092", "scheme is missing"),
        ("amqp://h", "'amqp' is not one of kafka, rdkafka"),
        ("kafka://", "no host"),
        ("kafka://,", "no host"),
        ("kafka://:9092", "host 1 is empty"),
        ("kafka://h1,h2:x", "port of host 2"),
        ("kafka://h:0", "within 1..65535"),
        ("kafka://h:65536", "within 1..65535"),
        ("kafka://::1", "IPv6 address stands in brackets"),
        ("kafka://[::g]", "not an IPv6 address"),
        ("kafka://a b", "not a host name"),
        ("kafka://h1,u:p@h2", "before the first host"),
        ("kafka://u:p@h1,u:q@h2", "different credentials"),
        ("kafka://@h", "without a user name"),
        ("kafka://%ff:p@h", "user name is not percent-encoded UTF-8"),
        ("kafka://u:\udc80@h", "not UTF-8"),
        ("kafka://h/\udc80", "not UTF-8"),
        ("kafka://h?linger=\udc80", "not UTF-8"),
        ("kafka://h?linger", "name=value"),
        ("kafka://h?a=1&a=2", "'a' is given twice"),
        ("kafka://h/v#x", "%23"),
    ],
)
def test_errors_name_the_part(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransportURL.parse(text)
    assert says in str(caught.value)


def test_not_a_url() -> None:
    with pytest.raises(ConfigError, match="not int"):
        TransportURL.parse(9092)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no host"):
        TransportURL(hosts=())
    with pytest.raises(ConfigError, match="without a user name"):
        TransportURL(hosts=(("h", 1),), password="hunter2")


@pytest.mark.parametrize("delimiter", [",", "/", "?", "#", ":", "@", "%", " ", "\n", "["])
@pytest.mark.parametrize("template", ["kafka://u:{}@h", "kafka://u:{}@h1:1,h2", "kafka://h1,u:{}@h2", "{}@kafka://h"])
def test_a_password_never_shows_however_it_is_misplaced(template: str, delimiter: str) -> None:
    for password in (f"hunter{delimiter}2444", f"2444{delimiter}hunter"):
        try:
            url = TransportURL.parse(template.format(password))
        except ConfigError as error:
            shown = str(error)
        else:
            assert url.password == unquote(password)
            shown = f"{url} {url!r}"
        assert "hunter" not in shown and "2444" not in shown


def test_a_password_among_the_parameters_does_not_show() -> None:
    url = TransportURL.parse("kafka://h?ssl_client_key_password=hunter2&linger=1")
    assert "hunter2" not in str(url) + repr(url)
    assert "linger=1" in str(url)
    assert is_secret("sasl.oauthbearer.client.secret") and not is_secret("sasl.mechanism")
