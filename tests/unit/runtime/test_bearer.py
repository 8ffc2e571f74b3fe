"""The edge relays' bearer: only what was signed with the key passes, only for its machine, only in its time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime import bearer
from libs.runtime.errors import CredentialExpired, Misconfigured, NacreError, Refused

KEY = b"0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def test_the_form_is_as_agreed() -> None:
    """The text is v1, machine, seconds and the HMAC-SHA-256 in hex, computed here by OpenSSL's own command."""
    # printf v1.perlmutter.1767229200 | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    assert bearer.sign(KEY, "perlmutter", LATER) == (
        "v1.perlmutter.1767229200.36ff084cd1916a5537b7c01f0fb50569abc37dc7eb83f4a59f3b413d146fa687"
    )


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True), st.integers(1, 10**6))
def test_what_was_signed_passes_until_it_expires(machine: str, seconds: int) -> None:
    """A bearer gives its machine up to its last second, and is expired from then on; a later one may pass again."""
    text = bearer.sign(KEY, machine, NOW + timedelta(seconds=seconds))
    assert bearer.verified(KEY, text, NOW + timedelta(seconds=seconds - 1)) == machine
    with pytest.raises(CredentialExpired):
        bearer.verified(KEY, text, NOW + timedelta(seconds=seconds))


@given(st.data())
def test_any_changed_character_is_refused(data: st.DataObject) -> None:
    """Whatever character is changed, the bearer is refused, and the error does not quote it."""
    text = bearer.sign(KEY, "perlmutter", LATER)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[place] and not c.isspace()))
    with pytest.raises(Refused) as raised:
        bearer.verified(KEY, text[:place] + other + text[place + 1 :], NOW)
    assert text[-32:] not in str(raised.value)


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    """Any text is refused in good order."""
    with pytest.raises(Refused):
        bearer.verified(KEY, text, NOW)


def test_another_key_is_refused() -> None:
    """A bearer of another site's key does not pass; white space around key or bearer does not matter."""
    text = bearer.sign(KEY, "perlmutter", LATER)
    assert bearer.verified(KEY + b"\n", f" {text}\n", NOW) == "perlmutter"
    with pytest.raises(Refused, match="another key"):
        bearer.verified(KEY[::-1], text, NOW)


def test_a_short_key_is_said() -> None:
    """A key that can be guessed is a mistake of the configuration, on both sides."""
    with pytest.raises(Misconfigured, match="at least 16"):
        bearer.sign(b"short          \n", "perlmutter", LATER)
    with pytest.raises(NacreError, match="at least 16"):
        bearer.verified(b"", bearer.sign(KEY, "perlmutter", LATER), NOW)


def test_what_cannot_be_signed() -> None:
    """A machine's name with a dot would be read otherwise, an instant without zone would mean another one."""
    with pytest.raises(ValueError, match="short name"):
        bearer.sign(KEY, "perl.mutter", LATER)
    with pytest.raises(ValueError, match="time zone"):
        bearer.sign(KEY, "perlmutter", LATER.replace(tzinfo=None))
