"""The contract: everything a runtime must know about a network, carried inside the network's own file.

Training writes it into the checkpoint, export into the ONNX file's `metadata_props`, and the runtime
reads it from there. It is JSON, so reading it runs no code.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Literal

from runtime.base.codec import DecodeError, from_plain, to_plain
from runtime.base.shown import shown, steers
from runtime.errors import ContractError

METADATA_KEY = "edgeseg.contract"
SCHEMA_VERSION = 2
# Of a file that says what an older runtime would get wrong (frames that are not stretched, a temperature of
# confidences) or does not know (what may be driven on, features), so that it refuses the file in plain words.
LATEST_SCHEMA = 3
# Schema 1 knew neither masks as output, nor sizes chosen at run time; its fields mean what they mean now.
READABLE_SCHEMAS = (1, SCHEMA_VERSION, LATEST_SCHEMA)
MAX_SIDE = 16_384  # pixels; more than any camera has, and little enough for one frame in memory
MAX_NAME = 200  # characters of a class's name
MAX_CLASSES = 255  # masks are uint8 and 255 is kept for the ignore index

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class ClassMap:
    """Names and colours of the classes; a class's index is its place.

    Attributes:
        names: one unique name a class.
        palette_rgb: one colour a class, each channel 0..255.
        ignore_index: the label value of pixels without a class (void). In a mask it stands where the network
            saw nothing (see `ImageFit`), and where a network that gives class indices says so itself.
        traversable: names of the classes that may be driven on; None where nobody said. Two sets of classes
            are equal without it: labels and masks mean the same.
    """

    names: tuple[str, ...]
    palette_rgb: tuple[Rgb, ...]
    ignore_index: int = 255
    traversable: tuple[str, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check that names, colours and ignore index fit together."""
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ContractError(f"classes: expected 1 to {MAX_CLASSES} names, got {len(self.names)}")
        if len(set(self.names)) != len(self.names):
            raise ContractError(f"classes: expected unique names, got {list(self.names)}")
        for name in self.names:
            if not name.strip() or len(name) > MAX_NAME or steers(name):
                raise ContractError(
                    f"classes: expected names of 1 to {MAX_NAME} characters without control characters and "
                    f"direction marks, got {shown(name, 60)!r}; rename that class"
                )
        if len(self.palette_rgb) != len(self.names):
            raise ContractError(
                f"classes: expected one colour a class ({len(self.names)}), got {len(self.palette_rgb)}"
            )
        if any(not 0 <= channel <= 255 for color in self.palette_rgb for channel in color):
            raise ContractError("classes: expected palette values from 0 to 255")
        if not len(self.names) <= self.ignore_index <= 255:
            raise ContractError(
                f"classes: expected an ignore index from {len(self.names)} to 255, got {self.ignore_index}"
            )
        for name in self.traversable or ():
            if name not in self.names:
                raise ContractError(
                    f"traversable: expected classes among {', '.join(self.names)}, got {name!r}"
                )

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.names)


# The order of the SegNet release of CamVid; colours of the CamVid paper (Brostow et al. 2009).
CAMVID_CLASSES = ClassMap(
    names=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    palette_rgb=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    traversable=("road",),  # a pavement lies behind a kerb, which flat ground does not know
)


Resample = Literal["bilinear", "area", "bicubic", "nearest", "antialias", "antialias-bicubic"]


@dataclass(frozen=True)
class ImageFit:
    """How a frame becomes a picture of the network's size; a network wants what it was trained on.

    Attributes:
        mode: "stretch" gives up the aspect ratio; "letterbox" keeps it and fills the borders; "crop" keeps it
            and cuts off what is too much. What a crop cuts off has no class: its mask is void.
        resample: the interpolation; "area" averages where the frame shrinks, "antialias" and
            "antialias-bicubic" weigh as PIL does, which is slower by some milliseconds.
        fill_bgr: colour of a letterbox's borders.
        place: where a letterboxed frame lies.
        zoom: a crop's frame is made so many times as large as it must be before the middle is cut out.
    """

    mode: Literal["stretch", "letterbox", "crop"] = "stretch"
    resample: Resample = "bilinear"
    fill_bgr: Rgb = (114, 114, 114)
    place: Literal["center", "corner"] = "center"
    zoom: float = 1.0

    def __post_init__(self) -> None:
        """Check colour and zoom."""
        if any(not 0 <= channel <= 255 for channel in self.fill_bgr):
            raise ContractError(f"input.fit.fill_bgr: expected values from 0 to 255, got {self.fill_bgr}")
        if not 1 <= self.zoom <= 16:
            raise ContractError(f"input.fit.zoom: expected a number from 1 to 16, got {self.zoom}")


STRETCH = ImageFit()


@dataclass(frozen=True)
class ImageInput:
    """What the graph takes: the camera's own pixels, so no preprocessing but a resize is left outside.

    Attributes:
        size_hw: height and width in pixels that a frame is resized to.
        name: the graph input's name.
        dtype: element type; values 0..255.
        layout: (batch, height, width, 3).
        color_order: channel order along the last axis.
        is_dynamic: whether batch, height and width are free; `size_hw` is then where none is chosen.
            Otherwise the batch is 1.
        size_multiple: what height and width must be multiples of.
        fit: how a frame is brought to that size.
    """

    size_hw: tuple[int, int]
    name: str = "image"
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    color_order: Literal["BGR"] = "BGR"
    is_dynamic: bool = False
    size_multiple: int = 1
    fit: ImageFit = STRETCH

    def __post_init__(self) -> None:
        """Check the sizes."""
        if min(self.size_hw) < 1:
            raise ContractError(f"input.size_hw: expected positive numbers, got {self.size_hw}")
        if max(self.size_hw) > MAX_SIDE:
            raise ContractError(f"input.size_hw: expected at most {MAX_SIDE} a side, got {self.size_hw}")
        if self.size_multiple < 1:
            raise ContractError(f"input.size_multiple: expected at least 1, got {self.size_multiple}")
        if any(side % self.size_multiple for side in self.size_hw):
            raise ContractError(
                f"input.size_hw: expected multiples of {self.size_multiple}, got {self.size_hw}"
            )

    def accepts(self, size_hw: tuple[int, int]) -> bool:
        """Whether the graph takes images of this height and width."""
        if not self.is_dynamic:
            return size_hw == self.size_hw
        return min(size_hw) > 0 and not any(side % self.size_multiple for side in size_hw)

    @property
    def accepted_sizes(self) -> str:
        """The sizes that the graph takes, in words for a message."""
        if not self.is_dynamic:
            return f"{self.size_hw[0]}x{self.size_hw[1]} (height x width)"
        return f"height and width in multiples of {self.size_multiple}"


@dataclass(frozen=True)
class FeatureMap:
    """What a layer inside says, to teach other networks with; see `export.features`.

    Attributes:
        name: of the output, float32 (1, F, h, w).
        shape: (F, h, w); the map covers the whole picture.
    """

    name: str
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Check the sizes."""
        if not all(1 <= side <= MAX_SIDE for side in self.shape):
            raise ContractError(
                f"output.features: expected sizes from 1 to {MAX_SIDE}, got {self.shape} of {self.name!r}"
            )


@dataclass(frozen=True)
class GraphOutput:
    """What the graph gives: logits for the runtime's fast tail, a finished mask for any consumer, or both.

    Attributes:
        stride: pixels of the input that one logit stands for, along each axis.
        name: of the logits, (batch, classes, height / stride, width / stride).
        kind: which outputs there are; of "both" the logits come first.
        dtype: element type of the logits, whatever the arithmetic inside is.
        mask_name: of the mask, uint8 (batch, height, width) class indices at the input's size.
        temperature: divides the logits before they become confidences, so that these are right as often as
            they say; fitted by `training.evaluate --fit-temperature`.
        features: more outputs, behind the others, from fine to coarse.
    """

    stride: int
    name: str = "logits"
    kind: Literal["logits", "mask", "both"] = "logits"
    dtype: Literal["float32"] = "float32"
    mask_name: str = "mask"
    temperature: float = 1.0
    features: tuple[FeatureMap, ...] = ()

    def __post_init__(self) -> None:
        """Check the stride, the temperature and that the outputs can be told apart."""
        if self.stride < 1:
            raise ContractError(f"output.stride: expected at least 1, got {self.stride}")
        if not 0 < self.temperature < math.inf:
            raise ContractError(f"output.temperature: expected a number above 0, got {self.temperature}")
        if self.name == self.mask_name:
            raise ContractError(
                f"output.mask_name: expected another name than the logits', got {self.name!r}"
            )
        names = (self.name, self.mask_name, *(features.name for features in self.features))
        if len(set(names)) < len(names):
            raise ContractError(f"output.features: expected names of their own, got {list(names[2:])}")

    @property
    def has_logits(self) -> bool:
        """Whether the graph gives logits."""
        return self.kind != "mask"

    @property
    def has_mask(self) -> bool:
        """Whether the graph gives a mask."""
        return self.kind != "logits"


@dataclass(frozen=True)
class Normalization:
    """The arithmetic inside the graph: (image - mean) / std, in units of 0..255, channels as B, G, R."""

    mean_bgr: tuple[float, float, float]
    std_bgr: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Check that std can divide."""
        if min(self.std_bgr) <= 0:
            raise ContractError(f"normalization.std_bgr: expected positive numbers, got {self.std_bgr}")


@dataclass(frozen=True)
class Accuracy:
    """A measured accuracy and what it was measured on; ratios from 0 to 1.

    The IoU of a class that is neither labelled nor predicted is None.
    """

    dataset: str
    split: str
    frames: int
    miou: float
    pixel_accuracy: float
    per_class_iou: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """Where a file came from.

    Attributes:
        checkpoint_sha256: of the checkpoint that was exported; empty inside a checkpoint itself.
        tools: versions of the tools that made the file.
        quantization: "none" for float32, otherwise what the weights and the arithmetic are, in words.
        terms: what the training data allows, in words.
    """

    checkpoint_sha256: str = ""
    tools: dict[str, str] = field(default_factory=dict)
    quantization: str = "none"
    terms: str = ""


@dataclass(frozen=True)
class ModelContract:
    """All a runtime must know about a network.

    >>> contract = ModelContract(
    ...     name="toy",
    ...     input=ImageInput(size_hw=(352, 480)),
    ...     output=GraphOutput(stride=8),
    ...     classes=CAMVID_CLASSES,
    ...     normalization=Normalization((114.0, 114.0, 114.0), (58.0, 58.0, 58.0)),
    ... )
    >>> ModelContract.from_json(contract.to_json()) == contract
    True
    """

    name: str
    input: ImageInput
    output: GraphOutput
    classes: ClassMap
    normalization: Normalization
    accuracy: Accuracy | None = None
    origin: Origin = Origin()
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Check what the parts cannot check alone."""
        _check_schema(self.schema)
        if any(side % self.output.stride for side in self.input.size_hw):
            raise ContractError(
                f"contract: expected an input size that is a multiple of the stride {self.output.stride}, "
                f"got {self.input.size_hw}"
            )
        if self.input.is_dynamic and self.input.size_multiple % self.output.stride:
            raise ContractError(
                f"contract: expected sizes in multiples of the stride {self.output.stride}, got multiples of "
                f"{self.input.size_multiple}"
            )

    @property
    def logits_shape(self) -> tuple[int, int, int, int]:
        """Shape of one image's logits at the stated size: (1, classes, height / stride, width / stride)."""
        return self.logits_shape_at(self.input.size_hw)

    def logits_shape_at(self, size_hw: tuple[int, int], batch: int = 1) -> tuple[int, int, int, int]:
        """Return the logits' shape for a batch of images of a height and width that the graph takes."""
        height, width = size_hw
        return (batch, len(self.classes), height // self.output.stride, width // self.output.stride)

    def with_input(self, **changes: object) -> ModelContract:
        """Return a copy with some fields of its input replaced."""
        return dataclasses.replace(self, input=dataclasses.replace(self.input, **changes))  # type: ignore[arg-type]

    def with_output(self, **changes: object) -> ModelContract:
        """Return a copy with some fields of its output replaced."""
        return dataclasses.replace(self, output=dataclasses.replace(self.output, **changes))  # type: ignore[arg-type]

    def with_origin(self, **changes: object) -> ModelContract:
        """Return a copy with some fields of its origin replaced."""
        return dataclasses.replace(self, origin=dataclasses.replace(self.origin, **changes))  # type: ignore[arg-type]

    def to_json(self) -> str:
        """Return the contract as JSON text."""
        plain = to_plain(self)
        if self.input.fit == STRETCH:  # as every runtime does, so every runtime may read it
            del plain["input"]["fit"]
        if self.output.temperature == 1.0:
            del plain["output"]["temperature"]
        if not self.output.features:
            del plain["output"]["features"]
        if self.classes.traversable is None:
            del plain["classes"]["traversable"]
        newer = (
            "fit" in plain["input"],
            "temperature" in plain["output"],
            "features" in plain["output"],
            "traversable" in plain["classes"],
        )
        if any(newer):
            plain["schema"] = LATEST_SCHEMA
        return json.dumps(plain, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelContract:
        """Read a contract back.

        Raises:
            ContractError: text that is not JSON, or whose fields are missing, unknown or of a wrong type.
        """
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ContractError(f"contract: expected JSON, got text that is not ({error})") from None
        if isinstance(plain, dict):
            _check_schema(plain.get("schema"))  # first, since another schema has other fields
            plain["schema"] = SCHEMA_VERSION
        try:
            return from_plain(cls, plain)
        except DecodeError as error:
            raise ContractError(f"contract: {error}; export the model again") from None


def _check_schema(found: object) -> None:
    """Refuse a contract written for another version of this module."""
    if type(found) is not int or found not in READABLE_SCHEMAS:
        raise ContractError(
            f"contract: this edgeseg reads schema {', '.join(map(str, READABLE_SCHEMAS))}, the file has "
            f"{found!r}; "
            "install the edgeseg version that wrote the file, or export the model again"
        )
