import io

import pytest

from runtime.base.shown import (
    ShownStream,
    printable,
    printable_lines,
    shown,
    steers,
    well_formed,
    without_secrets,
)

SECRET = "hunter2Pw"
ADDRESSES = [
    # where users and passwords stand
    "rtsp://admin:{}@10.0.0.7/live",
    "rtsp://{}@10.0.0.7/live",
    "rtsp://:{}@10.0.0.7:554/live",
    "RTSP://Admin:{}@CAM/live",
    "rtsps://admin:{}@cam.local:322/stream1",
    "http://admin:p@{}@cam/video.mjpg",
    "http://admin:p/{}@cam/video.mjpg",
    "rtsp://admin:{}:x@cam/live",
    "rtsp://ad min:{}@cam/live".replace("ad min", "ad%20min"),
    "srt://user:{}@host:9000",
    "rtsp://admin:{}@[fe80::1]/live",
    # mistyped
    "rtsp:/admin:{}@cam/live",
    "rtsp:admin:{}@cam/live",
    "rtsp//admin:{}@cam/live",
    "//admin:{}@cam/live",
    "rstp://admin:{}@cam/live",
    "admin:{}@cam/live",
    "admin:{}@192.168.1.10:554",
    "rtsp:///admin:{}@cam/live",
    "rtsp%3A%2F%2Fadmin%3A{}%40cam%2Flive",
    # queries and fragments
    "https://cam/live?token={}",
    "https://cam/live?a=1&pwd={}&b=2",
    "https://cam/live?auth={}",
    "https://cam/live?sig={}",
    "https://cam/live?X-Amz-Signature={}",
    "https://cam/live#access_token={}",
    "rtsp://cam/live?{}",
    # vendors' names in the path
    "rtsp://cam/user=admin_password={}_channel=1.sdp",
    "rtsp://cam/user=admin&password={}&channel=1.sdp",
    "http://cam/videostream.cgi;loginuse=admin;loginpas={}",
    "http://cam/cgi-bin/mjpg/passwd={}/1",
    "rtsp://cam/pwd={}/h264",
    "rtmp://host/live/4f8a9c2be71d{}0a1b2c3d",
    # settings and strings of other programs
    "rtspsrc location=rtsp://cam user-id=admin user-pw={} ! decodebin",
    'rtspsrc location="rtsp://admin:{}@cam/live" latency=0',
    "souphttpsrc location=http://cam/ extra-headers=authorization:{}",
    '{{"user": "admin", "password": "{}"}}',
    "password = '{}'",
    "Authorization: Basic {}dXNlcg==",
    "Authorization: Bearer {}.x.y",
    "--token {} --source 0",
    "--password={}",
    "api_key={}",
    "EDGESEG_TOKEN={}",
    "CAMERA_PASSWORD: {}",
]


@pytest.mark.parametrize("template", ADDRESSES)
def test_no_secret_is_shown(template):
    assert SECRET not in without_secrets(template.format(SECRET))


@pytest.mark.parametrize("template", ADDRESSES)
def test_no_secret_is_shown_within_a_message(template):
    message = f"error: cannot open {template.format(SECRET)}: timed out; check the camera"
    said = without_secrets(message)
    assert SECRET not in said
    assert said.startswith("error: cannot open ")


@pytest.mark.parametrize("template", ADDRESSES)
def test_hiding_twice_hides_no_more(template):
    once = without_secrets(template.format(SECRET))
    assert without_secrets(once) == once


@pytest.mark.parametrize(
    "name",
    [
        "clips/drive.mp4",
        "a:b.mp4",
        "frames/user=1/*.png",
        "12:30.mp4",
        "/data/2026-11-26T10:00:00/front.mkv",
        "mail@home.png",
        "frames/a@2x.png",
        "C:\\videos\\clip.mp4",
        "/dev/video0",
        "0",
        "synthetic",
        "expected 1 to 256, got 0; leave it out for 2",
        "rtsp://cam:554/live/ch1",
        "https://cam/a/b/stream.m3u8",
        "model seg.onnx: expected float32 logits (1, 11, 90, 120)",
        "expected classes road, car; got road: 1, car: 2",
        "runs/4f8a9c2be71d4f8a9c2be71d/best.pt",
        "keyboard interrupt",
        "monkey: 3",
    ],
)
def test_what_is_no_secret_is_left_alone(name):
    assert without_secrets(name) == name


def test_the_rest_of_an_address_stays_readable():
    assert without_secrets(f"rtsp://admin:{SECRET}@cam:554/live/ch1?x=1") == "rtsp://***@cam:554/live/ch1?***"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain text, ünïcode, 路面, العربية ✓", "plain text, ünïcode, 路面, العربية ✓"),
        ("two\nlines\tand a tab\r", "two lines and a tab "),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x00\x7f\x9b31m", "\\x00\\x7f\\x9b31m"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("a\u200bb\ufeffc\u2066d", "a\\u200bb\\ufeffc\\u2066d"),
        ("line\u2028para\u2029", "line\\u2028para\\u2029"),
        ("not utf-8: \udcff\udc80", "not utf-8: \\udcff\\udc80"),
        ("private \ue000", "private \\ue000"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, said):
    assert printable(text) == said
    said.encode("utf-8")


def test_a_strangers_text_is_one_line_without_secrets_and_short():
    text = shown(f"open rtsp://a:{SECRET}@cam\n\x1b[31m" + "x" * 10_000)
    assert text.startswith("open rtsp://***@cam \\x1b[31mxxx")
    assert len(text) == 500
    assert text.endswith("…")


def test_whatever_has_a_text_is_shown():
    assert shown(ValueError("a\nb")) == "a b"


def test_a_long_text_takes_no_long_time():
    text = "a:" * 20_000 + "//" * 20_000 + "key=" * 5_000 + "@"
    assert len(shown(text)) <= 500
    assert shown("x" * 10**7) == "x" * 499 + "…"


def test_the_cut_of_a_long_text_uncovers_nothing():
    assert SECRET not in shown(f"admin:{SECRET}" * 10**5)
    said = shown(f"{'word ' * 50}rtsp://admin:{SECRET * 1000}@camera/live")
    assert said.startswith("word word")
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "is_steering"),
    [
        ("road", False),
        ("Straße 路面 طريق सड़क", False),
        ("راه\u200cآهن", False),  # spelt with a joiner
        ("👩\u200d🚒", False),
        ("", False),
        ("a\nb", True),
        ("a\tb", True),
        ("\x00", True),
        ("\x1b[2J", True),
        ("\x9b2J", True),
        ("evil\u202egnp", True),
        ("\u2066a\u2069", True),
        ("\u200ea", True),
        ("a\u2028b", True),
        ("\udcff", True),
    ],
)
def test_what_steers(text, is_steering):
    assert steers(text) == is_steering


def test_joiners_stay_as_names_are_spelt_with_them():
    assert printable("راه\u200cآهن\x1b") == "راه\u200cآهن\\x1b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\r\nb", "a \nb"),
        ("\x1b[2J\nevil\u202e", "\\x1b[2J\nevil\\u202e"),
        ("\udcff\n", "\\udcff\n"),
    ],
)
def test_printable_lines(text, said):
    assert printable_lines(text) == said


@pytest.mark.parametrize("text", ["plain", "路", "\udcff\ud800", "caf\udce9.png", "a\nb\x00"])
def test_what_is_well_formed_can_be_encoded_and_stays_otherwise(text):
    encoded = well_formed(text).encode()
    assert encoded.decode() == text.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("plain, ünïcode, 路面\n", "plain, ünïcode, 路面\n"),
        ("\rframe 12  9.8 frames/s", "\rframe 12  9.8 frames/s"),
        ("\x1b[A\x1b[1A\x1b[Kbar\x1b[2K", "\x1b[A\x1b[1A\x1b[Kbar\x1b[2K"),  # what a progress bar sends
        ("saved \x1b[2J\x1b]0;title\x07.mp4", "saved \\x1b[2J\\x1b]0;title\\x07.mp4"),
        ("\x1b[A\x1b[31m", "\x1b[A\\x1b[31m"),
        ("caf\udce9.png evil\u202egnp.exe", "caf\\udce9.png evil\\u202egnp.exe"),
        ("\x9b31m\x00", "\\x9b31m\\x00"),
    ],
)
def test_a_shown_stream_escapes_what_steers_a_terminal(written, seen):
    raw = io.BytesIO()
    with ShownStream(raw, "utf-8", errors="replace", newline="\n") as stream:
        assert stream.write(written) == len(written)
        stream.flush()
        assert raw.getvalue().decode() == seen


@pytest.mark.parametrize(
    "message",
    [
        "token: expected --serve HOST:PORT too, got none; add the page it protects",
        "user: expected a name, got 3",
        "page: expected a token of 12 to 128 letters, digits, - and _, got another",
    ],
)
def test_messages_about_a_setting_are_no_secrets(message):
    assert shown(message) == message
