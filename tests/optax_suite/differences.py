"""What of Optax's own tests fails with gradtx in its place, and where the documentation says so."""

from pathlib import Path

OPTAX = "0.2.8"

DOCS = Path(__file__).parents[2] / "docs"

EXTRA = "extra arguments of `update`"
HALF = "moments of half-precision params"
INTEGERS = "integer params"
PRIVATE = "what is private in Optax"
SHAPES = "another tree or shape"
WORDS = "the kinds and words of errors, warnings and reports"
TO_ROUNDING = "Results agree with Optax to rounding wherever these tables say nothing."

CURVATURE = "L-BFGS: a pair of step and change without positive curvature"
INJECTED = "`inject_hyperparams` with bfloat16 params"
NUMBERED = "`contrib.MuonDimensionNumbers`, `contrib.GaLoreDimensionNumbers`"

DIFFERENCES: dict[str, str] = {
    "_src.alias_test::AliasTest::test_explicit_dtype9": HALF,
    "_src.alias_test::AliasTest::test_explicit_dtype1[01]": HALF,
    "_src.alias_test::LBFGSTest::test_against_plain_implementation[23]": CURVATURE,
    "_src.base_test::ExtraArgsTest::test_isinstance": EXTRA,
    "_src.combine_test::ExtraArgsTest::test_extra_args": INTEGERS,
    # They give an `increase_factor` of 1e-5.
    "_src.linesearch_test::*::test_dtype_stability*": "arguments",
    "_src.linesearch_test::*linesearch_raises_on_unused_extra_args": EXTRA,
    "_src.linesearch_test::ZoomLinesearchTest::test_failure_descent_direction": WORDS,
    "_src.linesearch_test::ZoomLinesearchTest::test_failure_flat_fun": WORDS,
    "_src.linesearch_test::ZoomLinesearchTest::test_failure_too_small_max_stepsize": WORDS,
    "_src.linesearch_test::ZoomLinesearchTest::test_value_and_grad_from_state": WORDS,
    "_src.transform_test::TransformTest::test_lion_invalid_mode_raises": "arguments",
    "_src.transform_test::TransformTest::test_scale_by_polyak_l1_norm": SHAPES,
    "_src.utils_test::MultiNormalDiagFromLogScaleTest::test_init_successful_broadcast?": PRIVATE,
    "_src.utils_test::MultiNormalDiagFromLogScaleTest::test_init_unsuccessful_broadcast?": WORDS,
    "contrib._galore_test::GaLoreTest::test_mu_dtype_controls_moment_dtype": HALF,
    "contrib._muon_test::MuonTest::test_newton_schulz": NUMBERED,
    "contrib._muon_test::MuonTest::test_reshape_inverse_2d_tuple_axes": NUMBERED,
    "contrib._muon_test::MuonTest::test_reshape_inverse_[34]d_*": NUMBERED,
    "contrib._schedule_free_test::ScheduleFreeTest::test_explicit_dtype3": HALF,
    "losses._classification_test::GeneralizedKLDivergenceTest::test_deprecated_alias": WORDS,
    "losses._segmentation_test::DiceLossTest::test_probability_validation": WORDS,
    "microbatching._microbatching_test::MicrobatchingTest::test_raises_on_invalid_microbatches": WORDS,
    "schedules._inject_test::*::test_hyperparam_default_dtype_*": INJECTED,
    "schedules._inject_test::*::test_inject_hyperparams_starts_with_step_count_zero": "integer updates",
    # The state is given as 0.
    "transforms._adding_test::AddingTest::test_none_argument": SHAPES,
    "transforms._combining_test::ExtraArgsTest::test_extra_args": INTEGERS,
    "tree_utils._tree_math_test::TreeUtilsTest::test_tree_vdot": TO_ROUNDING,
    "docstring_examples::test_examples?*.adan?": "`adan`'s weight of the gradient's change",
    "docstring_examples::test_examples?*.centralize?": INTEGERS,
    "docstring_examples::test_examples?*.optimistic_adam*": "`1 - b` and `1 - b**t`",
    "docstring_examples::test_examples?*.rprop?": "`rprop`, `scale_by_rprop`",
}
"""By a pattern of the names of tests: how the line of the documentation begins."""

ROUNDING = "a number that is compared more closely than XLA rounds"
JAX_WORDS = "an error in the words of older versions of JAX"

OPTAX_FAILS: dict[str, str] = {
    "_src.linear_algebra_test::LinearAlgebraTest::test_nnls[45]": ROUNDING,
    "transforms._clipping_test::ClippingTest::test_clip_by_block_rms": ROUNDING,
    "transforms._freezing_test::FreezeTest::test_bad_structure_raises": JAX_WORDS,
    "transforms._freezing_test::*::test_selective_bad_structure": JAX_WORDS,
    "docstring_examples::test_examples?*.add_mean_variance_to_opt?": "an argument that is not there",
    "docstring_examples::test_examples?*.base_hungarian_algorithm?": "another order of the rows",
    "docstring_examples::test_examples?*.inject_hyperparams?": "comments as examples",
    "docstring_examples::test_examples?*.partition?": "lines that are no statement",
}
"""What fails with Optax itself, and why."""


def undocumented() -> list[str]:
    """The beginnings with which no line of the documentation begins."""
    pages = [(DOCS / page).read_text() for page in ("from_optax.md", "optax_names.md")]
    lines = [line.removeprefix("| ") for page in pages for line in page.splitlines()]
    return sorted(x for x in set(DIFFERENCES.values()) if not any(line.startswith(x) for line in lines))
