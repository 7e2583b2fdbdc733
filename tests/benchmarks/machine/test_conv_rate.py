import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.machine.conv_rate import CHANNELS, GMAC, HEIGHT, LAYERS, WIDTH, ConvRate, conv_stack_onnx


def test_the_hand_written_file_is_valid_onnx_and_holds_the_convolutions_it_counts():
    model = onnx.load_from_string(conv_stack_onnx())
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    convolutions = [node for node in inferred.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == LAYERS
    assert all(shapes[node.output[0]] == [1, CHANNELS, HEIGHT, WIDTH] for node in convolutions)
    assert shapes["weights"] == [64, 64, 3, 3]
    assert round(GMAC, 3) == 2.389  # 6 layers * 64 * 64 * 9 weights * 90 * 120 pixels


def test_ones_stay_ones_away_from_the_border():
    session = ort.InferenceSession(conv_stack_onnx(), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": np.ones((1, CHANNELS, HEIGHT, WIDTH), np.float32)})
    np.testing.assert_allclose(out[:, :, LAYERS:-LAYERS, LAYERS:-LAYERS], 1, rtol=1e-4)


def test_a_run_takes_time():
    assert ConvRate(threads=1).run_ms() > 0
