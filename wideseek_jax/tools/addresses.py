"""Which addresses of the network a page may be read from.

In comes a host's name, out go the addresses that may be connected to. Whatever
is not of the public internet is refused: loopback, private and link-local
networks, and with them the metadata services of clouds.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpcore

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv4 within IPv6, for machines that only speak the latter (RFC 6052).
_NAT64 = ipaddress.ip_network('64:ff9b::/96')
_REFUSED = tuple(
  map(
    ipaddress.ip_network,
    (
      '168.63.129.16/32',  # Azure's agent: public by number, not by nature.
      '192.0.0.0/24',  # special by RFC 6890; Pythons differ on it
      '64:ff9b:1::/48',  # NAT64 of local networks (RFC 8215)
      '2001::/32',  # Teredo tunnels
      'fec0::/10',  # site-local
    ),
  )
)


class RefusedError(Exception):
  """A host that nothing may be read from."""


def is_public(address: str) -> bool:
  """Whether an IP address belongs to the public internet."""
  try:
    return _is_public(ipaddress.ip_address(address))
  except ValueError:  # An IPv6 address with a zone, or none at all.
    return False


def _is_public(address: _Address) -> bool:
  if isinstance(address, ipaddress.IPv6Address):
    inner = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
      inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
      return _is_public(inner)
  return (
    address.is_global
    and not address.is_multicast
    and not address.is_reserved
    and not any(address in network for network in _REFUSED)
  )


async def resolve(
  host: str, port: int, allowed: Sequence[Network] = ()
) -> list[str]:
  """The addresses of a host, all of which may be connected to.

  Args:
    host: a name or a number in any notation.
    port: where it is going to be asked.
    allowed: networks that are not public and fine all the same.

  Raises:
    RefusedError: there is no such host, or one of its addresses is not public
      and not allowed.
  """
  loop = asyncio.get_running_loop()
  try:
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
  except (OSError, UnicodeError):
    raise RefusedError(f'there is no host {host[:100]}') from None
  addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
  for address in addresses:
    if not is_public(address) and not any(
      ipaddress.ip_address(address.partition('%')[0]) in n for n in allowed
    ):
      raise RefusedError(f'{host[:100]} is not on the public internet')
  return addresses


class CheckedNetwork:
  """The network of an httpcore pool, which connects to checked addresses only.

  Args:
    resolve: (host, port) -> the addresses that may be connected to.
  """

  def __init__(self, resolve: Resolve):
    self._resolve = resolve
    self._inner = httpcore.AnyIOBackend()

  async def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
    failure: Exception = httpcore.ConnectError(f'{host} has no address')
    for address in await self._resolve(host, port):
      try:
        # A number: there is no second look-up that could tell another one.
        return await self._inner.connect_tcp(address, port, **options)
      except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        failure = error
    raise failure

  async def sleep(self, seconds: float) -> None:
    await asyncio.sleep(seconds)
