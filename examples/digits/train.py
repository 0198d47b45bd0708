#!/usr/bin/env python3
"""Trains the example's model and writes what the example needs, beside this file.

    python3 -m venv /tmp/digits && /tmp/digits/bin/pip install scikit-learn==1.9.1 onnx
    /tmp/digits/bin/python examples/digits/train.py

Writes digits.onnx (a perceptron of 64-64-10), images.jsonl (the 540 images the model never saw) and truth.csv (what
those images show; only tests read it). The same versions of the libraries on the same kind of machine give the same
files; elsewhere the weights may differ in their last digits.
"""

import csv
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = pathlib.Path(__file__).resolve().parent
# Fixes both which images are held out and the first weights.
SEED = 0
HELD_OUT = 0.3
# Pixels are 0..16; the pipeline's `scale: 0.0625` does the same division.
SCALE = 1 / 16


def as_onnx(model: MLPClassifier) -> onnx.ModelProto:
    """The network in plain operators only: not every runtime has the classifier operators of `ai.onnx.ml`."""
    weights = zip(["w1", "b1", "w2", "b2"], [model.coefs_[0], model.intercepts_[0], model.coefs_[1], model.intercepts_[1]])
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["prob"], axis=1),
        ],
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value.astype("f4"), name) for name, value in weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def main() -> None:
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels * SCALE).astype("f4")
    # `ids` are places in the whole data set, so an id means the same image whatever the split.
    ids = np.arange(len(labels))
    train, held_out = train_test_split(ids, test_size=HELD_OUT, random_state=SEED, stratify=labels)
    model = MLPClassifier((64,), max_iter=400, random_state=SEED, alpha=1e-3).fit(images[train], labels[train])
    right = int((model.predict(images[held_out]) == labels[held_out]).sum())

    onnx.save(as_onnx(model), HERE / "digits.onnx")
    with open(HERE / "images.jsonl", "w", encoding="utf-8") as out:
        for i in held_out:
            record = {"id": int(i), "pixels": [int(p) for p in pixels[i]]}
            out.write(json.dumps(record, separators=(",", ":")) + "\n")
    with open(HERE / "truth.csv", "w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["id", "label"])
        rows.writerows((int(i), int(labels[i])) for i in held_out)
    print(f"{right} of {len(held_out)} held-out images right; digits.onnx {(HERE / 'digits.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()
