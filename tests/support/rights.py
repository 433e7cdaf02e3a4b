"""Giving rights on a secure Kafka and taking them away, and changing passwords: by a client that is not ours."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

_TIMEOUT = 20.0
_ITERATIONS = 4096
_SCRAM = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)


class Rights:
    """What ``user`` may do; the kit's plaintext listener, where everybody is the administrator, says so.

    ``operations`` are Kafka's: ``"READ"``, ``"WRITE"`` ..., or ``"ALL"``. Nodes follow within some milliseconds.
    """

    def __init__(self, bootstrap: str, user: str) -> None:
        self._user = user
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})

    def give(self, *, topic: str | None = None, group: str | None = None, operations: Iterable[str] = ("ALL",)) -> None:
        bindings = [self._binding(AclBinding, topic, group, operation) for operation in operations]
        _done(self._admin.create_acls(bindings))

    def take(self, *, topic: str | None = None, group: str | None = None, operations: Iterable[str] = ("ALL",)) -> None:
        filters = [self._binding(AclBindingFilter, topic, group, operation) for operation in operations]
        gone = _done(self._admin.delete_acls(filters))
        assert all(gone), "there was no such right"

    def take_all(self) -> None:
        everything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, f"User:{self._user}", None,
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        _done(self._admin.delete_acls([everything]))

    def password(self, password: str) -> None:
        """The user's new password, for both kinds of SCRAM."""
        for kind in _SCRAM:  # Kafka takes one change of a user at a time
            info = ScramCredentialInfo(kind, _ITERATIONS)
            change = UserScramCredentialUpsertion(self._user, info, password.encode())
            _done(self._admin.alter_user_scram_credentials([change]))

    def _binding(self, kind, topic: str | None, group: str | None, operation: str):
        resource = (ResourceType.TOPIC, topic) if topic else (ResourceType.GROUP, group)
        permission = (AclOperation[operation], AclPermissionType.ALLOW)
        return kind(*resource, ResourcePatternType.LITERAL, f"User:{self._user}", "*", *permission)


def _done(futures):
    return [future.result(_TIMEOUT) for future in futures.values()]
