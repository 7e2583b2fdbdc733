import dataclasses
import json

import pytest

from runtime.contract import (
    CAMVID_CLASSES,
    Accuracy,
    ClassMap,
    GraphOutput,
    ImageInput,
    ModelContract,
    Normalization,
    Origin,
)
from runtime.errors import ContractError


def full_contract():
    return ModelContract(
        name="camvid-s",
        input=ImageInput(size_hw=(352, 480)),
        output=GraphOutput(stride=8),
        classes=CAMVID_CLASSES,
        normalization=Normalization((103.5, 116.3, 123.7), (57.4, 57.1, 58.4)),
        accuracy=Accuracy("camvid", "val", 101, 0.61, 0.91, {"sky": 0.93, "pole": None}),
        origin=Origin("ab" * 32, {"torch": "2.13.0"}, "none", "research use"),
    )


def test_round_trip():
    contract = full_contract()
    assert ModelContract.from_json(contract.to_json()) == contract


@pytest.mark.parametrize("traversable", [None, (), ("road",), ("road", "pavement")])
def test_what_may_be_driven_on_travels_with_it(traversable):
    classes = dataclasses.replace(CAMVID_CLASSES, traversable=traversable)
    text = dataclasses.replace(full_contract(), classes=classes).to_json()
    assert ModelContract.from_json(text).classes.traversable == traversable
    assert ("traversable" in text) == (traversable is not None)  # so that older runtimes read the others
    assert classes == CAMVID_CLASSES


def test_what_may_be_driven_on_is_among_the_classes():
    with pytest.raises(ContractError, match=r"traversable: expected classes among sky, .* got 'lawn'"):
        dataclasses.replace(CAMVID_CLASSES, traversable=("road", "lawn"))


def test_logits_have_the_classes_and_the_stride():
    assert full_contract().logits_shape == (1, 11, 44, 60)


def test_with_origin_changes_nothing_else():
    contract = full_contract()
    quantized = contract.with_origin(quantization="int8")
    assert quantized.origin.quantization == "int8"
    assert quantized.with_origin(quantization="none") == contract


@pytest.mark.parametrize("text", ["", "not JSON", "{", "[" * 100_000, b"\xff".decode("latin1")])
def test_refuses_text_that_is_not_json(text):
    with pytest.raises(ContractError, match="JSON"):
        ModelContract.from_json(text)


@pytest.mark.parametrize("text", ["null", "[]", "3", '"contract"'])
def test_refuses_json_that_is_no_contract(text):
    with pytest.raises(ContractError, match="expected an object"):
        ModelContract.from_json(text)


SCHEMA_1 = """{
 "name": "camvid-s",
 "input": {"size_hw": [352, 480], "name": "image", "dtype": "uint8", "layout": "NHWC", "color_order": "BGR"},
 "output": {"stride": 4, "name": "logits", "kind": "logits", "dtype": "float32"},
 "classes": {"names": ["road", "car"], "palette_rgb": [[128, 64, 128], [64, 0, 128]], "ignore_index": 255},
 "normalization": {"mean_bgr": [104.0, 110.0, 117.0], "std_bgr": [57.0, 61.0, 66.0]},
 "accuracy": null,
 "origin": {"checkpoint_sha256": "", "tools": {}, "quantization": "none", "terms": ""},
 "schema": 1
}"""


def test_contract_of_schema_1_opens_and_is_written_anew_as_2():
    contract = ModelContract.from_json(SCHEMA_1)
    assert (contract.output.kind, contract.input.is_dynamic) == ("logits", False)
    assert contract.logits_shape == (1, 2, 88, 120)
    assert json.loads(contract.to_json())["schema"] == 2
    assert ModelContract.from_json(contract.to_json()) == contract


def test_free_sizes_are_those_of_the_multiple():
    contract = full_contract().with_input(is_dynamic=True, size_multiple=32)
    assert contract.input.accepts((64, 96))
    assert not contract.input.accepts((64, 100))
    assert not contract.input.accepts((0, 32))
    assert contract.logits_shape_at((64, 96), batch=3) == (3, 11, 8, 12)


def test_fixed_size_is_the_only_one():
    image = full_contract().input
    assert image.accepts((352, 480))
    assert not image.accepts((704, 960))


@pytest.mark.parametrize(
    ("kind", "has_logits", "has_mask"), [("logits", True, False), ("mask", False, True), ("both", True, True)]
)
def test_kind_says_which_outputs_there_are(kind, has_logits, has_mask):
    output = full_contract().with_output(kind=kind).output
    assert (output.has_logits, output.has_mask) == (has_logits, has_mask)


@pytest.mark.parametrize("schema", [0, 4, True, "1", None])
def test_another_schema_is_named_before_its_fields(schema):
    with pytest.raises(ContractError, match="reads schema 1, 2, 3"):
        ModelContract.from_json(json.dumps({"schema": schema, "anything": 1}))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("name",), 3, "name: expected str"),
        (("input", "size_hw"), [352], "input.size_hw: expected 2 items"),
        (("input", "size_hw"), [0, 480], "input.size_hw: expected positive"),
        (("input", "size_hw"), [350, 480], "multiple of the stride 8"),
        (("input", "size_multiple"), 0, "input.size_multiple: expected at least 1"),
        (("input", "size_multiple"), 64, "input.size_hw: expected multiples of 64"),
        (("input", "is_dynamic"), True, "multiples of the stride 8, got multiples of 1"),
        (("input", "is_dynamic"), 1, "input.is_dynamic: expected bool"),
        (("input", "color_order"), "RGB", "input.color_order: expected one of"),
        (("input", "dtype"), "float32", "input.dtype: expected one of"),
        (("output", "stride"), 0, "output.stride: expected at least 1"),
        (("output", "kind"), "classes", "output.kind: expected one of"),
        (("output", "mask_name"), "logits", "output.mask_name: expected another name"),
        (("classes", "names"), [], "expected 1 to 255 names, got 0"),
        (("classes", "names"), ["sky", "sky"], "unique"),
        (("classes", "names"), ["sky"], r"one colour a class \(1\), got 11"),
        (("classes", "ignore_index"), 10, "ignore index from 11 to 255, got 10"),
        (("classes", "ignore_index"), 256, "ignore index"),
        (("normalization", "std_bgr"), [1.0, 0.0, 1.0], "std_bgr: expected positive"),
        (("accuracy", "miou"), "high", "accuracy.miou: expected float"),
        (("surprise",), 1, "surprise: unknown field"),
    ],
)
def test_names_the_field_that_is_wrong(path, value, says):
    plain = json.loads(full_contract().to_json())
    target = plain
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(ContractError, match=says):
        ModelContract.from_json(json.dumps(plain))


@pytest.mark.parametrize("field", ["name", "input", "output", "classes", "normalization"])
def test_names_a_missing_field(field):
    plain = json.loads(full_contract().to_json())
    del plain[field]
    with pytest.raises(ContractError, match=f"{field}: missing"):
        ModelContract.from_json(json.dumps(plain))


def test_refuses_a_colour_outside_0_to_255():
    with pytest.raises(ContractError, match="0 to 255"):
        ClassMap(names=("a",), palette_rgb=((0, 0, 256),))


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        full_contract().name = "other"


@pytest.mark.parametrize(
    "name",
    ["", "  ", "a\nb", "\x1b[31mroad", "evil\u202egnp", "\udcff", "x\u2028y", "a" * 201, "\x00"],
    ids=ascii,
)
def test_class_names_that_no_page_or_terminal_should_get_are_refused(name):
    with pytest.raises(ContractError, match="rename that class") as caught:
        ClassMap(("sky", name), ((0, 0, 0), (1, 1, 1)))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["路面", "طريق", "راه\u200cآهن", "Straße", "a b", "<b>", "👩\u200d🚒"])
def test_class_names_of_every_language(name):
    assert ClassMap((name,), ((0, 0, 0),)).names == (name,)
