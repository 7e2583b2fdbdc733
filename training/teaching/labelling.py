"""A folder of frames with soft and hard labels, each made once, however often a run is stopped.

What `training.label` fills:

    DIR/images/NAME.png    the frame; files of a folder are copied as they are
    DIR/labels/NAME.png    the class of each pixel, 255 where the networks are not sure
    DIR/soft/NAME.npz      what they say, see `training.teaching.soft_labels`
    DIR/classes.json       so that DIR opens as a data set: --data folder --root DIR
    DIR/label.json         what the labels were made with
    DIR/sheets/            to look at
"""

from __future__ import annotations

import dataclasses
import filecmp
import glob
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime.base.codec import DecodeError, from_plain, to_plain
from runtime.base.files import (
    file_sha256,
    open_regular,
    read_regular,
    replacing,
    sampled_digest,
    write_text,
)
from runtime.base.images import IMAGE_SUFFIXES
from runtime.base.shown import printable, shown
from runtime.contract import ClassMap
from runtime.errors import ConfigError, DatasetError
from runtime.frame import Image
from runtime.masks.confidence import winner_confidence, without_the_unsure
from runtime.masks.formats import encode_palette_png
from runtime.network.mask import class_mask
from runtime.ros.bags import is_bag
from training.class_maps.translation import class_names, map_file
from training.data.dataset import IGNORE, Sample
from training.data.folder import read_classes
from training.data.labels import load_file, plain_ids, read_picture
from training.figures.sheets import label_sheet, write_sheet
from training.teaching.ensemble import FLOOR, Ensemble, Probabilities
from training.teaching.frames import Recording, Taken
from training.teaching.soft_labels import SoftLabels, TeacherFile, write_description, write_soft_labels

RECORD = "label.json"
ON_A_SHEET, MOST_SHEETS = 8, 3


@dataclass(frozen=True)
class LabelRecord:
    """What labels were made with; those of one folder are all made alike.

    Attributes:
        source: name of the recording.
        every: one frame in so many.
        networks: name and SHA-256 of each file.
        weights: of each, as they were given; none for equal ones.
        class_maps: name and SHA-256 of each.
        flip: whether each network also saw mirrored frames.
        scales: sizes at which each saw the frames.
        stride: pixels of the frame a soft label stands for.
        void_below: probability under which a pixel's hard label is void.
        topic: of a bag; "" for the only one.
        digest: hex SHA-256 of parts of the recording; "" for what is no file, and for a folder of images,
            which may grow.
    """

    source: str
    every: int
    networks: tuple[tuple[str, str], ...]
    weights: tuple[float, ...]
    class_maps: tuple[tuple[str, str], ...] = ()
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    stride: int = 4
    void_below: float = 0.5
    topic: str = ""
    digest: str = ""

    @classmethod
    def of(
        cls,
        source: str,
        models: Sequence[Path],
        class_maps: Sequence[str],
        topic: str | None = None,
        **settings: Any,
    ) -> LabelRecord:
        """Return the record of a run with these files and settings.

        Raises:
            ConfigError: a model file or a recording that cannot be read.
            DatasetError: a class map that is missing.
        """
        try:
            networks = tuple((path.name, file_sha256(path)) for path in models)
        except OSError as error:
            raise ConfigError(
                f"model {error.filename}: expected an ONNX file, got {error.strerror}; check the path"
            ) from None
        for name in class_maps:
            class_names(name)  # refuses what is no map
        maps = tuple((Path(name).name, file_sha256(map_file(name))) for name in class_maps)
        try:
            digest = _digest(Path(source))
        except OSError as error:
            raise ConfigError(
                f"source {shown(source)}: expected a recording, got {error.strerror}; check the path"
            ) from None
        return cls(
            Path(source).name,
            networks=networks,
            class_maps=maps,
            topic=topic or "",
            digest=digest,
            **settings,
        )

    def claim(self, folder: Path) -> None:
        """Write the record into a folder, or make sure that the one there is the same.

        Raises:
            ConfigError: the folder holds labels that were made otherwise, or somebody's own.
            DatasetError: a damaged record.
        """
        path = folder / RECORD
        if not path.exists():
            own = [name for name in ("labels", "images", "soft", "classes.json") if (folder / name).exists()]
            if own:
                raise ConfigError(
                    f"{folder}: expected a new folder, or one that training.label filled, got one that holds "
                    f"{own[0]} but no {RECORD}; choose another --out, so that nothing of yours is replaced"
                )
            write_text(path, json.dumps(to_plain(self), indent=1, ensure_ascii=False) + "\n")
            return
        try:
            found = from_plain(LabelRecord, json.loads(read_regular(path).decode("utf-8")))
        except (OSError, DecodeError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path}: expected a record of labels, {error}; choose another") from None
        for one in dataclasses.fields(self):
            ours, theirs = getattr(self, one.name), getattr(found, one.name)
            is_told = one.name != "digest" or theirs  # records of before have none
            if ours != theirs and is_told:
                raise ConfigError(
                    f"{folder}: expected labels made with {one.name} {_said(ours)}, it holds some made with "
                    f"{_said(theirs)}; choose another --out, or the same settings"
                )


def _digest(source: Path) -> str:
    """Return a hex SHA-256 of a recording's size and of parts of it; "" for what is no file and no bag.

    Raises:
        OSError: it cannot be read.
    """
    files = [source] if source.is_file() else []
    if source.is_dir() and is_bag(source):
        files = sorted(path for path in source.iterdir() if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        with open_regular(path) as file:
            digest.update(sampled_digest(file)[0])
    return digest.hexdigest() if files else ""


def _said(value: object) -> str:
    """Return a setting as a message names it: of files the names, and as much of the digest as tells them."""
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return ", ".join(f"{name} ({digest[:8]})" for name, digest in value)
    return shown(" ".join(map(str, value)) if isinstance(value, tuple) else value)


@dataclass(frozen=True)
class LabelFolder:
    """A folder of labelled frames.

    Attributes:
        root: the folder.
        classes: of the labels.
        soft: the soft labels; its `names` are those that were there when it was opened.
    """

    root: Path
    classes: ClassMap
    soft: SoftLabels

    @classmethod
    def open(cls, root: Path) -> LabelFolder:
        """Open what was labelled.

        Raises:
            DatasetError: no such folder, or none of its frames is whole.
        """
        if not (root / RECORD).is_file():
            raise DatasetError(
                f"{root}: expected a folder that training.label filled, found no {RECORD}; label a recording "
                "with --model and --source first"
            )
        return cls(root, read_classes(root), SoftLabels.open(root / "soft"))

    @classmethod
    def start(cls, root: Path, ensemble: Ensemble, record: LabelRecord) -> LabelFolder:
        """Prepare a folder, or go on with one that was made alike.

        Raises:
            ConfigError: it was made otherwise.
            DatasetError: its record is damaged.
            OutputError: it cannot be written.
        """
        record.claim(root)
        for leftover in root.glob("*/.*.part.*"):  # of a run that was killed
            leftover.unlink(missing_ok=True)
        names = tuple(member.contract.name for member in ensemble.members)
        teacher = TeacherFile(
            ensemble.classes.names,
            record.stride,
            networks=names,
            weights=tuple(member.weight for member in ensemble.members),
            terms=ensemble.terms,
            features=ensemble.channels,
            features_of=ensemble.speaker_sha256,
        )
        (root / "soft").mkdir(exist_ok=True)
        write_description(root / "soft", teacher)
        write_classes(root, ensemble.classes, ensemble.terms)
        return cls.open(root)

    def holds(self, frame: Taken) -> bool:
        """Whether a frame is there with all that belongs to it, and not damaged.

        Raises:
            ConfigError: another picture of this name is there.
            OSError: one of them cannot be read.
        """
        copy = self.root / "images" / frame.file_name
        if frame.file is not None and copy.is_file() and not filecmp.cmp(frame.file, copy, shallow=False):
            raise ConfigError(
                f"{frame.file}: expected the picture that {self.root} holds under this name, got another "
                "one; choose another --out, or rename one of them"
            )
        try:
            self.soft.read(frame.name)
            self.soft.read_features(frame.name)
        except DatasetError:
            return False
        return self._label(frame.name).is_file() and copy.is_file()

    def add(
        self, frame: Taken, probabilities: Probabilities, features: Image | None, void_below: float
    ) -> None:
        """Keep a frame and its labels; the soft one comes last and says that all is there.

        Raises:
            OSError: a disk that is full or cannot be written.
        """
        assert frame.image_bgr is not None
        height, width = frame.image_bgr.shape[:2]
        label = hard_label(probabilities, (height, width), void_below)
        with replacing(self.root / "images" / frame.file_name) as part:
            if frame.file is None:
                part.write_bytes(cv2.imencode(".png", frame.image_bgr)[1].tobytes())
            else:
                shutil.copyfile(frame.file, part)
        with replacing(self._label(frame.name)) as part:
            part.write_bytes(encode_palette_png(label, self.classes))
        write_soft_labels(self.root / "soft", frame.name, probabilities, features)

    def image(self, name: str) -> Path:
        """Return the file of a frame's picture.

        Raises:
            DatasetError: there is none.
        """
        for path in sorted((self.root / "images").glob(f"{glob.escape(name)}.*")):
            if path.stem == name and path.suffix.lower() in IMAGE_SUFFIXES:
                return path
        raise DatasetError(
            f"{self.root / 'images' / name}: expected a picture of this name, found none; label it again"
        )

    def sample(self, name: str) -> Sample:
        """Return a frame with its hard label.

        Raises:
            DatasetError: a file that is missing or damaged.
        """
        label = plain_ids(len(self.classes), IGNORE).read(self._label(name))
        return Sample(read_picture(load_file(self.image(name))), label, printable(name))

    def draw_sheets(self, names: Sequence[str], title: str) -> list[Path]:
        """Draw sheets of frames beside their labels, evenly spread over these; return the files.

        Raises:
            DatasetError: a frame that cannot be read.
        """
        most = min(len(names), ON_A_SHEET * MOST_SHEETS)
        places = np.linspace(0, len(names) - 1, most).round().astype(int).tolist()
        sheets: list[Path] = []
        for start in range(0, most, ON_A_SHEET):
            part = [names[place] for place in places[start : start + ON_A_SHEET]]
            sheets.append(self.root / "sheets" / f"{title}-{len(sheets) + 1}.png")
            heading = f"{self.root.name}, {title}: {len(part)} of {len(names)} frames"
            write_sheet(sheets[-1], label_sheet([self.sample(name) for name in part], self.classes, heading))
        return sheets

    def _label(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.png"


def label_recording(
    out: Path, recording: Recording, ensemble: Ensemble, record: LabelRecord
) -> tuple[LabelFolder, list[str], int]:
    """Label the frames of a recording that a folder does not hold yet.

    Args:
        out: the folder.
        recording: what to label.
        ensemble: who labels.
        record: what the labels are made with.

    Returns:
        The folder, the names of the recording's frames, and how many of them it held before.

    Raises:
        ConfigError: the folder holds labels that were made otherwise.
        EdgesegError: a recording or a network that breaks; all frames before are kept.
    """
    folder = LabelFolder.start(out, ensemble, record)
    names, known = [], 0
    for frame in recording.frames(folder.holds):
        if frame.image_bgr is None:
            known += 1
        else:
            said, features = ensemble(frame.image_bgr), ensemble.features(frame.image_bgr)
            folder.add(frame, said, features, record.void_below)
        names.append(frame.name)
    return folder, names, known


def write_classes(folder: Path, classes: ClassMap, terms: str) -> None:
    """Write a `classes.json` for labels that hold class indices, drawn over upright pictures."""
    described: dict[str, object] = {
        "names": classes.names,
        "palette": classes.palette_rgb,
        "terms": terms,
        "labels_upright": True,
    }
    if classes.traversable is not None:
        described["traversable"] = classes.traversable
    write_text(folder / "classes.json", json.dumps(described, ensure_ascii=False) + "\n")


def hard_label(probabilities: Probabilities, size_hw: tuple[int, int], void_below: float) -> Image:
    """Return the class of each pixel, uint8 (H, W), 255 where its probability is below a limit."""
    logs = np.log(np.maximum(probabilities, FLOOR))[None]  # (1, C, h, w): softmax gives them back
    mask, confidence = class_mask(logs, size_hw), winner_confidence(logs, size_hw)
    return without_the_unsure(mask, confidence, void_below)
