"""What of an address is shown."""

import pytest

from facet.tracker.address import redacted, redacted_text

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("", ""),
        ("clips/a?b#c@d.mp4", "clips/a?b#c@d.mp4"),
        ("http://host/a.mp4", "http://host/a.mp4"),
        ("http://host:8080/@home/a.mp4", "http://host:8080/@home/a.mp4"),
        ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
        (f"http://user:{SECRET}@host:80/a.mp4", "http://host:80/a.mp4"),
        (f"http://{SECRET}@host/a.mp4", "http://host/a.mp4"),
        (f"rtsp://user:a@{SECRET}@host/live", "rtsp://host/live"),
        (f"http://user:a/{SECRET}@host/live", "http://host/live"),
        (f"http://user:a#{SECRET}@host/live", "http://host/live"),
        (f"http://user:a?{SECRET}@host/live", "http://host/live"),
        (f"http://user:a b{SECRET}@host/live", "http://host/live"),
        (f"http://host/a.mp4?token={SECRET}", "http://host/a.mp4"),
        (f"http://host?{SECRET}", "http://host"),
        (f"http://host/a?user=me@example.org&token={SECRET}", "http://host/a"),
        (f"http://host/a#{SECRET}?x", "http://host/a"),
        (f"http://user:{SECRET}@[::1/a", "http://[::1/a"),
        (f"http://user:{SECRET}@", "http://"),
    ],
)
def test_an_address_is_shown_without_secrets(address, shown):
    assert redacted(address) == shown
    assert redacted(redacted(address)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Connection refused", "Connection refused"),
        (f"'http://u:{SECRET}@h/x?t={SECRET}': refused", "'http://h/x': refused"),
        (f"moved from http://h/a?k={SECRET} to https://{SECRET}@h/b.", "moved from http://h/a to https://h/b."),
        (f"error opening http://u:a {SECRET}@h/x: no", "error opening http://h/x: no"),
    ],
)
def test_a_message_is_shown_without_secrets(text, shown):
    assert redacted_text(text, f"http://u:a {SECRET}@h/x") == shown
