"""The pickle of a checkpoint, read as data: nothing is imported, called or built.

Belongs: the opcodes and names that ``torch.save`` writes for nested plain data with tensors.
Does not: the bytes of tensors and whether they fit (``safe_checkpoint``), the zip file
(``zip_records``).
Concept: a closed grammar. A pickle is a program; an unpickler that forbids some of its calls has
been got round often. This reader has no calls: the three callables below are patterns that become
plain values, and any other opcode, name, order or argument is refused.
"""

from __future__ import annotations

import io
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dagster_project.lib.inference.zip_records import damaged, foreign

MAX_BYTES = 4 << 20
MAX_OPCODES = 1_000_000
MAX_DEPTH = 64
MAX_DIMENSIONS = 8
_BIGGEST = 1 << 62

ORDERED_DICT = "collections OrderedDict"
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
STORAGES: Mapping[str, tuple[str, int]] = {
    "torch FloatStorage": ("float32", 4),
    "torch DoubleStorage": ("float64", 8),
    "torch HalfStorage": ("float16", 2),
    "torch BFloat16Storage": ("bfloat16", 2),
    "torch LongStorage": ("int64", 8),
    "torch IntStorage": ("int32", 4),
    "torch ShortStorage": ("int16", 2),
    "torch CharStorage": ("int8", 1),
    "torch ByteStorage": ("uint8", 1),
    "torch BoolStorage": ("bool", 1),
}
"""Name in the pickle -> dtype and bytes an element. Weights must be floats; the others are met in
what lies beside them (an optimizer's steps, a random generator's state) and is never loaded."""
FLOATS = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Storage:
    """The record ``data/<key>`` seen as ``numel`` elements."""

    key: str
    dtype: str
    itemsize: int
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor that could be read: a window of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Global:
    """One of the permitted names, never looked up."""

    name: str


_CONTAINERS = (dict, OrderedDict, list, tuple)
_PLAIN = (type(None), bool, int, float, str, TensorRef, *_CONTAINERS)


def read_pickle(data: bytes) -> tuple[Any, dict[str, Storage]]:
    """The value of a pickle, and every storage that it names.

    Parameters
    ----------
    data : the record ``data.pkl``.

    Returns
    -------
    Nested dicts, lists, tuples, numbers, strings and :class:`TensorRef`; storages by key.

    Raises
    ------
    UnreadableError
        An opcode, name, argument or size outside the grammar.
    """
    if len(data) > MAX_BYTES:
        raise foreign(f"data.pkl has {len(data)} bytes; at most {MAX_BYTES} are read")
    machine = _Machine()
    stream = io.BytesIO(data)
    for number, (name, argument) in enumerate(_opcodes(stream)):
        if number > MAX_OPCODES:
            raise foreign(f"data.pkl has more than {MAX_OPCODES} opcodes")
        if (name == "PROTO") != (number == 0):
            raise foreign("data.pkl does not begin with its protocol, or names it twice")
        action = _ACTIONS.get(name)
        if action is None:
            raise foreign(f"data.pkl has the opcode {name}, which torch.save does not write")
        action(machine, argument)
    if stream.tell() != len(data):
        raise damaged("something follows the pickle in data.pkl")
    if machine.marks or len(machine.stack) != 1:
        raise damaged("data.pkl leaves more than one value")
    _refuse_cycles(machine.stack[0])
    return machine.stack[0], machine.storages


def _opcodes(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            yield opcode.name, argument
    except ValueError as error:  # also undecodable text
        raise damaged(f"data.pkl is not a pickle ({str(error)[:80]})") from None


class _Machine:
    """The stack, marks and memo of a pickle while it is read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.storages: dict[str, Storage] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        self._require(1)
        return self.stack.pop()

    def top(self, kinds: tuple[type, ...], what: str) -> Any:
        self._require(1)
        if type(self.stack[-1]) not in kinds:
            raise foreign(f"data.pkl: {what}")
        return self.stack[-1]

    def pop_many(self, count: int) -> list[Any]:
        self._require(count)
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise damaged("data.pkl uses a mark that was never set")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _require(self, count: int) -> None:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise damaged("data.pkl takes a value that is not there")


def _protocol(_: _Machine, version: int) -> None:
    if version != 2:
        raise foreign(f"data.pkl is of pickle protocol {version}; torch.save writes 2")


def _push(machine: _Machine, value: object) -> None:
    machine.push(value)


def _mark(machine: _Machine, _: object) -> None:
    machine.marks.append(len(machine.stack))


def _put(machine: _Machine, index: int) -> None:
    machine._require(1)
    if index != len(machine.memo):
        raise foreign(f"data.pkl memorises value {index} after {len(machine.memo)} others")
    machine.memo.append(machine.stack[-1])


def _get(machine: _Machine, index: int) -> None:
    if index >= len(machine.memo):
        raise damaged(f"data.pkl recalls value {index}, which was never memorised")
    machine.push(machine.memo[index])


def _append(machine: _Machine, values: list[Any]) -> None:
    target = machine.top((list,), "appends to what is no list")
    for value in values:
        _require_plain(value)
    target.extend(values)


def _set_items(machine: _Machine, values: list[Any]) -> None:
    target = machine.top((dict, OrderedDict), "sets an item of what is no dictionary")
    if len(values) % 2:
        raise damaged("data.pkl sets a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        # whole numbers of 32 bits: larger ones can be chosen to collide in a hash table
        if type(key) is not str and not (type(key) is int and -(1 << 31) <= key < 1 << 31):
            raise foreign(f"a key of a dictionary is of type {type(key).__name__}, not a string")
        if key in target:
            raise foreign(f"the key {str(key)[:80]!r} is there twice")
        _require_plain(value)
        target[key] = value


def _require_plain(value: object) -> None:
    if type(value) not in _PLAIN:
        raise foreign(f"a value is a bare {type(value).__name__.lower()}, not a tensor or plain")


def _global(machine: _Machine, name: str) -> None:
    if name not in (ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, *STORAGES):
        shown = name.replace(" ", ".", 1)[:80]
        if name.startswith("numpy"):
            raise foreign(f"holds a numpy object ({shown}): make it a float or a tensor first")
        raise foreign(f"names {shown!r}, which is no part of a state dict")
    machine.push(Global(name))


def _storage(machine: _Machine, _: object) -> None:
    """``("storage", <type>, key, location, numel)``; the location is where it was, not where to."""
    value = machine.pop()
    kinds = [type(part) for part in value] if type(value) is tuple else []
    if kinds != [str, Global, str, str, int] or value[0] != "storage":
        raise foreign("a persistent id is not that of a storage")
    _, kind, key, _, numel = value
    if kind.name not in STORAGES or not 0 <= numel < _BIGGEST:
        raise foreign(f"a storage is of {numel} elements of {kind.name!r}")
    found = Storage(key, *STORAGES[kind.name], numel)
    if machine.storages.setdefault(key, found) != found:
        raise foreign(f"the storage {key[:20]!r} is described in two ways")
    machine.push(found)


def _reduce(machine: _Machine, _: object) -> None:
    function, arguments = machine.pop_many(2)
    if type(function) is not Global or type(arguments) is not tuple:
        raise foreign("data.pkl calls what is no function")
    build = {
        ORDERED_DICT: _ordered_dict,
        REBUILD_TENSOR: _tensor,
        REBUILD_PARAMETER: _parameter,
    }.get(function.name)
    if build is None:
        raise foreign(f"data.pkl calls {function.name.replace(' ', '.')!r}")
    machine.push(build(arguments))


def _ordered_dict(arguments: tuple[Any, ...]) -> OrderedDict[Any, Any]:
    if arguments:
        raise foreign("an OrderedDict is built from arguments")
    return OrderedDict()


def _tensor(arguments: tuple[Any, ...]) -> TensorRef:
    """``(storage, offset, size, stride, requires_grad, hooks)``; a seventh: neg, conj."""
    kinds = [type(argument) for argument in arguments]
    if kinds != [Storage, int, tuple, tuple, bool, OrderedDict] or arguments[5]:
        extra = "neg, conj or other metadata" if len(arguments) == 7 else "unknown arguments"
        raise foreign(f"a tensor is built with {extra}")
    storage, offset, shape, stride = arguments[:4]
    numbers = [offset, *shape, *stride]
    if any(type(n) is not int or not 0 <= n < _BIGGEST for n in numbers):
        raise foreign("a tensor has an offset, size or stride that is negative or no whole number")
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise foreign(f"a tensor has {len(shape)} sizes and {len(stride)} strides")
    return TensorRef(storage, offset, shape, stride)


def _parameter(arguments: tuple[Any, ...]) -> TensorRef:
    kinds = [type(argument) for argument in arguments]
    if kinds != [TensorRef, bool, OrderedDict] or arguments[2]:
        raise foreign("a parameter is built with unknown arguments")
    tensor: TensorRef = arguments[0]
    return tensor


def _build(machine: _Machine, _: object) -> None:
    """``state_dict()`` carries its modules' versions as an attribute; nothing else has a state."""
    state = machine.pop()
    machine.top((OrderedDict,), "sets the state of what is no OrderedDict")
    if type(state) is not dict or list(state) != ["_metadata"]:
        raise foreign("an OrderedDict has a state that is not '_metadata'")
    if type(state["_metadata"]) not in (dict, OrderedDict):
        raise foreign("'_metadata' is no dictionary")


def _refuse_cycles(root: object) -> None:
    """Nothing here recurses, but what is read later may; each container is looked at once."""
    path = [(id(root), iter(_children(root)))]
    open_ids, done = {id(root)}, set()
    while path:
        child = next(path[-1][1], None)
        if child is None:
            finished, _ = path.pop()
            open_ids.discard(finished)
            done.add(finished)
        elif id(child) in open_ids:
            raise foreign("data.pkl holds a container that holds itself")
        elif id(child) not in done:
            if len(path) > MAX_DEPTH:
                raise foreign(f"data.pkl is nested more than {MAX_DEPTH} levels deep")
            open_ids.add(id(child))
            path.append((id(child), iter(_children(child))))


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    yield from (item for item in value if type(item) in _CONTAINERS)


def _pushes(make: Callable[[], object]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(make())


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(tuple(machine.pop_many(count)))


_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _protocol,
    "STOP": lambda _machine, _: None,
    "MARK": _mark,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _get),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _push),
    "NONE": _pushes(lambda: None),
    "NEWTRUE": _pushes(lambda: True),
    "NEWFALSE": _pushes(lambda: False),
    "EMPTY_DICT": _pushes(dict),
    "EMPTY_LIST": _pushes(list),
    "EMPTY_TUPLE": _pushes(tuple),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": lambda machine, _: _append(machine, machine.pop_many(1)),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_to_mark()),
    "SETITEM": lambda machine, _: _set_items(machine, machine.pop_many(2)),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_to_mark()),
    "GLOBAL": _global,
    "BINPERSID": _storage,
    "REDUCE": _reduce,
    "BUILD": _build,
}
"""Protocol 2 as torch's pickler writes it; an opcode that is not here is refused."""
