"""Names of Optax that are elsewhere here, or left out, and what to take instead."""

MOVED = {
    "DifferentiallyPrivateAggregateState": "contrib.DifferentiallyPrivateAggregateState",
    "differentially_private_aggregate": "contrib.differentially_private_aggregate",
    "dpsgd": "contrib.dpsgd",
    "inject_stateful_hyperparams": "inject_hyperparams",
    "schedules.InjectHyperparamsState": "InjectHyperparamsState",
    "schedules.InjectStatefulHyperparamsState": "InjectStatefulHyperparamsState",
    "schedules.inject_hyperparams": "inject_hyperparams",
    "schedules.inject_stateful_hyperparams": "inject_hyperparams",
}
"""By its name in Optax, the name in gradtx."""

LEFT_OUT = {
    "monte_carlo": "sample `multi_normal`, or take `perturbations.make_perturbed_fun`",
    "second_order.fisher_diag": "the mean of squares of `jax.vmap(jax.grad(loss), (None, 0))(params, batch)`",
    "second_order.hessian_diag": "`contrib.hutchinson_estimator_diag_hessian` estimates it",
    "second_order.hvp": "`jax.jvp(jax.grad(loss), (params,), (v,))[1]`",
}
"""By its name in Optax, what does the same."""


def missing(module: str, name: str) -> AttributeError:
    """The error for a name that a module has not, and where it is if Optax has it there."""
    full = f"{module}.{name}".partition(".")[2]
    told = f"module {module!r} has no attribute {name!r}"
    if full in MOVED:
        told += f"; it is gradtx.{MOVED[full]}"
    instead = [f"{known}: {what}" for known, what in LEFT_OUT.items() if known == full]
    instead += [f"{known}: {what}" for known, what in LEFT_OUT.items() if known.startswith(f"{full}.")]
    if instead:
        told += f"; of Optax's, these are left out: {'; '.join(instead)}"
    return AttributeError(told, name=name)
