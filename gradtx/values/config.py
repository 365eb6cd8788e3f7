"""Optimizers as plain data: dicts for JSON and YAML, read back by registered names alone.

A recorded call becomes ``{"call": "adamw", "learning_rate": 0.001, ...}``. What JSON has no form for
gets one: tuples are ``{"tuple": [...]}``, dicts with other keys than strings ``{"items": [[key,
value], ...]}``, arrays ``{"array": [...], "dtype": "float32"}``. Nothing is evaluated or imported.
"""

import difflib
import inspect
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.values.factory import FACTORIES, Factory, factory_of
from gradtx.values.value import Value


def to_config(value: Value) -> dict[str, Any]:
    """A transformation or schedule as plain dicts, lists, strings and numbers.

    Args:
        value: a recorded value. Its arguments must be numbers, strings, containers of such, or
            recorded values themselves.

    Returns:
        A dict for `from_config`: ``from_config(to_config(tx)) == tx``.

    Raises:
        TypeError: naming the argument that has no form as data, a function for instance.

    Example:
        >>> import gradtx
        >>> gradtx.to_config(gradtx.scale(0.5))
        {'call': 'scale', 'step_size': 0.5}
    """
    factory = factory_of(value.factory.public)
    config: dict[str, Any] = {"call": factory.key}
    for argument, given in value.arguments.items():
        several = factory.parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL
        config[argument] = _encode(f"{factory.name}: {argument}", list(given) if several else given)
    return config


def from_config(config: Mapping[str, Any]) -> Any:
    """The transformation or schedule that a config describes.

    Args:
        config: from `to_config`, or written by hand; arguments with defaults may be left out.

    Raises:
        ValueError: for a name that is not registered; the message lists those that are. A factory of
            your own is registered when its module is imported.
        TypeError: for an unknown or missing argument; the message lists the known ones.

    Example:
        >>> import gradtx
        >>> gradtx.from_config({"call": "sign_sgd", "learning_rate": 0.1})
        sign_sgd(learning_rate=0.1)
    """
    if not isinstance(config, Mapping) or "call" not in config:
        raise ValueError(f'from_config: expected a dict with "call": a registered name, got {config!r}')
    factory = _registered(config["call"])
    given = {argument: _decode(x) for argument, x in config.items() if argument != "call"}
    known = {argument: x for argument, x in given.items() if argument in factory.parameters}
    args, kwargs = factory.by_position(known)
    return factory(*args, **kwargs, **{argument: x for argument, x in given.items() if argument not in known})


def _registered(name: str) -> Factory:
    namespace = str(name).rpartition(".")[0]
    if name not in FACTORIES and re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", namespace):
        with suppress(ModuleNotFoundError):  # it may be of a room that nothing has asked for so far
            import_module(f"gradtx.{namespace}")
    if name not in FACTORIES:
        near = difflib.get_close_matches(str(name), FACTORIES, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"from_config: {name!r} is not registered{hint} Known: {', '.join(sorted(FACTORIES))}"
        )
    return FACTORIES[name]


def _encode(where: str, x: object) -> Any:
    if isinstance(x, Value):
        return to_config(x)
    if x is None or isinstance(x, bool | str | int | float):
        return x
    if (
        isinstance(x, jax.Array | np.ndarray)
        and not isinstance(x, Tracer)
        and jnp.issubdtype(x.dtype, jnp.number)
    ):
        return {"array": np.asarray(x).tolist(), "dtype": str(x.dtype)}
    if type(x) is list:
        return [_encode(where, child) for child in x]
    if type(x) is tuple:
        return {"tuple": [_encode(where, child) for child in x]}
    if type(x) is dict and all(isinstance(key, str) for key in x) and not _RESERVED & x.keys():
        return {key: _encode(where, child) for key, child in x.items()}
    if type(x) is dict:
        return {"items": [[_encode(where, key), _encode(where, child)] for key, child in x.items()]}
    raise TypeError(
        f"to_config: {where} is {x!r}, which has no form as data; configs hold numbers, strings (path "
        "patterns, for instance), containers, and values of registered factories"
    )


_RESERVED = frozenset({"call", "tuple", "items", "array"})


def _decode(x: object) -> Any:
    if isinstance(x, list):
        return [_decode(child) for child in x]
    if not isinstance(x, Mapping):
        return x
    if "call" in x:
        return from_config(x)
    if "tuple" in x:
        return tuple(_decode(child) for child in x["tuple"])
    if "items" in x:
        return {_decode(key): _decode(child) for key, child in x["items"]}
    if "array" in x:
        return jnp.array(x["array"], dtype=x["dtype"])
    return {key: _decode(child) for key, child in x.items()}
