"""oslo.messaging, imported without what it warns of in its own modules; where it is not installed, tests skip."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    oslo_messaging: Any = pytest.importorskip("oslo_messaging")
    from oslo_config import cfg
    from oslo_context.context import RequestContext
    from oslo_messaging._drivers import impl_kafka  # noqa: F401  # loaded later, it would warn then

__all__ = ["GROUP", "RequestContext", "cfg", "configuration", "oslo_messaging", "transport"]

GROUP = "oslo_messaging_kafka"


def configuration(file: Path, **options: object) -> Any:
    """A service's configuration, read from ``file``, where these options stand in the group of Kafka's drivers."""
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in options.items())]
    file.write_text("\n".join(lines))
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(file)], project="tests")
    return conf


def transport(url: str, conf: Any = None) -> Any:
    """The transport for notifications at that URL; without ``conf`` every option has its default."""
    return oslo_messaging.get_notification_transport(cfg.ConfigOpts() if conf is None else conf, url=url)
