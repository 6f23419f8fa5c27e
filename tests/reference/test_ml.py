#!/usr/bin/env python3
"""Operators of ai.onnx.ml beside their definition in numpy (double precision), and a support vector machine beside scikit-learn's."""
import sys

sys.dont_write_bytecode = True

import itertools
import math
import operator
import statistics

import numpy as np
from onnx import helper

from engine import model, run
from harness import Failure, main, test, within

DOMAIN = "ai.onnx.ml"


def node(kind, outputs=("y",), inputs=("x",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), domain=DOMAIN, **attributes)


def compare(path, inputs, expected, bound=1e-6):
    """Integers must be the same, reals within `bound` of 1 + |expected|; the largest error."""
    worst = 0.0
    for got, wanted in zip(run(path, inputs, [e.dtype if e.dtype.kind == "i" else np.float32 for e in expected]), expected):
        if got.shape != wanted.shape:
            raise Failure(f"shape {got.shape}, expected {wanted.shape}")
        if wanted.dtype.kind == "i":
            if not np.array_equal(got, wanted):
                raise Failure(f"{got[got != wanted][:5]}, expected {wanted[got != wanted][:5]}")
            continue
        same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))  # infinities
        error = np.abs(np.where(same, 0, got - np.where(same, got, wanted)) / (1 + np.abs(np.where(same, 0, wanted))))
        worst = max(worst, float(error.max(initial=0)))
    within("error", worst, bound)
    return worst


def rejected(path, inputs, word):
    try:
        run(path, inputs, [np.float32])
    except Failure as failure:
        if word not in str(failure):
            raise Failure(f"'{word}' is not in: {failure}") from failure
        return
    raise Failure(f"is accepted, '{word}' was expected")


# ---- what becomes of scores ----


def softmax(z, used=True):
    e = np.where(used, np.exp(z - z.max(-1, keepdims=True)), 0)
    return e / np.maximum(e.sum(-1, keepdims=True), 1e-300)


TRANSFORMS = {
    "NONE": lambda z: z,
    "LOGISTIC": lambda z: 1 / (1 + np.exp(-z)),
    "SOFTMAX": softmax,
    "SOFTMAX_ZERO": lambda z: softmax(z, np.abs(z) > 1e-7),
    "PROBIT": np.vectorize(lambda p: math.nan if not 0 <= p <= 1 else statistics.NormalDist().inv_cdf(p) if 0 < p < 1
                           else math.copysign(math.inf, p - 0.5)),
}

# ---- trees ----

COMPARISONS = {"BRANCH_LEQ": operator.le, "BRANCH_LT": operator.lt, "BRANCH_GTE": operator.ge, "BRANCH_GT": operator.gt,
               "BRANCH_EQ": operator.eq, "BRANCH_NEQ": operator.ne}


class Forest:
    """Random trees whose nodes are listed in random order, under ids with gaps."""

    def __init__(self, random, trees, depth, features, targets, modes=("BRANCH_LEQ",), missing=False, votes=1, positive=False):
        self.rows, self.votes = [], []
        for tree in range(trees):
            self.tree, self.next = 3 * tree - 4, 0
            self.ids = iter(random.permutation(2 ** (depth + 2)))
            self.grow(random, depth, features, targets, modes, missing, votes, positive)
        random.shuffle(self.rows)
        self.at = {(row[0], row[1]): row for row in self.rows}
        self.roots = sorted({(row[0], row[1]) for row in self.rows} - {(row[0], child) for row in self.rows for child in row[5]})

    def grow(self, random, depth, features, targets, modes, missing, votes, positive):
        me = int(next(self.ids))
        leaf = depth == 0 or (depth < 3 and random.random() < 0.3)
        children = () if leaf else tuple(self.grow(random, depth - 1, features, targets, modes, missing, votes, positive) for _ in "yn")
        mode = "LEAF" if leaf else modes[random.integers(len(modes))]
        value = float(np.float32(random.integers(-4, 5) / 4))  # values that features take, too
        self.rows.append((self.tree, me, int(random.integers(features)), mode, value, children, int(missing and random.random() < 0.5)))
        for target in random.choice(targets, min(votes, targets), replace=False) if leaf else ():
            weight = random.uniform(0 if positive else -1, 1)
            self.votes.append((self.tree, me, int(target), float(np.float32(weight))))
        return me

    def attributes(self, prefix):
        tree, ids, feature, mode, value, children, missing = zip(*self.rows)
        given = {"treeids": tree, "nodeids": ids, "featureids": feature, "modes": mode, "values": value,
                 "truenodeids": [c[0] if c else 0 for c in children], "falsenodeids": [c[1] if c else 0 for c in children],
                 "missing_value_tracks_true": missing, "hitrates": [1.0] * len(tree)}
        tree, ids, target, weight = zip(*self.votes)
        votes = {"treeids": tree, "nodeids": ids, "ids": target, "weights": weight}
        return {**{f"nodes_{k}": list(v) for k, v in given.items()}, **{f"{prefix}_{k}": list(v) for k, v in votes.items()}}

    def leaves(self, row):
        for tree, at in self.roots:
            _, at, feature, mode, value, children, missing = self.at[tree, at]
            while children:
                x = row[feature]
                yes = COMPARISONS[mode](x, value) or (missing and math.isnan(x))
                _, at, feature, mode, value, children, missing = self.at[tree, children[0 if yes else 1]]
            yield [(target, weight) for t, n, target, weight in self.votes if (t, n) == (tree, at)]

    def gathered(self, x, targets, how):
        y = np.zeros((len(x), targets))
        for i, row in enumerate(x):
            votes = [vote for leaf in self.leaves(row) for vote in leaf]
            for target in range(targets):
                mine = [weight for t, weight in votes if t == target]
                y[i, target] = how(mine) if mine else 0
        return y


def quarters(random, shape, missing=False):
    x = (random.integers(-5, 6, shape) / 4).astype(np.float32)
    if missing:
        x[random.random(shape) < 0.2] = np.nan
    return x


GATHERED = {"SUM": lambda w, trees: sum(w), "AVERAGE": lambda w, trees: sum(w) / trees, "MIN": lambda w, trees: min(w),
            "MAX": lambda w, trees: max(w)}


@test("TreeEnsembleRegressor: branch modes, missing values, aggregates, targets, post_transform")
def tree_regressor():
    random, errors = np.random.default_rng(1), []
    modes = [(mode,) for mode in COMPARISONS] + [tuple(COMPARISONS)]
    cases = itertools.chain(((m, "SUM", 1, "NONE", missing) for m in modes for missing in (False, True)),
                            ((modes[0], how, 3, "NONE", True) for how in GATHERED),
                            ((modes[-1], "SUM", n, transform, False) for n in (1, 4) for transform in TRANSFORMS))
    for mode, how, targets, transform, missing in cases:
        x, trees = quarters(random, (150, 6), missing), 7
        forest = Forest(random, trees, 5, 6, targets, mode, missing, votes=2)
        base = random.uniform(0.2, 0.4, targets).astype(np.float32)
        wanted = forest.gathered(x, targets, lambda w, how=how, trees=trees: GATHERED[how](w, trees)) + base
        path = model([node("TreeEnsembleRegressor", aggregate_function=how, post_transform=transform, n_targets=targets,
                           base_values=base.tolist(), **forest.attributes("target"))], {"x": x}, {"y": np.float32})
        if transform == "PROBIT":  # steep near 0 and 1
            wanted = wanted.astype(np.float32).astype(float)
        with np.errstate(all="ignore"):
            errors.append(compare(path, [x], [TRANSFORMS[transform](wanted)], 1e-4 if transform == "PROBIT" else 2e-6))
    return f"{len(errors)} models, largest error {max(errors):.1e}"


@test("TreeEnsembleClassifier: classes, post_transform, one score for two classes")
def tree_classifier():
    random, errors = np.random.default_rng(2), []
    for classes, transform, base in itertools.product((2, 3, 5), ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"), (False, True)):
        x, labels = quarters(random, (140, 4)), [10 * c + 3 for c in range(classes)]
        forest = Forest(random, 6, 4, 4, classes, votes=2)
        values = random.uniform(-0.5, 0.5, classes).astype(np.float32) if base else np.zeros(classes)
        scores = TRANSFORMS[transform](forest.gathered(x, classes, sum) + values)
        given = {"base_values": values.tolist()} if base else {}
        path = model([node("TreeEnsembleClassifier", ("label", "p"), classlabels_int64s=labels, post_transform=transform, **given,
                           **forest.attributes("class"))], {"x": x}, {"label": np.int64, "p": np.float32})
        errors.append(compare(path, [x], [np.array(labels)[scores.argmax(1)], scores], 2e-6))
    for positive, transform, base, ones in itertools.product((False, True), ("NONE", "LOGISTIC"), (False, True), (0, 1)):
        if ones and transform == "NONE":
            continue  # a score for each class
        x = quarters(random, (140, 4))
        forest = Forest(random, 3, 4, 4, 1, positive=positive)
        if positive:
            forest.votes = [(t, n, c, w / 4) for t, n, c, w in forest.votes]
        score = forest.gathered(x, 1, sum)[:, 0] + (0.125 if base else 0)
        forest.votes = [(t, n, ones, w) for t, n, _, w in forest.votes]
        pair = (-score, score) if transform == "LOGISTIC" or not positive else (1 - score, score)
        scores = TRANSFORMS[transform](np.stack(pair, 1))
        given = {"base_values": [0.125]} if base else {}
        path = model([node("TreeEnsembleClassifier", ("label", "p"), classlabels_int64s=[4, 2], post_transform=transform, **given,
                           **forest.attributes("class"))], {"x": x}, {"label": np.int64, "p": np.float32})
        errors.append(compare(path, [x], [np.array([4, 2])[(scores[:, 1] > scores[:, 0]).astype(int)], scores], 2e-6))
    return f"{len(errors)} models, largest error {max(errors):.1e}"


@test("lists that are no trees are refused")
def no_trees():
    x = np.zeros((2, 3), np.float32)
    right = {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3, "nodes_values": [0.0] * 3,
             "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
             "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 2.0]}
    wrong = [({"nodes_truenodeids": [0, 0, 0]}, "not one tree"), ({"nodes_falsenodeids": [1, 0, 0]}, "two ways lead"),
             ({"nodes_truenodeids": [7, 0, 0]}, "not there"), ({"nodes_nodeids": [0, 1, 1]}, "two nodes 1"),
             ({"nodes_featureids": [3, 0, 0]}, "feature 3"), ({"nodes_featureids": [-1, 0, 0]}, "feature -1"),
             ({"nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_MEMBER"]}, "BRANCH_MEMBER"), ({"nodes_values": [0.0]}, "1 entries for 3"),
             ({"target_nodeids": [0, 2]}, "no leaf"), ({"target_nodeids": [5, 2]}, "no leaf"), ({"target_ids": [0, 1]}, "target 1 of 1"),
             ({"target_ids": [0, -1]}, "target -1"), ({"target_weights": [1.0]}, "2, 2, 2 and 1"),
             ({"nodes_modes": ["BRANCH_LEQ"] * 3, "nodes_truenodeids": [1, 2, 0], "nodes_falsenodeids": [1, 2, 0]}, "two ways lead"),
             ({"post_transform": "SIGMOID"}, "SIGMOID"), ({"aggregate_function": "MEDIAN"}, "MEDIAN"), ({"base_values": [1.0, 2.0]}, "2 base_values")]
    compare(model([node("TreeEnsembleRegressor", **right)], {"x": x}, {"y": np.float32}), [x], [np.ones((2, 1))])
    for change, word in wrong:
        rejected(model([node("TreeEnsembleRegressor", **{**right, **change})], {"x": x}, {"y": np.float32}), [x], word)
    return f"{len(wrong)} of them"


# ---- linear models ----


@test("LinearClassifier and LinearRegressor")
def linear():
    random, errors = np.random.default_rng(3), []
    x = random.standard_normal((70, 5)).astype(np.float32)
    for targets, transform in itertools.product((2, 4), ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")):
        w, b = (random.standard_normal(s).astype(np.float32) for s in ((targets, 5), targets))
        wanted = TRANSFORMS[transform](x.astype(float) @ w.T + b)
        given = {"coefficients": w.ravel().tolist(), "intercepts": b.tolist(), "post_transform": transform}
        labels = np.arange(targets) * 7
        classifier = node("LinearClassifier", ("label", "p"), classlabels_ints=labels.tolist(), **given)
        errors.append(compare(model([classifier], {"x": x}, {"label": np.int64, "p": np.float32}), [x], [labels[wanted.argmax(1)], wanted], 2e-6))
        regressor = node("LinearRegressor", targets=targets, **given)
        errors.append(compare(model([regressor], {"x": x}, {"y": np.float32}), [x], [wanted], 2e-6))
    w = random.standard_normal(5).astype(np.float32)
    score = x.astype(float) @ w + 0.25
    for transform, wanted in (("NONE", np.stack([1 - score, score], 1)), ("LOGISTIC", TRANSFORMS["LOGISTIC"](np.stack([-score, score], 1)))):
        classifier = node("LinearClassifier", ("label", "p"), classlabels_ints=[8, 9], coefficients=w.tolist(), intercepts=[0.25],
                          post_transform=transform)
        errors.append(compare(model([classifier], {"x": x}, {"label": np.int64, "p": np.float32}), [x], [8 + (score > 0).astype(int), wanted], 2e-6))
    return f"{len(errors)} models, largest error {max(errors):.1e}"


# ---- support vectors ----


def kernel(kind, x, v, gamma=0.3, coef0=0.5, degree=3):
    dots = x.astype(float) @ v.astype(float).T
    if kind == "RBF":
        return np.exp(-gamma * ((x[:, None].astype(float) - v[None]) ** 2).sum(2))
    return {"LINEAR": dots, "POLY": (gamma * dots + coef0) ** degree, "SIGMOID": np.tanh(gamma * dots + coef0)}[kind]


@test("SVMRegressor: kernels, one class, no support vectors")
def svm_regressor():
    random, errors = np.random.default_rng(4), []
    x, v = (random.standard_normal(s).astype(np.float32) for s in ((40, 6), (13, 6)))
    for kind, one_class in itertools.product(("LINEAR", "POLY", "RBF", "SIGMOID"), (0, 1)):
        a = random.standard_normal(13).astype(np.float32)
        y = kernel(kind, x, v) @ a - 0.125
        given = {"kernel_type": kind, "kernel_params": [0.3, 0.5, 3.0], "coefficients": a.tolist(), "rho": [-0.125], "n_supports": 13,
                 "support_vectors": v.ravel().tolist(), "one_class": one_class}
        wanted = (np.where(y > 0, 1.0, -1.0) if one_class else y)[:, None]
        errors.append(compare(model([node("SVMRegressor", **given)], {"x": x}, {"y": np.float32}), [x], [wanted], 2e-6))
    w = random.standard_normal(6).astype(np.float32)
    errors.append(compare(model([node("SVMRegressor", coefficients=w.tolist(), rho=[0.5])], {"x": x}, {"y": np.float32}), [x],
                         [(x.astype(float) @ w + 0.5)[:, None]], 2e-6))
    return f"{len(errors)} models, largest error {max(errors):.1e}"


@test("SVMClassifier: decision values and votes of pairs")
def svm_pairs():
    random, errors = np.random.default_rng(5), []
    for kind, per_class in itertools.product(("LINEAR", "POLY", "RBF", "SIGMOID"), ([4, 3], [3, 5, 2, 4])):
        n, c, x = sum(per_class), len(per_class), random.standard_normal((50, 3)).astype(np.float32)
        v, a = (random.standard_normal(s).astype(np.float32) for s in ((n, 3), (c - 1, n)))
        rho = random.uniform(-0.5, 0.5, c * (c - 1) // 2).astype(np.float32)
        begins, k = np.cumsum([0, *per_class]), kernel(kind, x, v)
        votes, pairs = np.zeros((50, c)), []
        for i, j in itertools.combinations(range(c), 2):
            of_i, of_j = slice(begins[i], begins[i + 1]), slice(begins[j], begins[j + 1])
            pairs.append(k[:, of_i] @ a[j - 1, of_i] + k[:, of_j] @ a[i, of_j] + rho[len(pairs)])
            votes[np.arange(50), np.where(pairs[-1] > 0, i, j)] += 1
        scores = np.stack(pairs, 1) if c > 2 else np.stack([pairs[0], -pairs[0]], 1)
        given = {"kernel_type": kind, "kernel_params": [0.3, 0.5, 3.0], "vectors_per_class": per_class, "classlabels_ints": list(range(5, 5 + c)),
                 "support_vectors": v.ravel().tolist(), "coefficients": a.ravel().tolist(), "rho": rho.tolist()}
        path = model([node("SVMClassifier", ("label", "s"), **given)], {"x": x}, {"label": np.int64, "s": np.float32})
        errors.append(compare(path, [x], [5 + votes.argmax(1), scores], 2e-6))
    return f"{len(errors)} models, largest error {max(errors):.1e}"


# SVC(kernel="rbf", gamma=0.5, probability=True) of scikit-learn 1.9, fitted to 18 points of 3 classes.
VECTORS = [[1.84, -2.3], [0.38, -0.51], [-1.82, -0.21], [-0.78, 2.99], [0.2, -0.32], [1.75, -0.6], [1.05, -0.35], [2.86, -0.18], [2.02, 1.39],
           [2.74, 1.76], [0.78, 2.9], [0.2, 1.74], [1.79, 2.52]]
DUAL = [0.8998648, 1.0, 0.4727956, 0.6203033, 0.5893037, -0.9485995, -1.0, -0.6336679, -1.0, -1.0, -1.0, -1.0, -0.07218339, 0.6929001, 0.0,
        0.6407759, 1.0, 0.7385073, 0.0, 0.8901926, 0.882664, 1.0, -1.0, -0.2415802, -0.8810012, -0.6502751]
ROWS = [[0, 0], [2, 0], [1, 2], [1, 0.7], [-3, 4]]
PREDICTED = [3, 5, 9, 5, 3]
PROBABILITIES = [[0.812544, 0.095862, 0.091593], [0.065013, 0.841949, 0.093039], [0.085873, 0.150825, 0.763302],
                 [0.246955, 0.499623, 0.253421], [0.542167, 0.221111, 0.236721]]


@test("SVMClassifier: probabilities of scikit-learn")
def svm_probabilities():
    x = np.float32(ROWS)
    given = {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "vectors_per_class": [5, 4, 4], "classlabels_ints": [3, 5, 9],
             "support_vectors": np.ravel(VECTORS).tolist(), "coefficients": DUAL, "rho": [0.3817862, 0.2799716, -0.09262852],
             "prob_a": [-2.079994, -2.194745, -1.610248], "prob_b": [0.002753873, -0.1509976, 0.01714814]}
    path = model([node("SVMClassifier", ("label", "p"), **given)], {"x": x}, {"label": np.int64, "p": np.float32})
    return f"largest error {compare(path, [x], [np.array(PREDICTED), np.array(PROBABILITIES)], 2e-6):.1e}"


# ---- features ----


def one(kind, x, wanted, bound=1e-6, **attributes):
    name = {"f": np.float32, "i": np.int64}[wanted.dtype.kind]
    return compare(model([node(kind, **attributes)], {"x": x}, {"y": name}), [x], [wanted], bound)


@test("Scaler, Normalizer, Binarizer, Imputer")
def features():
    random = np.random.default_rng(6)
    x = random.standard_normal((9, 4)).astype(np.float32)
    whole = random.integers(-3, 4, (9, 4))
    offset, scale = [0.5, -1.0, 0.0, 2.0], [2.0, 0.25, 1.0, -1.0]
    one("Scaler", x, (x - np.array(offset)) * scale, offset=offset, scale=scale)
    one("Scaler", whole, (whole - 0.5) * 3.0, offset=[0.5], scale=[3.0])
    x[3] = 0
    for norm, size in (("MAX", x.max(1)), ("L1", np.abs(x).sum(1)), ("L2", np.sqrt((x.astype(float) ** 2).sum(1)))):
        one("Normalizer", x, x / np.where(size == 0, 1, size)[:, None], norm=norm)
    one("Binarizer", x, (x > 0.25).astype(np.float32), threshold=0.25)
    by = [1.0, 2.0, 3.0, 4.0]
    holes = np.where(random.random(x.shape) < 0.3, np.nan, x).astype(np.float32)
    one("Imputer", holes, np.where(np.isnan(holes), by, holes).astype(np.float32), imputed_value_floats=by, replaced_value_float=math.nan)
    one("Imputer", x, np.where(x == 0, 7, x).astype(np.float32), imputed_value_floats=[7.0], replaced_value_float=0.0)
    one("Imputer", whole, np.where(whole == 2, [9, 8, 7, 6], whole), imputed_value_int64s=[9, 8, 7, 6], replaced_value_int64=2)
    return "as defined"


@test("CDist of ONNX Runtime: distances and their squares")
def distances():
    random = np.random.default_rng(8)
    near = 100.0  # products of numbers this large would hide the distances
    a, b = ((near + random.standard_normal((n, 37))).astype(np.float32) for n in (6, 11))
    squares = ((a[:, None].astype(float) - b[None].astype(float)) ** 2).sum(-1)
    for attributes, wanted in (({}, squares), ({"metric": "sqeuclidean"}, squares), ({"metric": "euclidean"}, np.sqrt(squares))):
        distance = helper.make_node("CDist", ["x", "b"], ["y"], domain="com.microsoft", **attributes)
        compare(model([distance], {"x": a}, {"y": np.float32}, {"b": b}), [a], [wanted])
    rejected(model([helper.make_node("CDist", ["x", "b"], ["y"], domain="com.microsoft", metric="cosine")], {"x": a}, {"y": np.float32}, {"b": b}),
             [a], "metric 'cosine' is not supported")
    return "as defined"


@test("ArrayFeatureExtractor, FeatureVectorizer, OneHotEncoder, LabelEncoder, ZipMap")
def columns():
    random = np.random.default_rng(7)
    x, whole = random.standard_normal((6, 5)).astype(np.float32), random.integers(0, 5, (6, 3))
    pick = np.array([4, 0, 0, 2])
    extract = [node("ArrayFeatureExtractor", inputs=("x", "pick"))]
    for data, kind in ((x, np.float32), (whole, np.int64)):
        index = pick % data.shape[1]
        compare(model(extract, {"x": data}, {"y": kind}, {"pick": index}), [data], [data[:, index]])
    rejected(model(extract, {"x": x}, {"y": np.float32}, {"pick": np.array([5])}), [x], "outside")
    join = model([node("FeatureVectorizer", inputs=("x", "w"), inputdimensions=[5, 3])], {"x": x, "w": whole}, {"y": np.float32})
    compare(join, [x, whole], [np.concatenate([x, whole], 1).astype(np.float32)])
    one("OneHotEncoder", whole, (whole[..., None] == np.array([3, 1, 0, 2])).astype(np.float32), cats_int64s=[3, 1, 0, 2])
    rejected(model([node("OneHotEncoder", cats_int64s=[7], zeros=0)], {"x": whole}, {"y": np.float32}), [whole], "none of the categories")
    table = {0: 10, 3: -5, 4: 7}
    one("LabelEncoder", whole, np.vectorize(lambda k: table.get(k, 99))(whole), keys_int64s=[4, 0, 3], values_int64s=[7, 10, -5], default_int64=99)
    one("LabelEncoder", whole, np.vectorize(lambda k: {1: 0.5, 2: 2.5}.get(k, -1.0))(whole).astype(np.float32), keys_int64s=[1, 2, 1],
        values_floats=[0.5, 2.5, 9.0], default_float=-1.0)
    keys = np.float32([[0.5, np.nan, 2.0], [0.5, 1.0, np.inf]])
    one("LabelEncoder", keys, np.array([[1, 2, -1], [1, -1, 3]]), keys_floats=[0.5, math.nan, math.inf], values_int64s=[1, 2, 3])
    one("ZipMap", x, x, classlabels_int64s=[0, 1, 2, 3, 4])
    return "as defined"


if __name__ == "__main__":
    sys.exit(main())
