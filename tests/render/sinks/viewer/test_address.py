"""Where the page is served, and to whom."""

import socket

import pytest

from facet.render.sinks.viewer.address import Address, Guard, is_local, listen, parse_address
from facet.tracker.errors import ConfigError, SinkError

ADDRESSES = {
    "8000": ("127.0.0.1", 8000),
    "0": ("127.0.0.1", 0),
    "0.0.0.0:80": ("0.0.0.0", 80),
    "localhost:65535": ("localhost", 65535),
    "[::1]:8000": ("::1", 8000),
    "studio.local:8000": ("studio.local", 8000),
}
WRONG = ("", ":", ":8000", "8000:", "65536", "-1", "host", "1.2.3.4", "::1:8000", "a b:80", "http://x:80", "x:80/")
DIGITS = ("\uff18", "\u0668")  # of other scripts


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_has_a_host_and_a_port(text):
    found = parse_address(text)
    assert (found.host, found.port) == ADDRESSES[text]


@pytest.mark.parametrize("text", WRONG + DIGITS)
def test_a_wrong_address_is_a_wrong_option(text):
    with pytest.raises(ConfigError, match=r"expected \[HOST:\]PORT"):
        parse_address(text)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"])
def test_the_loopback_is_local(host):
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "localhost.example.com", "127.0.0.1.example.com", ""])
def test_other_hosts_are_not(host):
    assert not is_local(host)


def test_an_address_reads_back_as_it_was():
    for text in ("127.0.0.1:8000", "[::1]:8000"):
        assert str(parse_address(text)) == text


def test_a_port_in_use_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SinkError, match=r"cannot listen .* port"):
        listen(Address("127.0.0.1", other.getsockname()[1]))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_of_another_machine_is_a_wrong_option(host):
    with pytest.raises(ConfigError, match="no address of this machine"):
        listen(Address(host, 8000))


LOCAL, OTHER = Address("127.0.0.1", 8000), Address("0.0.0.0", 8000)
SERVED = [
    (LOCAL, "", "127.0.0.1:8000", None, ""),
    (LOCAL, "", "localhost:8000", "http://localhost:8000", ""),
    (LOCAL, "", "[::1]:8000", "http://[::1]:8000", ""),
    (LOCAL, "", "LocalHost:8000", "http://localhost:8000", ""),
    (OTHER, "secret", "192.168.0.7:8000", None, "secret"),
    (OTHER, "secret", "studio.local:8000", "http://studio.local:8000", "secret"),
    (OTHER, "secret", "studio.local:8000", "http://studio.local:8000", None),  # what is the same for everybody
]
REFUSED = [
    (LOCAL, "", "127.0.0.1:8000", "http://evil.example", "", "Another site"),
    (LOCAL, "", "127.0.0.1:8000", "http://127.0.0.1:3000", "", "Another site"),  # another port is another site
    (LOCAL, "", "127.0.0.1:8000", "null", "", "Another site"),
    (LOCAL, "", "127.0.0.1:8000", "http://[", "", "Another site"),
    (LOCAL, "", "evil.example:8000", "http://evil.example:8000", "", "this machine alone"),  # a name that leads here
    (LOCAL, "", "evil.example:8000", None, None, "this machine alone"),
    (LOCAL, "", "", None, "", "this machine alone"),
    (LOCAL, "", "[", None, "", "this machine alone"),
    (OTHER, "secret", "192.168.0.7:8000", None, "", "token"),
    (OTHER, "secret", "192.168.0.7:8000", None, "Secret", "token"),
    (OTHER, "secret", "192.168.0.7:8000", None, "sécret", "token"),
    (OTHER, "secret", "192.168.0.7:8000", "http://evil.example", "secret", "Another site"),
]


@pytest.mark.parametrize(("address", "secret", "host", "origin", "token"), SERVED)
def test_the_own_page_is_served(address, secret, host, origin, token):
    assert Guard(address, secret).refusal(host, origin, token) == ""


@pytest.mark.parametrize(("address", "secret", "host", "origin", "token", "why"), REFUSED)
def test_others_are_refused(address, secret, host, origin, token, why):
    assert why in Guard(address, secret).refusal(host, origin, token)
