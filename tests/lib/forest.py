"""A forest of random trees, grown by numpy, and the ONNX files that scikit-learn's exporters would write of it."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "ai.onnx.ml"


class Forest:
    """Splits to a depth, each the purest of some random ones (extremely randomised trees), and in the leaves how often each class of
    (x, y) came there."""

    def __init__(self, x, y, classes, trees=20, depth=7, seed=0, tries=1):
        self.tries = tries
        self.random, self.x, self.y, self.classes, self.n_trees = np.random.default_rng(seed), np.float32(x), y, classes, trees
        self.nodes, self.weights = [], []  # (tree, id, feature, value, yes, no), (tree, id, class, weight)
        for tree in range(trees):
            self.ids = iter(range(10**6))
            self.grow(tree, np.arange(len(y)), depth)

    def grow(self, tree, rows, depth):
        me = next(self.ids)
        spread = np.flatnonzero(np.ptp(self.x[rows], axis=0) > 0)
        if depth == 0 or not len(spread) or len(set(self.y[rows])) == 1:
            share = np.bincount(self.y[rows], minlength=self.classes) / len(rows)
            self.nodes.append((tree, me, 0, 0.0, None, None))
            self.weights += [(tree, me, c, np.float32(p / self.n_trees)) for c, p in enumerate(share)]
            return me
        feature, value = min((self.draw(rows, spread) for _ in range(self.tries)), key=lambda split: self.impurity(rows, *split))
        left = self.x[rows, feature] <= value
        self.nodes.append((tree, me, feature, value, None, None))
        mine = len(self.nodes) - 1
        yes, no = self.grow(tree, rows[left], depth - 1), self.grow(tree, rows[~left], depth - 1)
        self.nodes[mine] = (tree, me, feature, value, yes, no)
        return me

    def draw(self, rows, spread):
        feature = int(self.random.choice(spread))
        values = np.unique(self.x[rows, feature])
        at = int(self.random.integers(len(values) - 1))
        return feature, np.float32((values[at] + values[at + 1]) / 2)

    def impurity(self, rows, feature, value):
        """Gini's, of both sides together."""
        if self.tries == 1:
            return 0
        left = self.x[rows, feature] <= value
        counts = [np.bincount(self.y[rows[side]], minlength=self.classes) for side in (left, ~left)]
        return sum(c.sum() - (c**2).sum() / max(c.sum(), 1) for c in counts)

    def probabilities(self, x):
        """In double precision."""
        at = {(node[0], node[1]): node for node in self.nodes}
        votes = {}
        for tree, node, c, weight in self.weights:
            votes.setdefault((tree, node), np.zeros(self.classes))[c] = weight
        p = np.zeros((len(x), self.classes))
        for i, row in enumerate(np.float32(x)):
            for tree in range(self.n_trees):
                node = at[tree, 0]
                while node[4] is not None:
                    node = at[tree, node[4] if row[node[2]] <= node[3] else node[5]]
                p[i] += votes[tree, node[1]]
        return p

    def write(self, path, labels=None, zipmap=False, features=None):
        """labels: of the classes, integers or strings (0, 1, 2, ...). Outputs: the label, and the probabilities or a ZipMap of them."""
        labels = list(range(self.classes)) if labels is None else labels
        kind = "strings" if isinstance(labels[0], str) else "int64s"
        tree, node, feature, value, yes, no = zip(*self.nodes)
        vote = dict(zip(("treeids", "nodeids", "ids", "weights"), map(list, zip(*self.weights))))
        scores = "scores" if zipmap else "probabilities"
        nodes = [helper.make_node(
            "TreeEnsembleClassifier", ["x"], ["label", scores], domain=DOMAIN, nodes_treeids=list(tree), nodes_nodeids=list(node),
            nodes_featureids=list(feature), nodes_values=[float(v) for v in value],
            nodes_modes=["LEAF" if n is None else "BRANCH_LEQ" for n in yes], nodes_truenodeids=[n or 0 for n in yes],
            nodes_falsenodeids=[n or 0 for n in no], post_transform="NONE", **{f"classlabels_{kind}": labels},
            **{f"class_{k}": [float(w) for w in v] if k == "weights" else [int(w) for w in v] for k, v in vote.items()})]
        key = TensorProto.STRING if kind == "strings" else TensorProto.INT64
        outputs = [helper.make_tensor_value_info("label", key, ["N"])]
        if zipmap:
            nodes.append(helper.make_node("ZipMap", ["scores"], ["probabilities"], domain=DOMAIN, **{f"classlabels_{kind}": labels}))
            rows = onnx.TypeProto()
            rows.sequence_type.elem_type.map_type.key_type = key
            rows.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
            outputs.append(helper.make_value_info("probabilities", rows))
        else:
            outputs.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", self.classes]))
        save(path, nodes, outputs, features or self.x.shape[1])


def save(path, nodes, outputs, features, constants=()):
    graph = helper.make_graph(nodes, "teacher", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", features])], outputs,
                              initializer=[numpy_helper.from_array(np.asarray(value), name) for name, value in constants])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15), helper.make_opsetid(DOMAIN, 3)])
    model.ir_version = 8
    onnx.save(model, str(path))
