"""What is public is told from what is not, in every form of writing; allowances name exactly what they say."""

import ipaddress

import pytest

from api.addresses import Allowance, Reachable, is_public, literal_address

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.167.1.1",
    "223.255.255.255",
    "2600::1",
    "2a00:1450:4001::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.0.9",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:a00:1::f5f5:f5f5",  # Teredo by a server at 10.0.0.1
    "2001:0:808:808::80ff:fffe",  # Teredo of a client at 127.0.0.1
    "2001:db8::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_all_others_are_not(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "::ffff:127.0.0.1"])
def test_an_address_is_known_in_every_form_of_writing(text: str) -> None:
    assert literal_address(text) == ipaddress.ip_address("127.0.0.1")


@pytest.mark.parametrize("text", ["example.com", "a.127.0.0.1.example", "1e100.net", "", "256.256.256.256.256"])
def test_a_name_is_no_address(text: str) -> None:
    assert literal_address(text) is None


@pytest.mark.parametrize(
    ("entry", "host", "address", "port", "allowed"),
    [
        ("10.0.0.0/8", "a.example", "10.9.8.7", 443, True),
        ("10.0.0.0/8", "a.example", "172.16.8.7", 443, False),
        ("10.0.0.0/8:443", "a.example", "10.9.8.7", 443, True),
        ("10.0.0.0/8:443", "a.example", "10.9.8.7", 80, False),
        ("10.0.0.1", "a.example", "10.0.0.1", 80, True),
        ("10.0.0.1", "a.example", "10.0.0.2", 80, False),
        ("::1", "::1", "::1", 80, True),
        ("[::1]:80", "::1", "::1", 80, True),
        ("[::1]:80", "::1", "::1", 81, False),
        ("[fd00::/8]:80", "b", "fd12::1", 80, True),
        ("Receiver.LAN", "receiver.lan", "192.168.0.9", 80, True),
        ("receiver.lan:8080", "receiver.lan", "192.168.0.9", 80, False),
        ("receiver.lan", "other.lan", "192.168.0.9", 80, False),
        ("receiver.lan", "sub.receiver.lan", "192.168.0.9", 80, False),
    ],
)
def test_an_allowance_allows_what_it_names(entry: str, host: str, address: str, port: int, allowed: bool) -> None:
    assert Reachable.parse([entry]).takes(host, ipaddress.ip_address(address), port) == allowed
    assert Reachable.parse([entry]).takes(host, ipaddress.ip_address("8.8.8.8"), port)


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "300.0.0.1",
        "a b",
        "http://x",
        "x:0",
        "x:99999",
        "x:y",
        "[x]",
        "-x",
        "a..b",
        ":80",
        "/",
    ],
)
def test_an_entry_that_is_none_is_refused_with_its_text(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is no|is not") as refused:
        Allowance.parse(entry)
    assert repr(entry) in str(refused.value)
