"""The paper's network written in Keras; run by an interpreter that has Keras.

    python keras_network.py IN.npz OUT.npz

IN holds images (n, 87, 87), targets (n,) and the weights as PyTorch keeps them. OUT gets the
probabilities before and the weights after one step of Keras' own Adadelta, dropout left out.
"""

import sys

import keras
import numpy as np

given = np.load(sys.argv[1])
keras.backend.set_floatx("float32")
model = keras.Sequential(
    [
        keras.Input((87, 87, 1)),
        keras.layers.Conv2D(32, (3, 3), activation="relu", name="convolution1"),
        keras.layers.MaxPooling2D((2, 2)),
        keras.layers.Conv2D(64, (3, 3), activation="relu", name="convolution2"),
        keras.layers.MaxPooling2D((2, 2)),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu", name="dense1"),
        keras.layers.Dense(6, activation="softmax", name="dense2"),
    ]
)
# PyTorch keeps (out, in, height, width) and flattens channels first; Keras (height, width, in, out)
# and channels last.
first = given["dense1.weight"].reshape(128, 64, 20, 20).transpose(2, 3, 1, 0).reshape(-1, 128)
kernels = {
    "convolution1": given["convolution1.weight"].transpose(2, 3, 1, 0),
    "convolution2": given["convolution2.weight"].transpose(2, 3, 1, 0),
    "dense1": first,
    "dense2": given["dense2.weight"].T,
}
for name, kernel in kernels.items():
    model.get_layer(name).set_weights([kernel, given[f"{name}.bias"]])

images = given["images"][..., None].astype("float32") / 255
probabilities = np.asarray(model.predict(images, verbose=0))
model.compile(
    optimizer=keras.optimizers.Adadelta(learning_rate=1.0, rho=0.95, epsilon=1e-7),
    loss="sparse_categorical_crossentropy",
)
model.train_on_batch(images, given["targets"])

after = {}
for name in kernels:
    kernel, bias = (np.asarray(weight) for weight in model.get_layer(name).get_weights())
    if name.startswith("convolution"):
        kernel = kernel.transpose(3, 2, 0, 1)
    elif name == "dense1":
        kernel = kernel.reshape(20, 20, 64, 128).transpose(3, 2, 0, 1).reshape(128, -1)
    else:
        kernel = kernel.T
    after[f"{name}.weight"], after[f"{name}.bias"] = kernel, bias
np.savez(sys.argv[2], probabilities=probabilities, parameters=model.count_params(), **after)
