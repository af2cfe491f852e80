"""Which DICOM peers may open an association with us: AE title and address.

Owns the grammar of the setting `dicom_allowed_peers` and the question whether a caller is among them. An AE title is a
name that everybody may claim, so that it counts only together with the address it comes from.

Refuses host names: who answers for a name may change between two associations, and a listener must not wait for DNS.
"""

import ipaddress
import re
from dataclasses import dataclass

AE_TITLE = re.compile(r"\A(?! )[ -\[\]-~]{1,16}(?<! )\Z")
"""PS3.5 6.2, VR AE: at most 16 printable ASCII characters without a backslash, no blank at either end."""


@dataclass(frozen=True)
class Peer:
    """One line of the allow-list.

    Attributes:
        ae_title: The calling AE title, exactly.
        network: The addresses it may come from.
    """

    ae_title: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_peers(text: str) -> tuple[Peer, ...]:
    """Reads `AETITLE@address, AETITLE@address, ...`; an address is an IP address or a network such as 10.1.0.0/16.

    Raises:
        ValueError: With every entry that is wrong.
    """
    peers, wrong = [], []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        title, sign, address = entry.rpartition("@")
        try:
            if not sign or not AE_TITLE.match(title):
                raise ValueError
            peers.append(Peer(title, ipaddress.ip_network(address)))
        except ValueError:
            wrong.append(entry)
    if wrong:
        raise ValueError(
            f"received {', '.join(wrong)}; expected AETITLE@address with an AE title of 1 to 16 characters and an IP "
            "address or network, e.g. MR1@10.0.0.5, PACS@10.1.0.0/16"
        )
    return tuple(peers)


def known_address(peers: tuple[Peer, ...], address: str) -> bool:
    """Whether any peer may come from this IP address."""
    return any(_inside(peer, address) for peer in peers)


def known_peer(peers: tuple[Peer, ...], ae_title: str, address: str) -> bool:
    """Whether this AE title may come from this IP address."""
    return any(peer.ae_title == ae_title and _inside(peer, address) for peer in peers)


def _inside(peer: Peer, address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found in peer.network
