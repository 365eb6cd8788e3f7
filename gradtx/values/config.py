"""Optimizers as plain data: dicts for JSON and YAML, read back by registered names alone.

A recorded call becomes ``{"call": "adamw", "learning_rate": 0.001, ...}``. What JSON has no form for
gets one: tuples are ``{"tuple": [...]}``, dicts with other keys than strings ``{"items": [[key,
value], ...]}``, arrays ``{"array": [...], "dtype": "float32"}``, complex ones of their real and imaginary
parts, random keys ``{"array": [...], "key": "fry"}``. Nothing is evaluated or imported.
"""

import difflib
import re
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.values.argument import KEYWORDS, REST
from gradtx.values.factory import FACTORIES, FORMER, Factory, factory_of
from gradtx.values.parts import key_form
from gradtx.values.value import Value

T = TypeVar("T")
DATA: dict[str, type] = {}
"""By their names in configs, the frozen dataclasses that are arguments, such as `MatrixAxes`."""


def in_configs(cls: type[T]) -> type[T]:
    """Have objects of a frozen dataclass in configs, by their class's name and their fields."""
    DATA[_name_of_data(cls)] = cls
    return cls


def _name_of_data(cls: type) -> str:
    return f"{getattr(cls, 'namespace', '')}{cls.__name__}"


def to_config(value: Value) -> dict[str, Any]:
    """A transformation or schedule as plain dicts, lists, strings and numbers.

    Args:
        value: a recorded value. Its arguments must be numbers, strings, `MatrixAxes` or `LayerNorm`,
            containers of such, or recorded values themselves.

    Returns:
        A dict for `from_config`: ``from_config(to_config(tx)) == tx``.

    Raises:
        TypeError: naming the argument that has no form as data, a function for instance; or the factory,
            if its name belongs to another by now.

    Example:
        >>> import gradtx
        >>> gradtx.to_config(gradtx.scale(0.5))
        {'call': 'scale', 'step_size': 0.5}
    """
    factory = factory_of(value.factory.public)
    if FACTORIES.get(factory.key) is not factory:
        raise TypeError(
            f"to_config: {factory.name}: another function has been registered as {factory.key!r} since this "
            "value was made, and a config would call that one; make the value anew, or give each a name"
        )
    config: dict[str, Any] = {"call": factory.key}
    for argument, given in value.arguments.items():
        rest = factory.parameters[argument].kind is REST
        config[argument] = _encode(f"{factory.name}: {argument}", list(given) if rest else given)
    return config


def from_config(config: Mapping[str, Any]) -> Any:
    """The transformation or schedule that a config describes.

    Args:
        config: from `to_config`, or written by hand; arguments with defaults may be left out.

    Raises:
        ValueError: for a name that is not registered, the message lists those that are, and for what no
            config can have. A factory of your own is registered when its module is imported.
        TypeError: for an unknown, missing or wrong argument; the message lists the known ones.

    Example:
        >>> import gradtx
        >>> gradtx.from_config({"call": "sign_sgd", "learning_rate": 0.1})
        sign_sgd(learning_rate=0.1)
    """
    try:
        return _called("", config)
    except RecursionError:
        shown = config.get("call") if isinstance(config, Mapping) else type(config).__name__
        raise ValueError(f"from_config: {shown!s:.80}: a config this deep cannot be read") from None


def _called(where: str, config: Any) -> Any:
    if not isinstance(config, Mapping) or "call" not in config:
        raise _unreadable(where, 'a dict with "call": a registered name', config)
    factory = _registered(where, config["call"])
    if isinstance(factory, type):
        return _data(config["call"], factory, config)
    given: dict[Any, Any] = {
        argument: _decode(f"{factory.name}: {argument}", x)
        for argument, x in config.items()
        if argument != "call"
    }
    known = {argument: x for argument, x in given.items() if argument in factory.parameters}
    for argument, x in known.items():
        kind = factory.parameters[argument].kind
        if kind is REST and not isinstance(x, list | tuple):
            raise _unreadable(f"{factory.name}: {argument}", "a list", x)
        if kind is KEYWORDS and not isinstance(x, dict):
            raise _unreadable(f"{factory.name}: {argument}", "a dict", x)
    args, kwargs = factory.by_position(known)
    unknown = {str(argument): x for argument, x in given.items() if argument not in known}
    try:
        return factory(*args, **kwargs, **unknown)
    except Exception as error:
        if str(error).startswith(("from_config: ", *(f"{known.name}: " for known in FACTORIES.values()))):
            raise
        # Of Python, about what the factory did with an argument of another kind than it asks for.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"from_config: {factory.name}: these arguments do not work: {error}") from error


def _data(name: str, cls: type, config: Mapping[str, Any]) -> Any:
    given = {field: _decode(f"{name}: {field}", x) for field, x in config.items() if field != "call"}
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"from_config: {name}: these arguments do not work: {error}") from error


def _unreadable(where: str, expected: str, found: object) -> ValueError:
    place = f"from_config: {where}" if where else "from_config"
    return ValueError(f"{place}: expected {expected}, got {reprlib.repr(found)}")


def _registered(where: str, name: Any) -> Factory | type:
    if not isinstance(name, str):
        raise _unreadable(where, 'a registered name as "call"', name)
    if name not in {*FACTORIES, *FORMER, *DATA} and re.fullmatch(r"([a-z_]+\.)*\w+", name):
        room, _, own = f"gradtx.{name}".rpartition(".")
        with suppress(ModuleNotFoundError):  # it may be of a room that nothing has asked for so far
            getattr(import_module(room), own, None)
    if name in DATA:
        return DATA[name]
    name = FORMER.get(name, name)
    if name not in FACTORIES:
        package = import_module("gradtx")
        for own in dir(package):  # so that every room is asked for
            getattr(package, own)
        near = difflib.get_close_matches(name, FACTORIES, n=3)
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
    if type(x) in DATA.values():
        return _fields_of(where, x)
    if isinstance(x, complex):
        return {"complex": [x.real, x.imag]}
    if isinstance(x, jax.Array | np.ndarray) and not isinstance(x, Tracer):
        if (impl := key_form(x)) is not None:
            return {"array": np.asarray(jax.random.key_data(x)).tolist(), "key": impl}
        host, dtype = np.asarray(x), {"dtype": str(x.dtype)}
        shape = {"shape": list(x.shape)} if not x.size else {}  # of which an empty list says little
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            return {"array": [np.real(host).tolist(), np.imag(host).tolist()], **dtype, **shape}
        if jnp.issubdtype(x.dtype, jnp.number) or jnp.issubdtype(x.dtype, jnp.bool_):
            return {"array": host.tolist(), **dtype, **shape}
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


def _fields_of(where: str, x: Any) -> dict[str, Any]:
    own = [field.name for field in fields(x) if field.init]
    return {"call": _name_of_data(type(x)), **{field: _encode(where, getattr(x, field)) for field in own}}


_RESERVED = frozenset({"call", "tuple", "items", "array", "complex"})


def _decode(where: str, x: object) -> Any:
    if isinstance(x, list):
        return [_decode(where, child) for child in x]
    if not isinstance(x, Mapping):
        return x
    if "call" in x:
        return _called(where, x)
    form = next((key for key in ("tuple", "items", "complex", "array") if key in x), None)
    if form is None:
        return {key: _decode(where, child) for key, child in x.items()}
    content = x[form]
    if form == "array":
        return _array(where, content, x)
    if not isinstance(content, list | tuple):
        raise _unreadable(where, f"a list as {form!r}", content)
    if form == "tuple":
        return tuple(_decode(where, child) for child in content)
    if form == "items":
        return dict(_pair(where, child) for child in content)
    if len(content) != 2 or not all(isinstance(part, int | float) for part in content):
        raise _unreadable(where, "two numbers as 'complex'", content)
    return complex(*content)


def _array(where: str, content: Any, form: Mapping[str, Any]) -> Any:
    try:
        if "key" in form:
            return jax.random.wrap_key_data(jnp.array(content, jnp.uint32), impl=form["key"])
        dtype = np.dtype(form["dtype"])
        if jnp.issubdtype(dtype, jnp.complexfloating):
            real, imag = (np.array(part, np.finfo(dtype).dtype) for part in content)
            found = np.empty(real.shape, dtype)
            found.real, found.imag = real, imag
        else:
            found = np.array(content, dtype)
        found = found.reshape(form.get("shape", found.shape))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unreadable(where, "'array': numbers, and 'dtype': its name", form) from None
    if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        raise _unreadable(where, "the dtype of numbers", form["dtype"])
    # In the precision that JAX has now, an array that it would cut stays one of NumPy's.
    return jnp.asarray(found) if jax.dtypes.canonicalize_dtype(dtype) == dtype else found


def _pair(where: str, pair: object) -> tuple[Any, Any]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise _unreadable(where, "pairs of a key and a value as 'items'", pair)
    key, value = (_decode(where, x) for x in pair)
    try:
        hash(key)
    except TypeError:
        raise _unreadable(where, "a key that has a hash", key) from None
    return key, value
