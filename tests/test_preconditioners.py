"""Shampoo, SOAP and their kin: their formulas over many steps, invariances (Muon's too), blocks, what is
not finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx
from gradtx.matrix.axes import MatrixAxes, joined, pieces, sizes
from tests.closeness import double_precision
from tests.given import DRAWS_ANEW
from tests.oracles import formulas as f

RNG = np.random.default_rng(0)
normal = RNG.normal
EXAMPLES = settings(max_examples=10, deadline=None, derandomize=not DRAWS_ANEW, database=None)


def series(tx: gradtx.GradientTransformation) -> Any:
    """The updates, and the last state, as a compiled function of a stack of gradients of one param."""

    def step(state, grad):
        updates, state = tx.update({"w": grad}, state)
        return state, updates["w"]

    def run(grads):
        state, updates = jax.lax.scan(step, tx.init({"w": jnp.zeros_like(grads[0])}), grads)
        return updates, state

    return jax.jit(run)


FORMULAS = [
    *(
        (gradtx.scale_by_shampoo(every=every, stagger=stagger, eps=1e-3), every, stagger, {}, 1e-11)
        for every, stagger in ((1, False), (3, True))
    ),
    (
        gradtx.scale_by_shampoo(0.0, 1.0, 1e-6, 1, stagger=False),
        1,
        False,
        dict(b1=0.0, b2=1.0, eps=1e-6),
        1e-11,
    ),
    # The iteration ends at its own error, of what may be 3e4 times as large.
    (gradtx.scale_by_shampoo(every=3, eps=1e-3, method="newton"), 3, True, dict(ridge=1e-6), 1e-5),
    (gradtx.scale_by_shampoo(every=3, eps=1e-3, method="qr"), 3, True, dict(tracked=True), 1e-11),
    (
        gradtx.scale_by_shampoo(every=3, eps=1e-3, method="cholesky_qr", stagger=False),
        3,
        False,
        dict(tracked=True),
        1e-10,
    ),
]


@pytest.mark.parametrize(("tx", "every", "stagger", "options", "bound"), FORMULAS)
def test_shampoo_equals_the_paper_over_20_steps(tx, every, stagger, options, bound, x64) -> None:
    grads = normal(size=(20, 4, 5))
    oracle = f.shampoo(**{"every": every, "stagger": stagger, "eps": 1e-3, **options})
    found, state = series(tx)(grads)
    np.testing.assert_allclose(found, [oracle(grad, None) for grad in grads], rtol=0, atol=bound)
    assert state.rejected["w"] == 0


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize(("every", "stagger"), [(1, True), (3, False)])
def test_kl_equals_its_authors_over_20_steps(adam, every, stagger, x64) -> None:
    grads, make = normal(size=(20, 4, 5)), gradtx.scale_by_kl_soap if adam else gradtx.scale_by_kl_shampoo
    found, _ = series(make(every=every, stagger=stagger))(grads)
    oracle = f.kl(every=every, stagger=stagger, adam=adam)
    np.testing.assert_allclose(found, [oracle(grad, None) for grad in grads], rtol=0, atol=1e-12)


# --- invariances ------------------------------------------------------------------------------------

EQUIVARIANT = {
    "soap": gradtx.scale_by_soap(every=2, stagger=False),
    "soap-eigh": gradtx.scale_by_soap(every=2, stagger=False, method="eigh"),
    "shampoo": gradtx.scale_by_shampoo(every=2, stagger=False, eps=1e-3),
    "shampoo-newton": gradtx.scale_by_shampoo(every=2, eps=1e-3, method="newton"),
    "shampoo-qr": gradtx.scale_by_shampoo(every=2, stagger=False, eps=1e-3, method="qr"),
    "kl_shampoo": gradtx.scale_by_kl_shampoo(every=2, stagger=False),
    "kl_soap": gradtx.scale_by_kl_soap(every=2, stagger=False),
    "muon": gradtx.scale_by_muon(),
    "muon-polar_express": gradtx.scale_by_muon("polar_express", 5, ns_beyond="last", nesterov=False),
    "muon-spectral": gradtx.scale_by_muon(preconditioning="spectral", adaptive=True),
    "muon-svd": gradtx.scale_by_muon(method="svd"),
}


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_orthogonal_changes_of_rows_and_columns_pass_through(name) -> None:
    with double_precision():
        run = series(EQUIVARIANT[name])

        @EXAMPLES
        @given(st.integers(0, 2**31))
        def check(seed: int) -> None:
            rng = np.random.default_rng(seed)
            left, right = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
            grads = rng.normal(size=(5, 4, 4))
            found, changed = run(grads)[0], run(left @ grads @ right)[0]
            bound = 1e-5 if "newton" in name else 1e-7
            np.testing.assert_allclose(left @ np.asarray(found) @ right, changed, rtol=0, atol=bound)

        check()


@pytest.mark.parametrize("name", ["soap", "kl_shampoo", "kl_soap"])
def test_signs_and_order_of_the_bases_are_not_seen(name) -> None:
    with double_precision():
        make = getattr(gradtx, f"scale_by_{name}")
        tx = make(every=100)
        start = tx.init({"w": jnp.zeros((4, 3))})
        update = jax.jit(tx.update)

        @EXAMPLES
        @given(st.permutations(range(4)), st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4))
        def check(places: list[int], of: list[float]) -> None:
            order, signs = np.array(places), np.array(of)
            q, p = (np.linalg.qr(normal(size=(1, n, n)))[0] for n in (4, 3))
            slots = {"basis": [q, p], "eigenvalues": [np.abs(normal(size=(1, n))) + 0.1 for n in (4, 3)]}
            slots["nu"] = np.abs(normal(size=(4, 3)))
            others = {
                "basis": [(q * signs)[..., order], p],
                "eigenvalues": [slots["eigenvalues"][0][:, order], slots["eigenvalues"][1]],
                "nu": slots["nu"][order],
            }
            states = [
                start._replace(
                    **{k: {"w": jax.tree.map(jnp.asarray, x)} for k, x in own.items() if k in start._fields}
                )
                for own in (slots, others)
            ]
            grad = {"w": jnp.asarray(normal(size=(4, 3)))}
            one, other = (update(grad, state)[0]["w"] for state in states)
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)

        check()


def test_signs_and_order_of_a_tracked_basis_do_not_change_roots(x64) -> None:
    tx = gradtx.scale_by_shampoo(every=1, eps=1e-3, method="qr")
    _, state = series(tx)(normal(size=(3, 4, 4)))
    q, p = state.basis["w"]
    relabelled = state._replace(
        basis={"w": [(q * jnp.array([1, -1, -1, 1]))[..., jnp.array([2, 0, 3, 1])], p]}
    )
    grad = {"w": jnp.asarray(normal(size=(4, 4)))}
    one, other = (tx.update(grad, s)[1].root["w"] for s in (state, relabelled))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "tx", [gradtx.scale_by_soap(eps=0.0, every=1), gradtx.scale_by_shampoo(eps=0.0, every=1, stagger=False)]
)
def test_the_scale_of_gradients_does_not_matter(tx, x64) -> None:
    grads, run = normal(size=(4, 4, 4)), series(tx)
    np.testing.assert_allclose(run(grads)[0], run(2.0**20 * grads)[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.scale_by_shampoo(every=1, method="qr"),
        gradtx.scale_by_kl_shampoo(every=1, method="cholesky_qr"),
    ],
    ids=["shampoo", "kl_shampoo"],
)
def test_bases_stay_orthogonal(tx) -> None:
    """To 1e-5 in float32 after 1000 renewals."""
    grads = jnp.asarray(normal(size=(1000, 8, 8)), jnp.float32)
    _, state = series(tx)(grads)
    for q in state.basis["w"]:
        np.testing.assert_allclose(q[0].T @ q[0], np.eye(8), rtol=0, atol=1e-5)
    assert state.rejected["w"] == 0


# --- what is not finite -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "slot"),
    [
        (gradtx.scale_by_soap, "basis"),
        (gradtx.scale_by_shampoo, "root"),
        (gradtx.scale_by_kl_shampoo, "basis"),
    ],
)
@pytest.mark.parametrize("stagger", [True, False])
def test_what_is_not_finite_is_not_taken_and_counted(make, slot, stagger) -> None:
    tx = make(every=1, stagger=stagger, eps=1e-3)
    _, state = series(tx)(jnp.asarray(normal(size=(2, 3, 3)), jnp.float32))
    _, after = tx.update({"w": jnp.full((3, 3), jnp.nan)}, state)
    assert state.rejected["w"] == 0 and after.rejected["w"] == 1
    np.testing.assert_array_equal(getattr(after, slot)["w"], getattr(state, slot)["w"])
    assert np.isfinite(getattr(after, slot)["w"]).all()


# --- blocks and sides -------------------------------------------------------------------------------


def test_tensors_go_into_blocks_and_back() -> None:
    x = np.arange(2 * 7 * 6.0).reshape(2, 7, 6)
    axes = MatrixAxes(1, 2, output_split=(2, 4), block_size=3)
    assert sizes("test", x.shape, axes) == [
        (4, 3, 2), (4, 3, 3), (4, 3, 1), (2, 1, 2), (2, 1, 3), (2, 1, 1)
    ]  # fmt: skip
    found = pieces("test", jnp.asarray(x), axes)
    assert [piece.shape for piece in found] == sizes("test", x.shape, axes)
    np.testing.assert_array_equal(found[0][1], x[0, 3:6, :2])
    np.testing.assert_array_equal(found[1][0], x[0, :3, 2:5])
    np.testing.assert_array_equal(joined("test", found, x.shape, axes), x)
    assert eval(repr(axes), {"MatrixAxes": MatrixAxes}) == axes


@pytest.mark.parametrize("make", [gradtx.scale_by_soap, gradtx.scale_by_shampoo, gradtx.scale_by_kl_soap])
def test_blocks_are_matrices_by_themselves(make, x64) -> None:
    """As if each were a param, the rest at the edge too."""
    tx = make(every=2, block_size=3, eps=1e-3, stagger=False)
    grads = normal(size=(4, 6, 5))
    found, _ = series(tx)(grads)
    rows = [
        np.concatenate([series(tx)(grads[:, i : i + 3, j])[0] for j in (slice(3), slice(3, 5))], axis=-1)
        for i in (0, 3)
    ]
    np.testing.assert_allclose(found, np.concatenate(rows, axis=-2), rtol=0, atol=1e-11)


def test_a_long_side_of_shampoo_has_no_root(x64) -> None:
    """Then the exponent of the other is 1/2."""
    grads = normal(size=(3, 3, 5))
    found, state = series(gradtx.scale_by_shampoo(0.0, 1.0, 1e-3, 1, max_dim=4, stagger=False))(grads)
    cov = sum(g @ g.T for g in grads)
    s, q = np.linalg.eigh(cov)
    np.testing.assert_allclose(found[-1], q @ np.diag((s + 1e-3) ** -0.5) @ q.T @ grads[-1], atol=1e-11)
    assert [x.shape for x in state.root["w"]] == [(1, 3, 3), (0, 0, 0)]


# --- mistakes ---------------------------------------------------------------------------------------

W = {"w": jnp.ones((4, 6))}
MISTAKES = [
    (lambda: gradtx.shampoo(0.1, every=0), ValueError, r"shampoo: every must lie in \[1, inf\], got 0"),
    (lambda: gradtx.kl_soap(0.1, every=0), ValueError, r"kl_soap: every must lie in \[1, inf\], got 0"),
    (
        lambda: gradtx.shampoo(0.1, method="svd"),
        ValueError,
        "scale_by_shampoo: method must be one of eigh, newton, qr, cholesky_qr, got 'svd'",
    ),
    (
        lambda: gradtx.scale_by_kl_shampoo(method="newton"),
        ValueError,
        "scale_by_kl_shampoo: method must be one of qr, cholesky_qr, eigh, got 'newton'",
    ),
    (
        lambda: gradtx.scale_by_shampoo(method="newton", exponent=0.4),
        ValueError,
        "by Newton's iteration the exponent must be 1 over a whole number, got 0.4",
    ),
    (lambda: gradtx.soap(0.1, block_size=0), ValueError, r"soap: block_size must lie in \[1, inf\], got 0"),
    (lambda: MatrixAxes(block_size=0), ValueError, "MatrixAxes: block_size must be at least 1, got 0"),
    (
        lambda: gradtx.scale_by_shampoo().init({"w": jnp.ones(3)}),
        ValueError,
        r"scale_by_shampoo: \['w'\] has shape \(3,\) and is no matrix",
    ),
    (
        lambda: gradtx.scale_by_shampoo().init({"w": jnp.ones((3, 3), complex)}),
        Exception,
        r"scale_by_shampoo.*\['w'\].*complex|complex.*\['w'\]",
    ),
    (
        lambda: gradtx.contrib.galore(
            0.1, weight_dimension_numbers={"w": MatrixAxes(0, 1, block_size=2)}
        ).init(W),
        ValueError,
        r"scale_by_galore: \['w'\]: MatrixAxes\(0, 1, block_size=2\) cuts matrices, which",
    ),
    (
        lambda: gradtx.grafted(gradtx.scale_by_adam(), gradtx.adam),
        TypeError,
        "grafted: magnitude is the function",
    ),
]


@pytest.mark.parametrize(("make", "kind", "message"), MISTAKES, ids=[message for *_, message in MISTAKES])
def test_mistakes(make, kind, message) -> None:
    with pytest.raises(kind, match=message):
        make()
