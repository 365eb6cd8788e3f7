"""Keras 3 with the JAX backend: `model.fit` with a gradtx optimizer.

    python examples/cookbook/keras_fit.py

You should see the loss of each epoch fall, and a test accuracy above 90 %.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import jax  # noqa: E402
import keras  # noqa: E402
from digits_data import QUICK, load  # noqa: E402

import gradtx  # noqa: E402


# --8<-- [start:optimizer]
class Optimizer(keras.optimizers.Optimizer):
    """A gradtx optimizer whose state is kept in Keras's variables."""

    def __init__(self, tx: gradtx.GradientTransformation, **kwargs):
        super().__init__(learning_rate=1.0, **kwargs)  # tx has its own
        self.tx = tx

    def build(self, variables):
        super().build(variables)
        self.names = [variable.path for variable in variables]
        state = self.tx.init(self._by_name(variables))
        leaves, self.structure = jax.tree.flatten(state)
        self.slots = [
            self.add_variable(
                x.shape,
                dtype=x.dtype,
                initializer=lambda *_, x=x, **__: x,
                name=f"slot_{i}",
            )
            for i, x in enumerate(leaves)
        ]

    def _by_name(self, variables):
        return {name: x.value for name, x in zip(self.names, variables, strict=True)}

    def apply(self, grads, trainable_variables=None):
        variables = trainable_variables or self._trainable_variables
        params = self._by_name(variables)
        state = jax.tree.unflatten(self.structure, [slot.value for slot in self.slots])
        updates, state = self.tx.update(
            dict(zip(self.names, grads, strict=True)), state, params
        )
        new = gradtx.apply_updates(params, updates)
        for variable, name in zip(variables, self.names, strict=True):
            variable.assign(new[name])
        for slot, x in zip(self.slots, jax.tree.leaves(state), strict=True):
            slot.assign(x)
        self.iterations.assign_add(1)


# --8<-- [end:optimizer]

train, test = load()
steps = (1 if QUICK else 3) * 5 * len(train.labels) // 64
# --8<-- [start:fit]
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(10),
    ]
)
tx = gradtx.groups(
    gradtx.adamw(gradtx.cosine_decay_schedule(1e-2, steps), weight_decay=0.1),
    {r".*/bias": {"weight_decay": 0.0}},
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer=Optimizer(tx), loss=loss, metrics=["accuracy"])
# --8<-- [end:fit]

history = model.fit(
    train.images, train.labels, batch_size=64, epochs=5 if QUICK else 15, verbose=0
).history
print("loss by epoch: " + ", ".join(f"{x:.3f}" for x in history["loss"]))
_, right = model.evaluate(test.images, test.labels, verbose=0)
print(f"test accuracy {right:.1%}")
state = jax.tree.unflatten(
    model.optimizer.structure, [slot.value for slot in model.optimizer.slots]
)
print(f"learning rate {gradtx.hyperparams(tx, state).last['learning_rate']:.1e}")
assert right > 0.9
assert int(gradtx.tree.get_all_with_path(state, "count")[0][1]) == int(
    model.optimizer.iterations.value
)
