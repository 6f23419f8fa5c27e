"""A random forest of scikit-learn as its ONNX converter writes it: make_forest.py DATASET.h5 OUTPUT.onnx [TREES]"""
import os
import sys

import h5py
import numpy as np
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier

import forest


def main():
    data, output, trees = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 300
    with h5py.File(data) as f:
        x, y = f["train/features"], f["train/label"][:]
        names = [c.decode() if isinstance(c, bytes) else str(c) for c in f["classes"]] if "classes" in f else None
        x = (x[:] * x.attrs.get("scale", 1) + x.attrs.get("offset", 0)).astype(np.float32)
    model = RandomForestClassifier(trees, random_state=1, n_jobs=-1).fit(x, y)
    nodes, votes = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}, ([], [], [], [])
    for t, tree in enumerate(e.tree_ for e in model.estimators_):
        leaf = tree.children_left < 0
        n = tree.node_count
        nodes["treeids"] += [t] * n
        nodes["nodeids"] += range(n)
        nodes["featureids"] += np.where(leaf, 0, tree.feature).tolist()
        nodes["values"] += np.where(leaf, 0, tree.threshold).astype(np.float32).tolist()
        nodes["modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        nodes["truenodeids"] += np.where(leaf, 0, tree.children_left).tolist()
        nodes["falsenodeids"] += np.where(leaf, 0, tree.children_right).tolist()
        share = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True) / trees
        node, c = np.nonzero(leaf[:, None] & (share > 0))
        for column, values in zip(votes, ([t] * len(node), node.tolist(), c.tolist(), share[node, c].astype(np.float32).tolist())):
            column.extend(values)
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "probabilities"], domain=forest.DOMAIN, post_transform="NONE",
        **({"classlabels_strings": names} if names else {"classlabels_int64s": list(range(int(y.max()) + 1))}), **{"nodes_" + k: v for k, v in nodes.items()},
        **dict(zip(("class_treeids", "class_nodeids", "class_ids", "class_weights"), votes)))
    outputs = [helper.make_tensor_value_info("label", TensorProto.STRING if names else TensorProto.INT64, ["N"]),
               helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", int(y.max()) + 1])]
    forest.save(output + ".part", [node], outputs, x.shape[1])
    os.replace(output + ".part", output)


main()
