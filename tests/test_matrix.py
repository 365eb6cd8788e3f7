"""Optimizers of matrices: axes and their parts, coefficients, exact factors, invariances, mistakes."""

import itertools
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradtx
from gradtx.matrix.axes import MatrixAxes, joined, pieces, sizes
from gradtx.matrix.kron import is_due
from gradtx.matrix.polar import METHODS, exactly
from gradtx.matrix.polynomials import triples_of
from tests.given import in_half_of_the_steps, probes
from tests.laws import assert_close, run
from tests.oracles import formulas
from tests.torch_parity.cases import TORCH_NEWTON_SCHULZ, newton_schulz

RNG = np.random.default_rng(0)
normal = RNG.normal


# --- axes -------------------------------------------------------------------------------------------


def test_tensors_go_into_pieces_and_back() -> None:
    x = np.arange(4 * 6 * 2 * 5.0).reshape(4, 6, 2, 5)
    by_hand = {
        MatrixAxes(1, 3): [x.transpose(0, 2, 1, 3).reshape(8, 6, 5)],
        MatrixAxes((0, 1), (2, 3)): [x.reshape(1, 24, 10)],
        MatrixAxes(-1, 1, output_split=3): [x.transpose(0, 2, 3, 1).reshape(8, 5, 3, 2).swapaxes(1, 2)],
        MatrixAxes(1, 3, reduction_split=(4, 2)): [
            x.transpose(0, 2, 1, 3)[:, :, a] for a in (slice(4), slice(4, 6))
        ],
        MatrixAxes(1, 3, (3, 3), (1, 4)): [
            x.transpose(0, 2, 1, 3).reshape(8, 2, 3, 5)[..., a] for a in (slice(1), slice(1, 5))
        ],
    }
    for axes, expected in by_hand.items():
        found = pieces("test", jnp.asarray(x), axes)
        assert [piece.shape for piece in found] == sizes("test", x.shape, axes)
        for piece, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(piece, other.reshape(piece.shape))
        np.testing.assert_array_equal(joined("test", found, x.shape, axes), x)


def test_parts_are_matrices_by_themselves(x64) -> None:
    """Heads, and queries, keys and values of unequal widths, step as if each were a param."""
    parts = {"heads": [normal(size=(6, 3)) for _ in range(4)]} | {
        "qkv": [normal(size=(6, n)) for n in (4, 2, 2)]
    }
    axes = {
        "heads": MatrixAxes(0, 1, output_split=4),
        "qkv": MatrixAxes(0, 1, output_split=(4, 2, 2)),
    }
    fused = {name: jnp.concatenate(own, axis=1) for name, own in parts.items()}
    for options in ({"consistent_rms": 0.2}, {"scale": "spectral"}):
        tx = gradtx.muon(0.1, muon_weight_dimension_numbers=axes, **options)
        apart = gradtx.muon(0.1, **options)
        updates, _ = tx.update(fused, tx.init(fused), fused)
        alone, _ = apart.update(parts, apart.init(parts), parts)
        for name, own in alone.items():
            np.testing.assert_allclose(updates[name], jnp.concatenate(own, axis=1), rtol=0, atol=1e-13)


# --- coefficients and exact factors -----------------------------------------------------------------


def after(triples: list, s: np.ndarray) -> np.ndarray:
    for a, b, c in triples:
        s = a * s + b * s**3 + c * s**5
    return s


@pytest.mark.parametrize(
    ("name", "steps", "least", "most", "low", "high"),
    [
        ("standard", 5, 0.002, 1, 0.68, 1.21),
        ("quintic", 5, 0.003, 1, 0.97, 1.15),
        ("polar_express", 8, 0.001, 1, 1 - 1e-4, 1 + 1e-4),
        ("cans", 5, 0.001, 1, 0.88, 1.12),
        ("aol", 4, 0.01, 0.85, 0.86, 1.09),
        ("8+2", 10, 0.001, 1, 1 - 1e-3, 1 + 1e-3),
        ("cubic", 5, 0.007, 1, 0.77, 1.31),
    ],
)
def test_coefficients_bring_singular_values_near_one(name, steps, least, most, low, high) -> None:
    """As the docstring says."""
    s = after(triples_of("test", name, steps, "last"), np.geomspace(least, most, 10000))
    assert low <= s.min() and s.max() <= high, (s.min(), s.max())


def test_what_is_beyond_the_last_coefficients() -> None:
    a, b = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    assert triples_of("test", a, 3, None) == [a] * 3
    assert triples_of("test", (a, b), 5, None) == [a, b]
    assert triples_of("test", (a, b), 5, "last") == [a, b, b, b, b]
    assert triples_of("test", (a, b), 5, "cycle") == [a, b, a, b, a]
    assert triples_of("test", (a, b), 1, "last") == [a]


def test_exact_factors(x64) -> None:
    shapes = ((5, 3), (3, 5), (4, 4), (2, 5, 3))
    for shape, (name, factor) in itertools.product(shapes, METHODS.items()):
        x = normal(size=shape)
        U, _, V = np.linalg.svd(x, full_matrices=False)
        np.testing.assert_allclose(factor(jnp.asarray(x)), U @ V, rtol=0, atol=1e-13, err_msg=name)
        np.testing.assert_array_equal(factor(jnp.zeros(shape)), 0)
    low_rank = np.outer([1.0, 2.0], [3.0, 0.0, 4.0])
    np.testing.assert_allclose(
        METHODS["svd"](jnp.asarray(low_rank)), low_rank / np.linalg.norm(low_rank), atol=1e-14
    )


def test_derivatives_of_exact_factors(x64) -> None:
    """Beside differences, of square, tall and wide matrices; and finite where singular values coincide."""
    for shape in ((3, 3), (4, 2), (2, 4)):
        x, dx = normal(size=shape), normal(size=shape)
        _, found = jax.jvp(lambda x: exactly(x, "svd"), (jnp.asarray(x),), (jnp.asarray(dx),))
        h = 1e-5
        differences = (METHODS["svd"](x + h * dx) - METHODS["svd"](x - h * dx)) / (2 * h)
        np.testing.assert_allclose(found, differences, rtol=0, atol=1e-8)
    for x in (jnp.eye(3), jnp.zeros((3, 2))):
        assert np.isfinite(jax.grad(lambda x: exactly(x, "svd").sum())(x)).all()


def test_products_in_bfloat16_are_summed_and_returned_in_more() -> None:
    x = {"w": jnp.asarray(normal(size=(8, 16)), jnp.float32)}
    narrow, wide = (gradtx.scale_by_muon(ns_dtype=dtype) for dtype in ("bfloat16", "float32"))
    found, exact = (tx.update(x, tx.init(x), x)[0]["w"] for tx in (narrow, wide))
    assert found.dtype == jnp.float32
    assert 0 < np.abs(found - exact).max() < 0.05
    text = str(jax.make_jaxpr(narrow.update)(x, narrow.init(x), x))
    assert "preferred_element_type=float32" in text and "bf16[8,16]" in text


def test_muon_equals_torch(x64) -> None:
    """Over 20 steps with Newton-Schulz in float64; without look-ahead, for there the means differ."""
    start, grads = normal(size=(6, 4)), [normal(size=(6, 4)) for _ in range(20)]
    kinds = {"original": {}, "match_rms_adamw": {"consistent_rms": 0.2}}
    for adjust, options in kinds.items():
        param = torch.nn.Parameter(torch.tensor(start))
        theirs = torch.optim.Muon([param], 0.1, nesterov=False, adjust_lr_fn=adjust, eps=1e-300)
        with mock.patch(TORCH_NEWTON_SCHULZ, newton_schulz):
            for grad in grads:
                param.grad = torch.tensor(grad)
                theirs.step()
        # Theirs are (out, in): the columns of ours are their rows.
        axes = MatrixAxes(1, 0)
        tx = gradtx.muon(
            0.1,
            eps=1e-300,
            weight_decay=0.1,
            nesterov=False,
            muon_weight_dimension_numbers={".*": axes},
            **options,
        )
        ours, _ = run(tx, {"w": jnp.asarray(start)}, [{"w": jnp.asarray(grad)} for grad in grads])
        np.testing.assert_allclose(ours["w"], param.detach().numpy(), rtol=0, atol=1e-12)


# --- invariances ------------------------------------------------------------------------------------


def orthogonal(n: int) -> np.ndarray:
    return np.linalg.qr(normal(size=(n, n)))[0]


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.scale_by_muon(),
        gradtx.scale_by_muon("polar_express", 5, ns_beyond="last", nesterov=False),
        gradtx.scale_by_muon(method="svd"),
        gradtx.scale_by_muon(preconditioning="spectral", adaptive=True),
    ],
    ids=["standard", "polar_express", "svd", "spectral"],
)
def test_orthogonal_factors_pass_through_muon(tx, x64) -> None:
    grads, left, right = [normal(size=(4, 6)) for _ in range(3)], orthogonal(4), orthogonal(6)
    turned = [left @ grad @ right for grad in grads]
    ends = []
    for series in (grads, turned):
        state = tx.init({"w": series[0]})
        for grad in series:
            updates, state = tx.update({"w": jnp.asarray(grad)}, state)
        ends.append(updates["w"])
    np.testing.assert_allclose(left @ ends[0] @ right, ends[1], rtol=0, atol=1e-11)


def test_the_norm_stays_on_the_hyperball() -> None:
    params = {"w": jnp.asarray(normal(size=(4, 6)), jnp.float32), "zero": jnp.zeros(3)}
    tx = gradtx.chain(gradtx.scale_by_adam(), gradtx.hyperball(0.1))
    grads = [jax.tree.map(lambda x: jnp.asarray(normal(size=x.shape), x.dtype), params) for _ in range(50)]
    after, _ = run(tx, params, grads)
    np.testing.assert_allclose(jnp.linalg.norm(after["w"]), jnp.linalg.norm(params["w"]), rtol=1e-6)
    assert np.abs(after["w"] - params["w"]).max() > 0.1 and not after["zero"].any()


@pytest.mark.parametrize("make", [gradtx.scale_by_normuon, gradtx.scale_by_adamuon, gradtx.scale_by_lmo])
def test_the_scale_of_gradients_does_not_matter(make, x64) -> None:
    grads = {"w": jnp.asarray(normal(size=(4, 6)))}
    tx = make(**{} if make is gradtx.scale_by_lmo else {"eps": 0.0})
    large = jax.tree.map(lambda g: 2.0**40 * g, grads)
    once, large = (tx.update(g, tx.init(grads))[0]["w"] for g in (grads, large))
    np.testing.assert_allclose(once, large, rtol=0, atol=1e-12)


def test_dion2_follows_every_row_in_time(x64) -> None:
    """What is not chosen stays, to the last digit; of rows as large as each other, none waits for long."""
    g = normal(size=(4, 6))
    grads = {"w": jnp.asarray(g / np.abs(g).sum(axis=1, keepdims=True))}
    tx = gradtx.scale_by_dion2(0.25, 0.5)
    state, seen = tx.init(grads), np.zeros(4, bool)
    for _ in range(8):
        updates, new = tx.update(grads, state)
        chosen = np.any(np.asarray(updates["w"]) != 0, axis=1)
        assert chosen.sum() == 1
        whole = np.asarray(state.mu["w"] + grads["w"])
        np.testing.assert_array_equal(new.mu["w"], np.where(chosen[:, None], 0.5 * whole, whole))
        state, seen = new, seen | chosen
    assert seen.all()


def test_keys_are_clipped_by_what_queries_are_not(x64) -> None:
    params = {name: jnp.asarray(normal(size=(2, 3, 4))) for name in ("q", "k", "v")}
    tx = gradtx.qk_clip({"q": "query", "k": "key"}, 10.0, 0.25, head_axis=1)
    largest = {"q": jnp.array([160.0, 5.0, 10.0]), "k": jnp.array([160.0, 5.0, 10.0]), "v": None}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params, max_logits=largest)
    after = gradtx.apply_updates(params, updates)
    for name, factor in (("q", 0.5), ("k", 0.125), ("v", 1.0)):
        factors = np.array([factor, 1.0, 1.0])[None, :, None]
        np.testing.assert_allclose(after[name], factors * params[name], rtol=1e-14)


# --- Kron --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_dim", [8192, 5])
def test_kron_equals_the_paper_over_20_steps(max_dim, x64) -> None:
    grads = [jnp.asarray(normal(size=(5, 7))) for _ in range(20)]
    oracle, tx = formulas.kron(probes(3), max_dim=max_dim), gradtx.scale_by_kron(seed=3, max_dim=max_dim)
    state = tx.init(grads[0])
    for grad in grads:
        update, state = tx.update(grad, state)
        np.testing.assert_allclose(update, oracle(grad, None), rtol=0, atol=1e-12)


def test_kron_whitens(x64) -> None:
    """From gradients with covariances of rows and columns to ones without, as far as probes allow."""
    left, right = (np.diag(np.geomspace(1, 30, n)) @ orthogonal(n) for n in (4, 6))
    tx = gradtx.scale_by_kron(b1=0.0, max_rms=1e9)
    grads = {"w": jnp.zeros((4, 6))}

    def step(state, noise):
        updates, state = tx.update({"w": left @ noise @ right}, state)
        return state, updates["w"]

    noise = jnp.asarray(normal(size=(2000, 4, 6)))
    _, updates = jax.jit(lambda state: jax.lax.scan(step, state, noise))(tx.init(grads))
    late = np.asarray(updates[1000:])
    rows = np.einsum("tij,tkj->ik", late, late) / (1000 * 6)
    assert np.linalg.cond(left) > 29 and np.linalg.cond(rows) < 2
    np.testing.assert_allclose(np.diag(rows), 1, atol=0.5)


def test_the_steps_of_kron_are_spread_evenly() -> None:
    steps = jnp.arange(1, 10001)
    for share in (0.0, 0.03, 0.5, 0.7, 1.0):
        due = np.flatnonzero(is_due(steps, share))
        assert abs(len(due) - 10000 * share) <= 2
        gaps = np.diff(due)
        assert not share or gaps.max() <= 3 / share and len(set(gaps)) <= 3


def test_kron_skips_a_stack_as_it_skips_a_matrix() -> None:
    """What decides is the same for all params, so that the branch stays one; and then factors stay."""
    params = {name: jnp.ones((4, 6)) for name in "ab"}
    tx = gradtx.scale_by_kron(probability=0.5)
    with gradtx.batching(gradtx.Stack()):
        assert str(jax.make_jaxpr(tx.update)(params, tx.init(params))).count("cond[") == 1
    state, changed = tx.init(params), []
    for _ in range(6):
        _, after = tx.update(params, state)
        changed.append(bool(jnp.any(after.factors["a"][0] != state.factors["a"][0])))
        state = after
    assert changed == [in_half_of_the_steps(step) for step in range(1, 7)]


def test_a_factor_that_is_not_finite_is_not_taken() -> None:
    good = jnp.asarray(normal(size=(3, 4)), jnp.float32)
    params = {"w": good, "cut": jnp.stack([good, good])}
    tx = gradtx.scale_by_kron(weight_dimension_numbers={"w": True, "cut": MatrixAxes(1, 2)})
    _, state = tx.update(params, tx.init(params))
    bad = {"w": jnp.full_like(good, jnp.nan), "cut": params["cut"].at[0].set(jnp.inf)}
    _, after = tx.update(bad, state)
    assert after.rejected["w"] == 1 and after.rejected["cut"] == 1
    assert_close(after.factors["w"], state.factors["w"], rtol=0, atol=0)
    for old, new in zip(state.factors["cut"], after.factors["cut"], strict=True):
        np.testing.assert_array_equal(new[0], old[0])
        assert np.isfinite(new[1]).all() and np.any(new[1] != old[1])


# --- SOAP --------------------------------------------------------------------------------------------


def steps_of(tx, grads):
    state, found = tx.init({"w": jnp.zeros_like(grads[0])}), []
    for grad in grads:
        updates, state = tx.update({"w": jnp.asarray(grad)}, state)
        found.append(np.asarray(updates["w"]))
    return found, state


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("stagger", [True, False])
def test_soap_equals_the_paper_over_20_steps(every, stagger, x64) -> None:
    grads, oracle = [normal(size=(5, 5)) for _ in range(20)], formulas.soap(every=every, stagger=stagger)
    found, _ = steps_of(gradtx.scale_by_soap(every=every, stagger=stagger), grads)
    for update, grad in zip(found, grads, strict=True):
        np.testing.assert_allclose(update, oracle(grad, None), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["qr", "cholesky_qr", "eigh"])
def test_bases_stay_orthogonal(method) -> None:
    """To 1e-5 in float32 after 1000 renewals."""
    tx = gradtx.scale_by_soap(every=1, method=method)
    state = tx.init({"w": jnp.zeros((8, 8))})

    def step(state, key):
        return tx.update({"w": jax.random.normal(key, (8, 8))}, state)[1], None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(jax.random.key(0), 1000)))(state)
    for q in state.basis["w"]:
        np.testing.assert_allclose(q[0].T @ q[0], np.eye(8), rtol=0, atol=1e-5)
    assert state.count == 1000 and state.rejected["w"] == 0


def test_one_sided_soap_has_the_basis_of_the_shorter_side(x64) -> None:
    """As if the other one were too long for one."""
    grads = [normal(size=(3, 5)) for _ in range(6)]
    one, other = (
        steps_of(gradtx.scale_by_soap(every=2, **options), grads)[0]
        for options in ({"one_sided": True}, {"max_dim": 4})
    )
    np.testing.assert_array_equal(one, other)
    assert np.abs(np.subtract(one, steps_of(gradtx.scale_by_soap(every=2), grads)[0])).max() > 1e-3


def test_soap_has_no_branch_and_does_not_grow_with_the_blocks_of_a_shape() -> None:
    def jaxpr(count, stagger=True):
        params = {f"w{i}": jnp.ones((4, 6)) for i in range(count)}
        tx = gradtx.scale_by_soap(every=5, stagger=stagger)
        with gradtx.batching(gradtx.Stack()):
            return str(jax.make_jaxpr(tx.update)(params, tx.init(params)))

    assert "cond[" not in jaxpr(10)
    for operation in ("dot_general", "while["):
        assert 0 < jaxpr(10).count(operation) == jaxpr(20).count(operation)
    whole_factors = r":f32\[[^\]]*(4,4|6,6|4,6)\] = select_n"
    assert not re.search(whole_factors, jaxpr(10)) and re.search(whole_factors, jaxpr(10, stagger=False))


def test_no_kernel_of_soap_is_of_one_block_alone() -> None:
    """What XLA compiles for a CPU, which is what takes it time, is one kernel for all blocks of a shape."""

    def fusions(count):
        params = {f"w{i}": jnp.ones((4, 6)) for i in range(count)}
        tx = gradtx.scale_by_soap(every=10)
        text = jax.jit(tx.update).lower(params, tx.init(params)).compile().as_text()
        bodies = re.findall(r"^%?\S+ \([^\n]*\{\n(.*?)^\}", text, re.M | re.S)
        return len({re.sub(r"%[\w.-]+|, metadata=\{[^}]*\}", "", body) for body in bodies})

    assert fusions(10) <= fusions(5) + 2


# --- mistakes ---------------------------------------------------------------------------------------


def with_axes(*arguments, **options):
    return lambda: gradtx.scale_by_muon(
        weight_dimension_numbers={"w": MatrixAxes(*arguments, **options)}
    ).init({"w": jnp.ones((4, 6))})


W = {"w": jnp.ones((4, 6))}


def clipped(largest):
    return gradtx.qk_clip({"w": "query"}).update(W, gradtx.EmptyState(), W, max_logits=largest)


MISTAKES = [
    (
        with_axes(0, 2),
        r"scale_by_muon: \['w'\]: MatrixAxes\(0, 2\) names an axis that a tensor of shape \(4, 6\)",
    ),
    (with_axes(0, 1, output_split=4), r"\['w'\]: .*: 6 columns cannot be cut into 4 equal parts"),
    (with_axes(0, 1, reduction_split=(1, 2)), r"\['w'\]: .*: 4 rows cannot be cut into parts of \(1, 2\)"),
    (with_axes(0, 1, reduction_split=0), "4 rows cannot be cut into 0 equal parts"),
    (
        lambda: gradtx.muon(0.1, method="cubic"),
        "scale_by_muon: method must be one of newton_schulz, svd, qdwh, got",
    ),
    (lambda: gradtx.muon(0.1, ns_beyond="first"), "ns_beyond must be None, 'last' or 'cycle', got 'first'"),
    (
        lambda: gradtx.muon(0.1, scale="rms"),
        "scale_by_shape: scale must be one of original, spectral, none, got",
    ),
    (lambda: gradtx.soap(0.1, every=0), r"soap: every must lie in \[1, inf\], got 0"),
    (
        lambda: gradtx.soap(0.1, method="svd"),
        "scale_by_soap: method must be one of qr, cholesky_qr, eigh, got",
    ),
    (lambda: gradtx.dion2(0.1, 1.5), r"dion2: fraction must lie in \(0, 1\], got 1.5"),
    (
        lambda: gradtx.scion(0.1, {"w": "frobenius"}).init(W),
        "norms must give one of spectral, sign, embedding",
    ),
    (
        lambda: gradtx.scale_by_lmo({"w": "sign"}).update({"w": jnp.ones(3)}, gradtx.EmptyState()),
        r"the norm 'sign' is one of matrices, and a tensor of shape \(3,\) is none",
    ),
    (lambda: clipped({"w": jnp.ones(4)}), r"one number for each head, .* the size 6 of axis -1; got \(4,\)"),
    (lambda: clipped({"w": None}), "qk_clip: max_logits must have a vector for this query"),
    (
        lambda: gradtx.qk_clip({"w": "value"}).update(W, gradtx.EmptyState(), W, max_logits=W),
        "qk_clip: parts must give 'query' or 'key', got 'value'",
    ),
    (
        lambda: gradtx.contrib.galore(
            0.1, weight_dimension_numbers={"w": MatrixAxes(0, 1, output_split=2)}
        ).init({"w": jnp.ones((4, 6))}),
        r"scale_by_galore: \['w'\]: MatrixAxes\(0, 1, output_split=2\) cuts matrices, which",
    ),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- names of before --------------------------------------------------------------------------------


def test_entries_of_states_have_had_other_names() -> None:
    params = {"w": jnp.ones((2, 3))}
    tx = gradtx.chain(gradtx.scale_by_muon(), gradtx.scale_by_muon())
    now = gradtx.state_dict(tx, tx.update(params, tx.init(params), params)[1])
    before = {f"contrib.{name}": x for name, x in now.items()}
    assert "contrib.scale_by_muon_1/mu/w" in before
    loaded = gradtx.load_state_dict(tx, tx.init(params), before)
    for name, x in gradtx.state_dict(tx, loaded).items():
        np.testing.assert_array_equal(x, now[name])


def test_the_momentum_of_muon_can_be_stored() -> None:
    params = {"w": jnp.ones((2, 64))}
    tx = gradtx.stored(gradtx.scale_by_muon(), {"mu": "bfloat16"}, min_size=0)
    _, state = tx.update(params, tx.init(params), params)
    assert state.count == 1 and {x.dtype for x in jax.tree.leaves(state.mu)} == {jnp.dtype("bfloat16")}
