"""A process that opens damaged files, so that one that crashes or hangs takes nothing else along."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from runtime.base.images import read_image
from runtime.contract import ModelContract
from runtime.errors import DatasetError, EdgesegError, SourceError
from runtime.frame import check_image
from runtime.network.session import NetworkSession
from runtime.sources import Backoff, LivePolicy, Source, open_source
from tests.fuzz.answering import answering
from tests.fuzz.corruption import Originals, damaged
from tests.fuzz.seeds import BAGS, CLASSES, CONTAINERS, SEED_TARGETS, SHAPE_FILES, picture, seeds
from training.data import open_dataset
from training.data.labels import plain_ids
from training.engine.checkpoint import load_checkpoint

# Forks of a process that imported torch and onnxruntime once; where they were used they do not survive it.
START_METHOD: Literal["forkserver"] = "forkserver"
MOST_FRAMES, MOST_LIVE_FRAMES = 200, 4
IMPATIENT = LivePolicy(
    open_s=1.0, stall_s=0.5, reopen_s=1.0, give_up_s=1.0, backoff=Backoff(first_s=0.1, cap_s=0.2)
)
EXTRA_MEMORY_BYTES = 6 << 30  # beyond what the process has mapped before the first file
# What a file could make a loader do that is not loading; audit events of CPython (PEP 578).
FORBIDDEN_EVENTS = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess.Popen", "pty.spawn"),
    *("os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "socket.connect", "urllib.Request"),
)


class Worker:
    """One such process; it is started again after a crash."""

    def __init__(
        self, originals: Originals, seed: int, time_limit_s: float, targets: Sequence[str] = ()
    ) -> None:
        """Keep what the process will need; it starts with the first file."""
        self._arguments = (originals, seed, targets)
        self._time_limit_s = time_limit_s
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection[Any, Any] | None = None

    def check(self, target: str, index: int) -> str:
        """Open one variant.

        Returns:
            "loaded"; "refused: " and the error's type; or what must not happen: "untyped: …", "ran code: …",
            "crash: …" or "hang: …".
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._connection is not None
        self._connection.send((target, index))
        try:
            if self._connection.poll(self._time_limit_s):
                return str(self._connection.recv())
        except (EOFError, ConnectionError):
            self._process.join()
            result = f"crash: exit code {self._process.exitcode}"
        else:
            result = f"hang: no answer within {self._time_limit_s:g} s"
        self.close()
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> None:
        context = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload([__name__])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        if self._connection.recv() != "ready":
            raise RuntimeError("the fuzzing process did not start")


def whole_files(originals: Originals, targets: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what is damaged, whole."""
    yield "checkpoint", originals.checkpoint
    yield "graph", originals.model
    yield "contract", originals.contract
    for target in targets:
        if target in SEED_TARGETS:
            yield target, seeds(target)[0]


def serve(
    connection: Connection[Any, Any], originals: Originals, seed: int, targets: Sequence[str] = ()
) -> None:
    """Answer what happens with one variant after the other, until the other side is gone."""
    caught: list[str] = []
    is_watched = False
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's quiet; read at the first video
    logging.disable(logging.CRITICAL)

    def notice(event: str, arguments: tuple[object, ...]) -> None:
        is_forbidden = event in FORBIDDEN_EVENTS and not _asks_this_process(event, arguments)
        if is_watched and (is_forbidden or (event == "open" and _is_writing(arguments))):
            caught.append(event)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "variant"
        for target, content in whole_files(originals, targets):
            path.write_bytes(content)
            # Whole files must open; what they import is loaded now. A stream ends with an error.
            with suppress(SourceError) if target in ("http", "rtsp") else nullcontext():
                open_file(target, path)
        _limit_memory()
        _silence_libraries()
        sys.addaudithook(notice)
        connection.send("ready")
        while True:
            try:
                target, index = connection.recv()
            except EOFError:
                return
            path.write_bytes(damaged(originals, target, index, seed))
            caught.clear()
            is_watched = True
            try:
                open_file(target, path)
                result = "loaded"
            except EdgesegError as error:
                result = f"refused: {type(error).__name__}"
            except BaseException as error:
                result = f"untyped: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            finally:
                is_watched = False
            connection.send(f"ran code: {', '.join(caught)}" if caught else result)


def open_file(target: str, path: Path) -> None:
    """Open a variant as its users do, and use it once."""
    if target in ("checkpoint", "pickle"):
        load_checkpoint(path).build()
    elif target == "contract":
        ModelContract.from_json(path.read_bytes().decode("utf-8", errors="replace")).to_json()
    elif target in SEED_TARGETS:
        _open_strange(target, path)
    else:
        session = NetworkSession(path, threads=1)
        image_bgr = np.zeros((*session.contract.input.size_hw, 3), np.uint8)
        if session.contract.output.has_logits:
            session.run(image_bgr)
        else:
            session.run_mask(image_bgr)


def _open_strange(target: str, path: Path) -> None:
    """Open what a camera, a phone or a label tool could have made."""
    if target in CONTAINERS:
        watch(open_source(str(path)))
    elif target in BAGS:  # which are known by their endings
        link = path.with_suffix(f".{target}")
        if not link.is_symlink():
            link.symlink_to(path)
        watch(open_source(str(link)))
    elif target == "image":
        read_image(path)
    elif target == "label":
        plain_ids(3, void=255).read(path)
    elif target == "classes":
        _open_data_set(path)
    elif target == "shapes":
        _open_shapes(path)
    else:
        with answering(path.read_bytes()) as port:
            watch(open_source(f"{target}://127.0.0.1:{port}/live", policy=IMPATIENT), MOST_LIVE_FRAMES)


def _open_data_set(classes: Path) -> None:
    root = classes.parent / "data"
    if not root.exists():
        for folder, content in (("images", seeds("image")[0]), ("labels", seeds("label")[0])):
            (root / folder / "train").mkdir(parents=True)
            (root / folder / "train" / "a.png").write_bytes(content)
        (root / "classes.json").symlink_to(classes)
    open_dataset("folder", root, "train")[0]


def _open_shapes(path: Path) -> None:
    """Open a file of labels as each format that draws its labels; raise where none takes it."""
    root = path.parent / "shapes"
    refusals = []
    for kind, name in SHAPE_FILES.items():
        folder = root / kind
        if not folder.exists():
            for image in ("images/a.png", "train/img/a.png"):
                (folder / image).parent.mkdir(parents=True)
                (folder / image).write_bytes(cv2.imencode(".png", picture())[1].tobytes())
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path)
            if kind == "yolo":
                (folder / "a.yaml").write_text(f"train: images\nnames: {list(CLASSES)}\n")
            if kind == "supervisely":
                (folder / "meta.json").write_text(
                    json.dumps({"classes": [{"title": each} for each in CLASSES]})
                )
        try:
            open_dataset(kind, folder, "train")[0]
        except DatasetError as error:
            refusals.append(error)
    if len(refusals) == len(SHAPE_FILES):
        raise refusals[-1]


def watch(source: Source, most: int = MOST_FRAMES) -> int:
    """Take frames until the source ends, breaks, or has shown enough; return how many."""
    count = 0
    with source:
        for frame in islice(source, most):
            check_image(frame.image_bgr)
            count += 1
    return count


def _asks_this_process(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an event is of a connection to the server that `answering` made."""
    if event == "socket.connect":
        return bool(arguments[1][0] == "127.0.0.1")
    return event == "urllib.Request" and str(arguments[0]).startswith("http://127.0.0.1:")


def _is_writing(arguments: tuple[object, ...]) -> bool:
    """Whether an `open` event is for writing: its arguments are path, mode and flags."""
    mode = arguments[1] if len(arguments) > 1 else None
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def _silence_libraries() -> None:
    """Keep what libraries say of each damaged file from the terminal."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _limit_memory() -> None:
    """Make an allocation of many gigabytes fail here, rather than take the machine along; Linux only."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return
    import resource

    mapped = int(status.read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + EXTRA_MEMORY_BYTES, hard))
