import asyncio
import ipaddress

import pytest

from wideseek_jax.tools import addresses


@pytest.mark.parametrize(
  'address',
  [
    *('127.0.0.1', '127.9.9.9', '0.0.0.0', '10.0.0.1', '172.16.0.1'),
    *('192.168.1.1', '169.254.169.254', '100.64.0.1', '100.100.100.200'),
    *('168.63.129.16', '192.0.0.192', '198.18.0.1', '224.0.0.1', '240.0.0.1'),
    *('255.255.255.255', '::', '::1', 'fe80::1', 'fe80::1%eth0', 'fc00::1'),
    *('fd00:ec2::254', 'fec0::1', 'ff02::1', '2001:db8::1', '2001:0:1::1'),
    # IPv4 in IPv6: mapped, compatible, 6to4 and NAT64 of private addresses.
    *('::ffff:127.0.0.1', '::ffff:169.254.169.254', '::127.0.0.1'),
    *('2002:7f00:1::', '64:ff9b::7f00:1', '64:ff9b:1::808:808', 'no address'),
  ],
)
def test_what_is_not_public_is_refused(address):
  assert not addresses.is_public(address)


@pytest.mark.parametrize(
  'address',
  [
    *('8.8.8.8', '1.1.1.1', '168.63.129.17', '2606:4700::1111'),
    *('::ffff:8.8.8.8', '2002:808:808::', '64:ff9b::808:808'),
  ],
)
def test_what_is_public_is_not(address):
  assert addresses.is_public(address)


@pytest.mark.parametrize(
  'host',
  # Whatever the system's resolver makes of it counts, not how it looks.
  ['127.0.0.1', 'localhost', '127.1', '0x7f000001', '2130706433', '::1', '0'],
)
def test_every_notation_of_this_machine_is_refused(host):
  with pytest.raises(
    addresses.RefusedError, match=r'not on the public|no host'
  ):
    asyncio.run(addresses.resolve(host, 80))


def test_only_the_networks_that_are_named_are_allowed():
  allowed = [ipaddress.ip_network(n) for n in ('127.0.0.1/32', 'fc00::/7')]
  found = asyncio.run(addresses.resolve('127.0.0.1', 80, allowed))
  assert found == ['127.0.0.1']
  with pytest.raises(addresses.RefusedError):
    asyncio.run(addresses.resolve('127.0.0.2', 80, allowed))


def test_a_host_with_one_private_address_is_refused(monkeypatch):
  async def getaddrinfo(self, host, port, **options):
    return [(0, 0, 0, '', (a, port)) for a in ('8.8.8.8', '10.0.0.1')]

  monkeypatch.setattr(asyncio.BaseEventLoop, 'getaddrinfo', getaddrinfo)
  with pytest.raises(addresses.RefusedError, match='example is not on the pub'):
    asyncio.run(addresses.resolve('example', 80))
