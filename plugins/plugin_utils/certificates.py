"""Which names and addresses a private CA may sign for, as people say it and as certificates do."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from cryptography import x509

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A CA is bound in a kind of name only where its certificate says something of that kind. These say
# "none", where there is nothing to permit: nobody has a name below .invalid (RFC 2606).
NO_DOMAIN = "DNS:invalid"
NO_NETWORK = ["IP:0.0.0.0/0", "IP:::/0"]


def network(place: str) -> Network | None:
    """Return an address or a network as a network; None for what is a name."""
    try:
        return ipaddress.ip_network(place, strict=False)
    except ValueError:
        return None


def permits(place: str, name: str) -> bool:
    """Tell whether a domain or a network has a name, an address, a domain or a network in it."""
    outer, inner = network(place), network(name)
    if outer and inner:
        return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
    domain = place.lower()
    return not (outer or inner) and f".{name.lower()}".endswith(f".{domain}")


def outside(names: Sequence[str], places: Sequence[str]) -> list[str]:
    """Return those of some names that none of some domains and networks has in it."""
    return [name for name in names if not any(permits(place, name) for place in places)]


def fewest(places: Sequence[str]) -> list[str]:
    """Return domains and networks without those that lie in another, sorted."""
    unique = sorted({str(network(place) or place.lower()) for place in places})
    return [one for one in unique if outside([one], [other for other in unique if other != one])]


def constraints(places: Sequence[str]) -> dict[str, list[str]]:
    """Return what a CA's certificate says, so that it may sign for these and no others."""
    least = fewest(places)
    networks = [f"IP:{place}" for place in least if network(place)]
    domains = [f"DNS:{place}" for place in least if not network(place)]
    return {
        "permitted": (domains or [NO_DOMAIN]) + networks,
        "excluded": [] if networks else NO_NETWORK,
    }


def permitted(pem: str) -> list[str]:
    """Return the domains and networks that a CA's certificate binds it to; none, and it is free."""
    try:
        said = (
            x509.load_pem_x509_certificate(pem.encode())
            .extensions.get_extension_for_class(x509.NameConstraints)
            .value
        )
    except x509.ExtensionNotFound:
        return []
    names = [str(name.value) for name in said.permitted_subtrees or []]
    return [name for name in names if f"DNS:{name}" != NO_DOMAIN] or names
