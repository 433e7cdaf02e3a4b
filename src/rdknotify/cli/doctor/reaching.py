"""From a name to a connection: name resolution, then TCP, all addresses side by side."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from rdknotify.cli.doctor.finding import Deadline, Finding, State, side_by_side

__all__ = ["Address", "connect", "resolve", "words"]

Address = tuple[str, int]
"""An IP address and a port."""


class Place(NamedTuple):
    """What a name stands for, as sockets take it."""

    family: socket.AddressFamily
    address: Address


def resolve(subject: str, host: str, port: int, deadline: Deadline) -> tuple[list[Place], Finding]:
    """The addresses that a name stands for; none where it is trouble."""

    def look_up() -> object:
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            return error

    (found,) = side_by_side([look_up], deadline, grace=0)
    if isinstance(found, list):
        places = list(dict.fromkeys(Place(family, address[:2]) for family, _, _, _, address in found))
        names = [place.address[0] for place in places]
        text = "an address, no name to look up" if names == [host] else f"stands for {', '.join(names)}"
        return places, Finding(subject, "name", State.OK, text, facts={"addresses": names})
    if found is None:
        text, advice = "the name service does not answer", "check /etc/resolv.conf and that its servers can be reached"
    else:
        text = f"nobody knows the name {host} here ({words(found)})"
        advice = f"check its spelling; `getent hosts {host}` must know it, or the URL needs another name"
    return [], Finding(subject, "name", State.TROUBLE, text, advice)


def connect(subject: str, places: Sequence[Place], deadline: Deadline) -> tuple[Address | None, Finding]:
    """The first address that takes a connection; None where it is trouble."""
    outcomes = dict(
        zip(places, side_by_side([partial(_try, place, deadline) for place in places], deadline), strict=True)
    )
    good = {place.address: seconds for place, seconds in outcomes.items() if isinstance(seconds, float)}
    bad = [f"{place.address[0]}: {words(error)}" for place, error in outcomes.items() if not isinstance(error, float)]
    facts: Mapping[str, object] = {
        "seconds": {address: round(seconds, 4) for (address, _), seconds in good.items()},
        "failed": bad,
    }
    if not good:
        refused = any(isinstance(error, ConnectionRefusedError) for error in outcomes.values())
        advice = (
            "start the broker, or correct the port of the URL"
            if refused
            else "check that the machine is up and that no firewall is in the way; `nc -vz HOST PORT` shows it, too"
        )
        text = f"cannot connect to port {places[0].address[1]}: {', '.join(bad)}"
        return None, Finding(subject, "tcp", State.TROUBLE, text, advice, facts)
    text = "connected to " + ", ".join(
        f"{address} in {seconds * 1000:.1f} ms" for (address, _), seconds in good.items()
    )
    first = next(iter(good))
    if bad:
        advice = "clients try the addresses in turn: take away those where no broker listens"
        return first, Finding(subject, "tcp", State.WARNING, f"{text}; not {', '.join(bad)}", advice, facts)
    return first, Finding(subject, "tcp", State.OK, text, "", facts)


def words(error: object) -> str:
    """An error of the network, for people; None: nothing came."""
    if error is None or isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "refused, nobody listens there"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(getattr(error, "strerror", None) or error)


def _try(place: Place, deadline: Deadline) -> float | OSError:
    """Seconds that a connection took, or why there is none."""
    begun = time.monotonic()
    try:
        with socket.socket(place.family, socket.SOCK_STREAM) as connection:
            connection.settimeout(deadline.left)
            connection.connect(place.address)
    except OSError as error:
        return error
    return time.monotonic() - begun
