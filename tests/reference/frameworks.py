#!/usr/bin/env python3
"""Outputs of models as other converters write them beside their own framework's: frameworks.py keras|tensorflow|paddle|ml [--results FILE]
[WORD ...]

Needs the framework and its converter from PyPI: keras and tensorflow need tensorflow-cpu, keras, tf2onnx; paddle needs paddlepaddle,
paddle2onnx; ml needs scikit-learn, skl2onnx, xgboost, lightgbm, onnxmltools. Each model has random weights (of ml: has learnt random data), is
converted with an open number of rows, and run by tests/tools/run_model on rows it has not seen. The deviation is the largest
|got - expected| / (1e-5 + 1e-4 |expected|) and must not exceed 1. A WORD picks the models whose name holds it; --results keeps what came
out, and what is there is not run again."""
import sys

sys.dont_write_bytecode = True

import argparse
import os
import tempfile
import time
import traceback

import numpy as np
import onnx

from outputs import TOP, Result, check_telling, deviation, keep, kept, passes, run

ROWS = 3


class Refused(Exception):
    """The converter cannot write the model."""


def numbers(*shape):
    return np.random.default_rng(5).standard_normal((ROWS, *shape)).astype("float32")


def tokens(most, *shape):
    return np.random.default_rng(5).integers(0, most, (ROWS, *shape)).astype("int32")


# ---- Keras, TensorFlow: keras.export and tf2onnx ----


def see_keras(net, inputs):
    """As seen below for Paddle. Deep nets without batch norms get larger weights."""
    import keras

    norms = [layer for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        net(inputs if len(inputs) > 1 else inputs[0], training=True)
    for layer in norms:
        layer.moving_variance.assign(layer.moving_variance + 0.5 * np.mean(layer.moving_variance))
    for layer in net.layers if not norms and len(net.layers) > 16 else []:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(1.5 * layer.kernel)


def settle_keras(net, inputs):
    """Batch norms as after training, weights with which every layer matters."""
    random = np.random.default_rng(1)
    for layer in net._flatten_layers() if hasattr(net, "_flatten_layers") else net.layers:
        for v in getattr(layer, "variables", []) if not getattr(layer, "layers", None) else []:
            name = v.path.rsplit("/", 1)[-1]
            if name in ("gamma", "moving_variance"):
                v.assign(random.uniform(0.5, 1.5, v.shape))
            elif name in ("beta", "bias", "moving_mean"):
                v.assign(random.uniform(-0.1, 0.1, v.shape))
    see_keras(net, inputs)


def keras_nets():
    import keras
    from keras import layers as L

    def small(*parts, x):
        inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
        y = inputs
        for part in parts:
            y = part(y)
        return keras.Model(inputs, y), [x]

    def application(name, side):
        def make():
            x = numbers(side, side, 3)
            if name in ("EfficientNetB0", "ConvNeXtTiny", "MobileNetV3Small"):  # which scale pixels themselves
                x = np.clip(128 + 60 * x, 0, 255)
            return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None), [x]

        return make

    def attention():
        x = keras.Input((7, 24))
        y = L.LayerNormalization()(x + L.MultiHeadAttention(4, 6)(x, x))
        y = L.LayerNormalization()(y + L.Dense(24)(L.Dense(48, activation=lambda x: keras.activations.gelu(x, True))(y)))
        return keras.Model(x, L.Dense(5)(L.GlobalAveragePooling1D()(y))), [numbers(7, 24)]

    def words(cell, **options):
        return small(L.Embedding(50, 12),
                     L.Bidirectional(getattr(L, cell)(10, return_sequences=True, **options)),
                     getattr(L, cell)(8, **options),
                     L.Dense(5),
                     x=tokens(50, 9))

    def towers():
        a, b = keras.Input((1, ), dtype="int32"), keras.Input((1, ), dtype="int32")
        u, v = L.Flatten()(L.Embedding(30, 8, "normal")(a)), L.Flatten()(L.Embedding(40, 8, "uniform")(b))
        return keras.Model([a, b], L.Dense(1)(L.Concatenate()([u, v, L.Dot(1)([u, v])]))), [tokens(30, 1), tokens(40, 1)]

    pictures = numbers(24, 24, 3)
    nets = {
        "attention":
        attention,
        "two towers":
        towers,
        "lstm":
        lambda: words("LSTM"),
        "gru unrolled":
        lambda: words("GRU", unroll=True),
        "gru reset before, unrolled":
        lambda: words("GRU", unroll=True, reset_after=False),
        "rnn unrolled":
        lambda: words("SimpleRNN", unroll=True),
        "gru":
        lambda: words("GRU"),
        "gru reset before":
        lambda: words("GRU", reset_after=False),
        "rnn":
        lambda: words("SimpleRNN"),
        "sequence":
        lambda: small(L.Conv1D(8, 5, padding="causal", activation="relu"),
                      L.MaxPooling1D(2),
                      L.Conv1D(8, 3, strides=2, padding="same", activation="elu"),
                      L.BatchNormalization(),
                      L.GlobalMaxPooling1D(),
                      L.Dense(5),
                      x=numbers(30, 4)),
        "video":
        lambda: small(L.Conv3D(6, 3, padding="same", activation="relu"),
                      L.MaxPooling3D(2),
                      L.Conv3D(8, 3),
                      L.GlobalAveragePooling3D(),
                      L.Dense(5),
                      x=numbers(8, 10, 10, 2)),
        "separable":
        lambda: small(L.SeparableConv2D(8, 3, padding="same", strides=2),
                      L.BatchNormalization(),
                      L.PReLU(shared_axes=[1, 2]),
                      L.DepthwiseConv2D(3, dilation_rate=2),
                      L.LeakyReLU(),
                      L.AveragePooling2D(2, padding="same"),
                      L.Flatten(),
                      L.Dense(5),
                      x=pictures),
        "segmentation":
        lambda: small(L.Conv2D(8, 3, strides=2, padding="same", activation="swish"),
                      L.Conv2DTranspose(8, 3, strides=2, padding="same"),
                      L.UpSampling2D(2, interpolation="bilinear"),
                      L.Cropping2D(3),
                      L.ZeroPadding2D(2),
                      L.UpSampling2D(2),
                      L.Conv2D(4, 1),
                      x=pictures),
        "norms":
        lambda: small(L.Conv2D(8, 3),
                      L.GroupNormalization(4),
                      L.Activation("mish"),
                      L.LayerNormalization(),
                      L.UnitNormalization(),
                      L.Activation("hard_silu"),
                      L.Conv2D(4, 3, activation="softplus"),
                      L.Reshape((20 * 20, 4)),
                      L.Permute((2, 1)),
                      L.RMSNormalization(),
                      L.Dense(3, activation="selu"),
                      x=pictures),
        "conv lstm":
        lambda: small(L.ConvLSTM2D(4, 3, padding="same"), L.Flatten(), L.Dense(3), x=numbers(4, 8, 8, 2)),
    }
    for name, side in (("MobileNet", 64), ("MobileNetV2", 64), ("MobileNetV3Small", 64), ("EfficientNetB0", 64), ("ResNet50", 64),
                       ("ResNet50V2", 64), ("DenseNet121", 64), ("ConvNeXtTiny", 64), ("Xception", 71), ("NASNetMobile", 64),
                       ("InceptionV3", 75), ("VGG16", 32)):
        nets[name] = application(name, side)
    return nets


def keras_export(make, opset, path):
    import keras
    import tensorflow as tf
    import tf2onnx

    net, inputs = make()
    settle_keras(net, inputs)
    names = [f"x{i}" for i in range(len(inputs))]
    call = tf.function(lambda *x: net(x if len(x) > 1 else x[0], training=False))
    signature = [tf.TensorSpec((None, *x.shape[1:]), x.dtype, name=name) for name, x in zip(names, inputs)]
    expected = call(*inputs)
    tf2onnx.convert.from_function(call, signature, opset=opset, output_path=path)
    return inputs, [expected.numpy()]


def keras_own_export(make, opset, path):
    """As `Model.export(path, format="onnx")` writes it."""
    net, inputs = make()
    settle_keras(net, inputs)
    net(inputs if len(inputs) > 1 else inputs[0])
    net.export(path, format="onnx", verbose=False, opset_version=opset)
    return inputs, [np.asarray(net(inputs if len(inputs) > 1 else inputs[0], training=False))]


def tensorflow_nets():
    import tensorflow as tf

    w = lambda *shape: tf.constant((np.random.default_rng(shape).standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype("float32"))
    image, line = numbers(16, 16, 3), numbers(9, 12)

    def convolutions(x):
        x = tf.nn.conv2d(x, w(3, 3, 3, 8), 2, "SAME")
        x = tf.nn.depthwise_conv2d(tf.nn.leaky_relu(x), w(3, 3, 8, 2), [1, 1, 1, 1], "VALID")
        x = tf.nn.bias_add(tf.nn.conv2d_transpose(x, w(3, 3, 4, 16), (tf.shape(x)[0], 12, 12, 4), 2, "SAME"), w(4))
        return tf.nn.max_pool2d(tf.nn.relu6(x), 3, 2, "SAME"), tf.nn.avg_pool2d(x, 3, 2, "SAME")

    def images(x):
        y = tf.image.resize(x, (20, 9)), tf.image.resize(x, (32, 32), "nearest"), tf.image.resize(x, (8, 8), "bicubic")
        return (*y, tf.nn.space_to_depth(x, 2), tf.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]],
                                                       "REFLECT"), tf.reverse(x, [2]), tf.image.flip_up_down(x))

    def sequences(x):
        top = tf.math.top_k(x, 3)
        return (tf.cumsum(x, 1, exclusive=True), top.values, tf.cast(top.indices, tf.float32), tf.einsum("nth,hk->ntk", x, w(12, 4)),
                tf.gather(x, [3, 0, 5], axis=1), x[:, ::2, 3:-1], tf.reduce_logsumexp(x, 2), tf.nn.log_softmax(x),
                tf.one_hot(tf.argmax(x, 2), 12), tf.linalg.band_part(tf.matmul(x, x, transpose_b=True), -1, 0), tf.nn.l2_normalize(x, 2),
                tf.where(x > 0, x, tf.exp(x)), tf.roll(x, 2, 1), tf.concat([x[:, :2], tf.zeros_like(x[:, :3])], 1),
                tf.stack(tf.unstack(x, axis=1), 2), tf.tile(x, [1, 2, 1]), tf.math.softplus(x), tf.nn.gelu(x, True), tf.math.erf(x),
                tf.math.floormod(x, 0.7), tf.nn.selu(x), tf.sign(x), tf.math.squared_difference(x, 1.5), tf.clip_by_value(x, -1, 1),
                tf.math.rsqrt(tf.abs(x) + 1), tf.norm(x, axis=2), tf.math.reduce_variance(x, 1), tf.repeat(x, 2, axis=1),
                tf.transpose(x, [0, 2, 1]), tf.broadcast_to(x[:, :1], tf.shape(x)),
                tf.gather_nd(x, tf.stack([tf.range(tf.shape(x)[0])] * 2, 1)))

    return {"convolutions": (convolutions, [image]), "images": (images, [image]), "sequences": (sequences, [line])}


def tensorflow_export(net, opset, path):
    import tensorflow as tf
    import tf2onnx

    call, inputs = net
    call = tf.function(call)
    expected = call(*inputs)
    tf2onnx.convert.from_function(call, [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in inputs], opset=opset, output_path=path)
    return inputs, [y.numpy() for y in (expected if isinstance(expected, (tuple, list)) else [expected])]


# ---- Paddle: paddle2onnx ----


def paddle_nets():
    import paddle
    from paddle import nn
    from paddle.vision import models as V

    def settle(net):
        random = np.random.default_rng(1)
        for layer in net.sublayers():
            if isinstance(layer, (nn.BatchNorm2D, nn.BatchNorm1D)):
                layer.weight.set_value(random.uniform(0.5, 1.5, layer.weight.shape).astype("float32"))
                layer._variance.set_value(random.uniform(0.5, 1.5, layer._variance.shape).astype("float32"))
                layer._mean.set_value(random.uniform(-0.1, 0.1, layer._mean.shape).astype("float32"))
        net.eval()
        return net

    def seen(net, x):
        """The net whose batch norms have seen the rows: what goes through many of them stays as large as it was. The least variances are
        raised: the numbers of so few rows may be all alike, and rounding would be all that is left."""
        norms = [layer for layer in settle(net).sublayers() if isinstance(layer, nn.BatchNorm2D)]
        for layer in norms:
            layer._momentum = 0.0
        net.train()
        net(paddle.to_tensor(x))
        for layer in norms:
            layer._variance.set_value(layer._variance + 0.5 * layer._variance.mean())
        net.eval()
        return net, [x]

    class Sequence(nn.Layer):
        def __init__(self, cell):
            super().__init__()
            self.word, self.net, self.last = nn.Embedding(50, 12), getattr(nn, cell)(12, 10, num_layers=2,
                                                                                     direction="bidirect"), nn.Linear(20, 5)

        def forward(self, x):
            return self.last(self.net(self.word(x))[0].mean(1))

    class Encoder(nn.Layer):
        def __init__(self):
            super().__init__()
            self.net = nn.TransformerEncoder(nn.TransformerEncoderLayer(24, 4, 48, activation="gelu"), 2)

        def forward(self, x):
            return self.net(x)[:, 0]

    class Segmenter(nn.Layer):
        def __init__(self):
            super().__init__()
            self.down, self.up, self.last = nn.Conv2D(3, 8, 3, 2, 1), nn.Conv2DTranspose(8, 8, 2, 2), nn.Conv2D(8, 4, 1)
            self.group, self.act = nn.GroupNorm(4, 8), nn.PReLU(8)

        def forward(self, x):
            x = nn.functional.hardswish(self.group(self.down(x)))
            x = nn.functional.interpolate(self.act(self.up(x)), scale_factor=2, mode="bilinear")
            return self.last(nn.functional.interpolate(x, size=[20, 24],
                                                       mode="nearest")), nn.functional.pixel_shuffle(x,
                                                                                                     2), nn.functional.pad(x, [1, 2, 0, 1],
                                                                                                                           mode="reflect")

    def vision(name, side, **options):
        return lambda: seen(getattr(V, name)(num_classes=10, **options), numbers(3, side, side))

    nets = {
        name: vision(name, side)
        for name, side in (("resnet18", 64), ("resnet50", 64), ("resnext50_32x4d", 64), ("wide_resnet50_2", 64), ("mobilenet_v1", 64),
                           ("mobilenet_v2", 64), ("mobilenet_v3_small", 64), ("mobilenet_v3_large", 64), ("shufflenet_v2_x0_5", 64),
                           ("shufflenet_v2_swish", 64), ("squeezenet1_1", 64), ("densenet121", 64), ("inception_v3",
                                                                                                     96), ("googlenet", 224), ("LeNet", 28))
    }
    nets["LeNet"] = lambda: (settle(V.LeNet()), [numbers(1, 28, 28)])
    nets.update({
        "lstm": lambda: (Sequence("LSTM"), [tokens(50, 9).astype("int64")]),
        "gru": lambda: (Sequence("GRU"), [tokens(50, 9).astype("int64")]),
        "rnn": lambda: (Sequence("SimpleRNN"), [tokens(50, 9).astype("int64")]),
        "encoder": lambda: (settle(Encoder()), [numbers(7, 24)]),
        "segmentation": lambda: (settle(Segmenter()), [numbers(3, 24, 24)])
    })
    return nets


def paddle_export(make, opset, path):
    import paddle

    paddle.seed(3)
    net, inputs = make()
    net.eval()
    outputs = net(*[paddle.to_tensor(x) for x in inputs])
    outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    spec = [paddle.static.InputSpec([None, *x.shape[1:]], x.dtype.name, f"x{i}") for i, x in enumerate(inputs)]
    paddle.onnx.export(net, path[:-5], input_spec=spec, opset_version=opset)
    return inputs, [y.numpy() for y in outputs]


# ---- scikit-learn, XGBoost, LightGBM ----


def ml_nets():
    import lightgbm
    import xgboost
    from sklearn import ensemble, gaussian_process, linear_model, naive_bayes, neighbors, neural_network, pipeline, preprocessing, svm, tree, compose, impute, decomposition, feature_selection

    P = pipeline.make_pipeline
    classify = {
        "random forest":
        ensemble.RandomForestClassifier(30, max_depth=6),
        "extra trees":
        ensemble.ExtraTreesClassifier(20, max_depth=6),
        "tree":
        tree.DecisionTreeClassifier(max_depth=5),
        "gradient boosting":
        ensemble.GradientBoostingClassifier(n_estimators=20),
        "hist gradient boosting":
        ensemble.HistGradientBoostingClassifier(max_iter=20),
        "adaboost":
        ensemble.AdaBoostClassifier(n_estimators=10),
        "bagging":
        ensemble.BaggingClassifier(tree.DecisionTreeClassifier(max_depth=4)),
        "voting":
        ensemble.VotingClassifier([("a", tree.DecisionTreeClassifier(max_depth=4)), ("b", linear_model.LogisticRegression())],
                                  voting="soft",
                                  flatten_transform=False),
        "logistic":
        linear_model.LogisticRegression(),
        "logistic ovr":
        P(preprocessing.StandardScaler(), linear_model.LogisticRegressionCV(max_iter=50)),
        "sgd":
        linear_model.SGDClassifier(loss="log_loss"),
        "svc":
        svm.SVC(probability=True),
        "mlp":
        P(preprocessing.MinMaxScaler(), neural_network.MLPClassifier((20, ), max_iter=30)),
        "naive bayes":
        naive_bayes.GaussianNB(),
        "normalized":
        P(preprocessing.Normalizer(), linear_model.LogisticRegression()),
        "imputed":
        P(impute.SimpleImputer(), preprocessing.RobustScaler(), ensemble.RandomForestClassifier(10, max_depth=5)),
        "binarized":
        P(preprocessing.Binarizer(threshold=0.2), linear_model.LogisticRegression()),
        "pca":
        P(decomposition.PCA(5), linear_model.LogisticRegression()),
        "selected":
        P(feature_selection.SelectKBest(k=4), ensemble.RandomForestClassifier(10, max_depth=5)),
        "knn":
        neighbors.KNeighborsClassifier(3),
        "knn manhattan":
        neighbors.KNeighborsClassifier(3, p=1),
        "polynomial":
        P(preprocessing.PolynomialFeatures(2), linear_model.LogisticRegression(max_iter=300)),
        "quantiles":
        P(preprocessing.KBinsDiscretizer(4, encode="onehot-dense"), linear_model.LogisticRegression()),
        "xgboost":
        xgboost.XGBClassifier(n_estimators=15, max_depth=4),
        "lightgbm":
        lightgbm.LGBMClassifier(n_estimators=15, num_leaves=12, verbose=-1)
    }
    regress = {
        "forest of numbers": ensemble.RandomForestRegressor(20, max_depth=6),
        "boosting of numbers": ensemble.GradientBoostingRegressor(n_estimators=20),
        "linear": linear_model.LinearRegression(),
        "svr": svm.SVR(),
        "knn of numbers": neighbors.KNeighborsRegressor(4),
        "gaussian process of numbers": gaussian_process.GaussianProcessRegressor(gaussian_process.kernels.RBF(2), alpha=0.1),
        "mlp of numbers": neural_network.MLPRegressor(hidden_layer_sizes=(20, ), max_iter=40),
        "xgboost of numbers": xgboost.XGBRegressor(n_estimators=15, max_depth=4),
        "lightgbm of numbers": lightgbm.LGBMRegressor(n_estimators=15, num_leaves=12, verbose=-1)
    }
    return {**{name: (net, True) for name, net in classify.items()}, **{name: (net, False) for name, net in regress.items()}}


def ml_export(net, opset, path):
    import skl2onnx
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as Other
    from skl2onnx.common.data_types import FloatTensorType

    net, classes = net
    random = np.random.default_rng(3)
    x = random.standard_normal((400, 8)).astype("float32")
    y = (x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * random.standard_normal(400)).astype("float32")
    net.fit(x, np.digitize(y, [-0.7, 0.6]) if classes else y)
    seen = random.standard_normal((50, 8)).astype("float32")
    kind = type(net).__module__.split(".")[0]
    if kind == "sklearn":
        proto = skl2onnx.to_onnx(net,
                                 initial_types=[("x", FloatTensorType([None, 8]))],
                                 target_opset=opset,
                                 options={id(net): {
                                              "zipmap": False
                                          }} if classes else None)
    else:
        proto = (convert_xgboost if kind == "xgboost" else convert_lightgbm)(net,
                                                                             initial_types=[("x", Other([None, 8]))],
                                                                             target_opset=min(opset, 15),
                                                                             **({
                                                                                 "zipmap": False
                                                                             } if kind == "lightgbm" and classes else {}))
    with open(path, "wb") as file:
        file.write(proto.SerializeToString())
    expected = [net.predict(seen).astype("int64"), net.predict_proba(seen).astype("float32")
                ] if classes else [net.predict(seen).astype("float32").reshape(-1, 1)]
    return [seen], expected


# kind: nets, the exporter, the opsets taken in turn, the packages whose versions are told
KINDS = {
    "keras": (keras_nets, keras_export, (13, 15, 17, 18), ("tensorflow_cpu", "keras", "tf2onnx")),
    "keras-own": (keras_nets, keras_own_export, (13, 17), ("tensorflow_cpu", "keras", "tf2onnx")),
    "tensorflow": (tensorflow_nets, tensorflow_export, (13, 17), ("tensorflow_cpu", "tf2onnx")),
    "paddle": (paddle_nets, paddle_export, (11, 13, 15, 17), ("paddlepaddle", "paddle2onnx")),
    "ml": (ml_nets, ml_export, (13, 15, 17), ("scikit-learn", "skl2onnx", "xgboost", "lightgbm", "onnxmltools"))
}


def compare(export, net, opset):
    try:
        inputs, expected = export(net, opset, os.path.abspath("model.onnx"))
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    finally:
        if os.environ.get("TRACE"):
            traceback.print_exc()
    if not os.path.exists("model.onnx"):
        raise Refused("wrote nothing")
    check_telling(expected)
    try:
        return Result(deviation(run("model.onnx", inputs, expected), expected))
    except RuntimeError as error:
        try:
            onnx.checker.check_model("model.onnx")
        except onnx.checker.ValidationError as wrong:
            raise Refused(f"wrote what is no ONNX: {' '.join(str(wrong).split())}") from error
        raise


def main():
    from importlib.metadata import version

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--results", metavar="FILE", help="keep results there, go on where they end")
    parser.add_argument("words", nargs="*", metavar="WORD")
    options = parser.parse_intermixed_args()
    results = os.path.abspath(options.results) if options.results else None
    make_nets, export, opsets, packages = KINDS[options.kind]
    versions = ", ".join(f"{p.replace('_', '-')} {version(p)}" for p in packages)
    known = {
        r["name"]
        for r in kept(results)
        if r["from"] == versions and r.get("kind") == options.kind and "deviation" in r and Result(r["deviation"]).passes()
    }
    os.environ["OMP_NUM_THREADS"] = "1"
    failed = refused = count = 0
    with tempfile.TemporaryDirectory(prefix="mpistill-models.") as folder:
        os.chdir(folder)
        for turn, (name, net) in enumerate(make_nets().items()):
            if name in known or options.words and not any(word in name for word in options.words):
                continue
            opset, started, row = opsets[turn % len(opsets)], time.monotonic(), None
            if os.path.exists("model.onnx"):
                os.remove("model.onnx")
            try:
                result = compare(export, net, opset)
                row, text = vars(result), str(result) if result.passes() else f"FAILED {result}"
            except Refused as error:
                result, row, text = error, {"refused": str(error).splitlines()[0][:160]}, f"refused: {str(error)[:300]}"
                refused += 1
            except Exception as error:  # one model's failure must not hide the others' results
                result, row, text = error, {"failed": " ".join(str(error).split())[:160]}, f"FAILED {error}"
            count += 1
            failed += not passes(result) and not isinstance(result, Refused)
            print(f"{options.kind:10} {name:24} opset {opset:2} {time.monotonic() - started:6.1f} s  {text}", flush=True)
            if results:
                keep(results, {"from": versions, "kind": options.kind, "name": name, "opset": opset, **row})
        os.chdir(TOP)
    print(f"{count} models, {failed} failed, {refused} refused by the converter")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
