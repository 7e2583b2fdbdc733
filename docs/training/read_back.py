"""How the bundled networks' former weights came back into training; a record, run once.

Their first training left an ONNX file and no checkpoint. There the batch norms are folded into the
convolutions and the pixels' mean is subtracted. This makes a checkpoint of today's network from it: each
batch norm gets the statistics that its convolution has on the training images, and a scale and shift that
undo them. Today's laterals are linear where the former ones had a ReLU, so the result wants a fine-tuning.

    python docs/training/read_back.py FORMER.onnx residual-s OUT.pt CAMVID_ROOT
"""

import sys

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from runtime.contract import GraphOutput, ImageInput, ModelContract, Normalization, Origin
from runtime.network.resize import fit_image
from training.data import open_dataset
from training.engine.checkpoint import Checkpoint, save_checkpoint
from training.network import SIZES, CameraNetwork, build_network


def read_back(former: str, size_name: str, out: str, root: str) -> None:
    """Write a checkpoint of the network `size_name` with the weights of an ONNX file."""
    values = {one.name: numpy_helper.to_array(one) for one in onnx.load(former).graph.initializer}
    data = open_dataset("camvid", root, "train")
    size = SIZES[size_name]
    std = (60.0, 60.0, 60.0)
    network = CameraNetwork(build_network(size.kind, size.config, 11), Normalization((0.0,) * 3, std)).eval()
    modules = dict(network.named_modules())
    layers = []  # a convolution and its batch norm
    with torch.no_grad():
        for name, module in modules.items():
            if not isinstance(module, nn.Conv2d):
                continue
            module.weight.copy_(torch.tensor(values[f"{name}.weight"]))
            norm = modules.get(name.rpartition(".")[0] + ".1")
            if module.bias is not None:
                module.bias.copy_(torch.tensor(values[f"{name}.bias"]))
                continue
            assert isinstance(norm, nn.BatchNorm2d)
            norm.weight.fill_(np.sqrt(1 + norm.eps))
            norm.bias.copy_(torch.tensor(values[f"{name}.weight_bias"]))
            layers.append((module, norm))
        stem, stem_norm = layers[0]
        stem_norm.bias -= (stem.weight.sum((2, 3)) * torch.tensor(values["mean"]).view(1, 3)).sum(1)
        stem.weight *= std[0]
        moments = {norm: [torch.zeros(3, norm.num_features, dtype=torch.float64)] for _, norm in layers}

        def note(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0].double()
            moments[norm][0] += torch.stack(
                [torch.full((x.shape[1],), float(x[:, 0].numel())), x.sum((0, 2, 3)), (x**2).sum((0, 2, 3))]
            )

        hooks = [norm.register_forward_pre_hook(note) for _, norm in layers]
        for index in range(0, len(data), 4):
            image = fit_image(data[index].image_bgr, (352, 480))
            network(torch.from_numpy(np.ascontiguousarray(image))[None])
        for hook in hooks:
            hook.remove()
        for _, norm in layers:
            count, total, squares = moments[norm][0]
            mean = total / count
            variance = squares / count - mean**2
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_(torch.sqrt(variance + norm.eps))
            norm.bias += mean.float()
    contract = ModelContract(
        name=f"camvid-{size_name}",
        input=ImageInput(size_hw=(352, 480)),
        output=GraphOutput(stride=size.config.stride),
        classes=data.classes,
        normalization=Normalization((0.0,) * 3, std),
        origin=Origin(tools={"torch": torch.__version__}, terms=data.terms),
    )
    save_checkpoint(out, Checkpoint(size.kind, size.config, contract, network.state_dict()))


if __name__ == "__main__":
    read_back(*sys.argv[1:])
