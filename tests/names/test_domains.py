"""The published test vectors of the Public Suffix List, and the names that a capture can hold."""

import pytest

from apptell.names.domains import comparable_name, registered_domain

# From the list's own test file (public domain): ICANN rules, wildcards, exceptions, both IDNA forms.
OFFICIAL = {
    "COM": None,
    "WwW.example.COM": "example.com",
    "example.example": "example.example",
    "a.b.example.example": "example.example",
    "biz": None,
    "b.domain.biz": "domain.biz",
    "uk.com": "uk.com",
    "jp": None,
    "www.test.jp": "test.jp",
    "test.ac.jp": "test.ac.jp",
    "kyoto.jp": None,
    "a.b.ide.kyoto.jp": "b.ide.kyoto.jp",
    "c.kobe.jp": None,
    "a.b.c.kobe.jp": "b.c.kobe.jp",
    "www.city.kobe.jp": "city.kobe.jp",
    "ck": None,
    "a.b.test.ck": "b.test.ck",
    "www.www.ck": "www.ck",
    "us": None,
    "www.test.k12.ak.us": "test.k12.ak.us",
    "食狮.com.cn": "xn--85x722f.com.cn",
    "www.食狮.公司.cn": "xn--85x722f.xn--55qx5d.cn",
    "公司.cn": None,
    "www.xn--85x722f.xn--fiqs8s": "xn--85x722f.xn--fiqs8s",
    "xn--fiqs8s": None,
}


@pytest.mark.parametrize(("name", "domain"), OFFICIAL.items())
def test_the_lists_own_vectors_hold(name, domain):
    assert registered_domain(name) == domain


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("api.mercadolivre.com.br", "mercadolivre.com.br"),
        ("graph.example.co.za", "example.co.za"),
        ("a.example.in.th", "example.in.th"),
        ("d1.cloudfront.net", "cloudfront.net"),
        ("someone.github.io", "github.io"),
        ("Bücher.Example.", "xn--bcher-kva.example"),
    ],
)
def test_domains_are_registered_under_the_suffixes_of_every_country(name, domain):
    assert registered_domain(name) == domain
    assert registered_domain(name.upper()) == domain


@pytest.mark.parametrize(
    "name",
    ["", ".", "localhost", "192.0.2.1", "192.0.2", "host.1",
     "2001:db8::1", "[2001:db8::1]", "a..example.com", "pay\u200bpal .com",
     r"a\x00.example.com", "a" * 64 + ".com", ".".join(["abc"] * 70), "exa mple.com", "xn--\u0660.com"],
)  # fmt: skip
def test_what_is_no_host_name_has_no_domain(name):
    assert registered_domain(name) is None


def test_names_are_compared_in_lower_case_and_punycode():
    assert comparable_name("MÜNCHEN.example") == comparable_name("xn--mnchen-3ya.EXAMPLE.")
    assert comparable_name("localhost") == "localhost"
    assert comparable_name("10.0.0.1") is None
