from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from runtime.errors import ConfigError, EdgesegError
from runtime.sources import opening
from runtime.sources.credentials import Credentials, with_credentials
from runtime.sources.opening import SourceOptions, open_source

SECRET = "hunter2Pw"


@pytest.fixture
def environment(monkeypatch):
    def put(user: str | None, password: str | None) -> None:
        for name, value in (("EDGESEG_SOURCE_USER", user), ("EDGESEG_SOURCE_PASSWORD", password)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)

    put(None, None)
    return put


@pytest.mark.parametrize("user", ["admin", "a@b.example", "dömäin\\user"])
@pytest.mark.parametrize("password", ["", SECRET, "p@ss:w/o?r#d %41", "路面"])
@pytest.mark.parametrize("address", ["rtsp://cam/live", "http://[fe80::1]:8080/a?b=c@d", "RTSPS://cam:322"])
def test_they_come_back_out_of_the_address(user, password, address):
    parts, before = urlsplit(Credentials(user, password).into(address)), urlsplit(address)
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert (parts.hostname, parts.port, parts.path) == (before.hostname, before.port, before.path)
    assert parts.query == before.query


@pytest.mark.parametrize(
    ("spec", "opened"),
    [
        ("rtsp://cam/live", "rtsp://admin:hunter2Pw@cam/live"),
        ("http://cam/a@b", "http://admin:hunter2Pw@cam/a@b"),
        ("rtsp://other:pw@cam/live", "rtsp://other:pw@cam/live"),  # the address goes before
        ("udp://239.0.0.1:5000", "udp://239.0.0.1:5000"),
        ("0", "0"),
        ("clip.mp4", "clip.mp4"),
    ],
)
def test_what_the_environment_holds_goes_into_addresses_only(environment, spec, opened):
    environment("admin", SECRET)
    assert with_credentials(spec, None) == opened
    environment(None, None)
    assert with_credentials(spec, None) == spec


def test_a_password_without_a_user(environment):
    environment(None, SECRET)
    with pytest.raises(ConfigError, match="expected EDGESEG_SOURCE_USER too") as caught:
        open_source("rtsp://cam/live")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("spec", ["rtsp://other:pw@cam/live", "udp://239.0.0.1:5000", "0", "clip.mp4"])
def test_a_file_for_what_takes_none_is_refused(spec):
    with pytest.raises(ConfigError, match="leave one of them out") as caught:
        with_credentials(spec, Credentials("admin", SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "user", "password"),
    [("admin:hunter2Pw\n", "admin", SECRET), ("admin:a:b:c", "admin", "a:b:c"), ("admin:", "admin", "")],
)
def test_a_file(tmp_path, content, user, password):
    path = tmp_path / "camera"
    path.write_text(content)
    assert Credentials.read(path) == Credentials(user, password)


@pytest.mark.parametrize("content", ["hunter2Pw", ":hunter2Pw"])
def test_a_file_without_a_user(tmp_path, content):
    path = tmp_path / "camera"
    path.write_text(content)
    with pytest.raises(ConfigError, match="USER:PASSWORD") as caught:
        Credentials.read(path)
    assert SECRET not in str(caught.value)


def test_only_what_opens_the_stream_gets_them(tmp_path, monkeypatch, caplog, environment):
    path = tmp_path / "camera"
    path.write_text(f"admin:{SECRET}\n")
    path.chmod(0o600)
    asked: list[str] = []

    class Closed:
        def __init__(self, address: str, *_: object) -> None:
            asked.append(address)

        def isOpened(self) -> bool:
            return False

        def release(self) -> None: ...

    monkeypatch.setattr(opening.cv2, "VideoCapture", Closed)
    options = SourceOptions("rtsp://cam/live", source_credentials=Path(path))
    policy = opening.LivePolicy(give_up_s=0.3)
    with (
        pytest.raises(EdgesegError) as caught,
        open_source(options.source, policy=policy, credentials=Credentials.read(path)) as source,
    ):
        next(iter(source))
    assert asked[0] == f"rtsp://admin:{SECRET}@cam/live"
    assert (
        SECRET not in f"{caught.value!r} {caplog.text} {options!r} {options.name} {Credentials.read(path)!r}"
    )
