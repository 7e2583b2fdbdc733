"""Contract-carrying networks of a few numbers, written with onnx.helper; loaded by the conftest files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.contract import METADATA_KEY, ClassMap, GraphOutput, ImageInput, ModelContract, Normalization

# A pixel's class is its strongest channel, so a mask can be predicted by hand.
COLOR_CLASSES = ClassMap(names=("blue", "green", "red"), palette_rgb=((0, 0, 255), (0, 255, 0), (255, 0, 0)))


def tiny_contract(
    size_hw: tuple[int, int] = (32, 48), stride: int = 8, classes: ClassMap = COLOR_CLASSES
) -> ModelContract:
    return ModelContract(
        name="tiny",
        input=ImageInput(size_hw=size_hw),
        output=GraphOutput(stride=stride),
        classes=classes,
        normalization=Normalization((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    )


def write_tiny_onnx(
    path: Path,
    *,
    contract: ModelContract | None = None,
    metadata: str | None = "",
    input_name: str = "image",
    input_type: int = TensorProto.UINT8,
    input_hw: tuple[int | str, int | str] | None = None,
    batch: int | str = 1,
    output_name: str = "logits",
    extra_output: bool = False,
    scale: float = 1 / 255,
    external_data: bool = False,
) -> Path:
    """Write a network whose graph fits `contract`, unless one of the other arguments breaks it.

    `metadata` replaces the contract's JSON; None leaves it out.
    """
    contract = contract or tiny_contract()
    classes, stride = len(contract.classes), contract.output.stride
    if contract.classes == COLOR_CLASSES:
        weights = np.eye(3, dtype=np.float32)
    else:
        weights = np.random.default_rng(0).normal(size=(classes, 3)).astype(np.float32)
    weights = (weights * scale)[:, :, None, None].astype(np.float32)  # (C, 3, 1, 1)
    nodes = [
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["coarse"], kernel_shape=[stride, stride], strides=[stride, stride]
        ),
        helper.make_node("Conv", ["coarse", "weights"], [output_name]),
    ]
    outputs = [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, None)]
    if extra_output:
        outputs.append(helper.make_tensor_value_info("coarse", TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                input_name, input_type, [batch, *(input_hw or contract.input.size_hw), 3]
            )
        ],
        outputs,
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata or contract.to_json()})
    if external_data:
        onnx.save_model(
            model, str(path), save_as_external_data=True, location=f"{path.stem}.data", size_threshold=0
        )
    else:
        onnx.save_model(model, str(path))
    return path
