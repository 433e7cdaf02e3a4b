"""The bill of materials of a wheel: CycloneDX, which tools that look for known vulnerabilities read (PEP 770)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from vendor.recipe import BuildError
from vendor.sources import obtain

__all__ = ["Bundled", "bill_of_materials", "bundled"]

FEATURE = "rdknotify:feature"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562's for URLs


@dataclass(frozen=True)
class Bundled:
    """What a wheel says of itself, read back out of its bill."""

    parts: dict[str, str]
    """Name: version."""
    features: list[str]


def bill_of_materials(
    version: str, parts: Mapping[str, str], features: list[str], recipe: Mapping[str, Any], seconds: int
) -> str:
    """The text, which is the same for the same parts and time.

    Args:
        version: rdknotify's.
        parts: What is compiled in, name: version.
        features: librdkafka's.
        recipe: Licence, checksum and package of each part, as in vendor/recipe.json.
        seconds: The time of the build, since 1970.
    """
    product = Component(
        name="rdknotify",
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref="rdknotify",
        purl=PackageURL("pypi", name="rdknotify", version=version),
        licenses=[LicenseExpression("Apache-2.0")],
    )
    components = [_component(name, parts[name], recipe[name]) for name in parts]
    for component in components:
        if component.name == "librdkafka":
            component.properties.update(Property(name=FEATURE, value=feature) for feature in features)
            component.components.update(_carried(recipe["librdkafka"]["carries"]))
    bom = Bom(components=components, serial_number=uuid.UUID(int=0))
    bom.metadata.component = product
    bom.metadata.timestamp = datetime.fromtimestamp(seconds, timezone.utc)
    bom.register_dependency(product, components)
    bom.serial_number = uuid.uuid5(_NAMESPACE, JsonV1Dot6(bom).output_as_string())
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def bundled(bill: str) -> Bundled:
    """What a bill lists; what a part carries within itself is not among its parts."""
    components: list[dict[str, Any]] = json.loads(bill)["components"]
    properties = [each for component in components for each in component.get("properties", ())]
    return Bundled(
        {component["name"]: component["version"] for component in components},
        [each["value"] for each in properties if each["name"] == FEATURE],
    )


def _component(name: str, version: str, entry: Mapping[str, Any]) -> Component:
    """One part, by the names under which advisories list it, and the package that its source came in."""
    kind, package = ("npm", entry["package"]) if "package" in entry else ("cargo", entry["crate"])
    group, _, rest = package.rpartition("/")
    packed, _, release = rest.partition("@")
    source = ExternalReference(
        type=ExternalReferenceType.SOURCE_DISTRIBUTION,
        url=XsUri(PackageURL(kind, namespace=group or None, name=packed, version=release).to_string()),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry["sha256"])],
    )
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=name,
        purl=PackageURL("generic", name=name, version=version),
        cpe=f"cpe:2.3:a:{entry['cpe']}:{version}:*:*:*:*:*:*:*" if "cpe" in entry else None,
        licenses=[LicenseExpression(entry["spdx"])],
        external_references=[source],
    )


def _carried(entries: Mapping[str, Any]) -> list[Component]:
    """What librdkafka's source holds of others. Versions are as that source tells them, where it does."""
    return [
        Component(
            name=name,
            version=(found := _told(name, entry)).version,
            type=ComponentType.LIBRARY,
            bom_ref=f"librdkafka/{name}",
            purl=found,
            cpe=f"cpe:2.3:a:{entry['cpe']}:{found.version}:*:*:*:*:*:*:*" if "cpe" in entry else None,
            licenses=[LicenseExpression(entry["spdx"])],
        )
        for name, entry in entries.items()
    ]


def _told(name: str, entry: Mapping[str, Any]) -> PackageURL:
    """A release, or a revision of a repository on GitHub."""
    if "file" not in entry:
        return PackageURL("generic", name=name)
    found = re.search(entry["version"], (obtain("librdkafka") / entry["file"]).read_text())
    if not found:
        raise BuildError(f"librdkafka's {entry['file']} does not tell which {name} it carries: see vendor/recipe.json")
    if "/" in found[1]:
        owner, _, repository = found[1].partition("/")
        return PackageURL("github", namespace=owner, name=repository, version=found[2])
    return PackageURL("generic", name=name, version=".".join(found.groups()))
