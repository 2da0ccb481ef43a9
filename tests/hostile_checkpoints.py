"""Checkpoints that must be refused, and good ones that must not.

Every file describes, or pretends to, the same small network (``checkpoint_bytes``). A payload
makes a folder, so that its execution can be seen.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoint_bytes import (
    GOOD,
    ORDERED,
    STATE,
    TENSOR_A,
    TENSOR_B,
    A,
    B,
    End,
    Member,
    Net,
    altered,
    call,
    dict_of,
    members_of,
    name,
    number,
    pack,
    pickled,
    saved,
    storage,
    tensor,
    text,
    tuple_of,
    with_pickle,
)


@dataclass(frozen=True)
class Kind:
    """One kind of file: how to make it, and the reason it must be refused with (a pattern)."""

    id: str
    make: bytes | Callable[[Path], None]
    reason: str
    is_live: bool = field(default=False)
    """A plain unpickler executes it."""

    def write(self, path: Path) -> None:
        if isinstance(self.make, bytes):
            path.write_bytes(self.make)
        else:
            self.make(path)


def kinds(sentinel: Path) -> list[Kind]:
    """Every hostile or broken file; payloads make the folder ``sentinel``."""
    return [
        *executing(str(sentinel)),
        *other_names(),
        *broken_pickles(),
        *strange_data(),
        *strange_tensors(),
        *strange_records(),
        *forged_zips(),
        *other_files(),
        *cut_files(),
    ]


def executing(sentinel: str) -> Iterator[Kind]:
    path = text(sentinel)
    mkdir = call("os", "mkdir", path)
    code = f"__import__('os').mkdir({sentinel!r})"
    evil = {
        "reduce_os": (mkdir, "names 'os.mkdir'"),
        "reduce_eval": (call("builtins", "eval", text(code)), "names 'builtins.eval'"),
        "reduce_exec": (call("builtins", "exec", text(code)), "names 'builtins.exec'"),
        "in_the_state": (dict_of(b=mkdir, a=TENSOR_A), "names 'os.mkdir'"),
        "in_the_optimizer": (
            dict_of(optimizer=dict_of(state=b"](" + mkdir + b"e"), model=STATE),
            "names 'os.mkdir'",
        ),
        "in_metadata": (
            ORDERED + dict_of(_metadata=mkdir) + b"b",
            "names 'os.mkdir'",
        ),
        "stack_global": (
            text("os") + text("mkdir") + b"\x93" + tuple_of(path) + b"R",
            "opcode STACK_GLOBAL",
        ),
        "inst": (b"(" + path + b"ios\nmkdir\n", "opcode INST"),
        "obj": (b"(" + name("os", "mkdir") + path + b"o", "names 'os.mkdir'"),
        "newobj": (name("os", "mkdir") + tuple_of(path) + b"\x81", "names 'os.mkdir'"),
        "thrown_away": (mkdir + b"0" + STATE, "names 'os.mkdir'"),
    }
    for key, (body, reason) in evil.items():
        yield Kind(f"exec_{key}", pickled(body), reason, is_live=key != "newobj")
    yield Kind("exec_by_string", pickled(b"S'x'\n" + name("os", "mkdir")), "opcode STRING")
    partial = call("functools", "partial", name("os", "mkdir"), path)
    yield Kind("exec_partial", pickled(partial), "names 'functools.partial'")
    getattr_ = call("builtins", "getattr", name("os", "path"), text("os"))
    yield Kind("exec_getattr", pickled(getattr_), "names 'builtins.getattr'")
    codes = {"EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00"}
    for opcode, extension in codes.items():
        yield Kind(f"exec_{opcode.lower()}", pickled(extension), f"opcode {opcode}")
    ordered = name("collections", "OrderedDict")
    yield Kind("obj_of_ours", pickled(b"(" + ordered + b"o"), "opcode OBJ")
    yield Kind("newobj_of_ours", pickled(ordered + b")\x81"), "opcode NEWOBJ")
    yield Kind("newobj_ex", pickled(ordered + b")}\x92"), "opcode NEWOBJ_EX")


def other_names() -> Iterator[Kind]:
    permitted_by_torch = [
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch.serialization", "_get_layout"),
        ("torch.storage", "UntypedStorage"),
        ("torch", "ComplexFloatStorage"),
        ("torch", "QInt8Storage"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch", "load"),
        ("collections", "Counter"),
        ("_codecs", "encode"),
    ]
    for module, attribute in permitted_by_torch:
        body = call(module, attribute)
        yield Kind(f"name_{attribute.strip('_')}", pickled(body), f"names '{module}.{attribute}'")
    yield Kind("numpy_scalar", saved({"model": {}, "loss": np.float64(3)}), "holds a numpy object")
    yield Kind("sparse", saved({"a": torch.eye(3).to_sparse()}), "names 'torch._utils._rebuild_sp")
    complex_ = torch.zeros(3, dtype=torch.complex64)
    yield Kind("complex", saved({"a": complex_}), "names 'torch.ComplexFloatStorage'")
    yield Kind("neg_bit", saved({"a": torch._neg_view(torch.ones(3))}), "neg, conj or other")
    yield Kind("whole_module", saved(Net()), "names '.*Net'")


def broken_pickles() -> Iterator[Kind]:
    put = b"q\x00"
    loops = {"list": b"]" + put + b"h\x00a", "dict": b"}" + put + text("k") + b"h\x00s"}
    for kind, body in loops.items():
        yield Kind(f"cycle_{kind}", pickled(body), "holds itself")
    bodies = {
        "underflow": (b"a", "takes a value that is not there"),
        "below_a_mark": (b"}(s", "takes a value that is not there"),
        "no_mark": (b"}u", "mark that was never set"),
        "open_mark": (STATE + b"(", "leaves more than one value"),
        "two_values": (STATE + STATE, "leaves more than one value"),
        "nothing": (b"", "leaves more than one value"),
        "unknown_memo": (b"h\x07", "never memorised"),
        "memo_far_away": (b"}r\xff\xff\xff\x7f", "memorises value 2147483647"),
        "memo_overwritten": (b"}q\x00N" + b"q\x00", "memorises value 0 after 1"),
        "dup": (STATE + b"2", "opcode DUP"),
        "pop": (STATE + STATE + b"0", "opcode POP"),
        "two_protocols": (b"\x80\x02" + STATE, "names it twice"),
        "persid_text": (b"Pstorage\n", "opcode PERSID"),
        "bytes": (b"C\x01x", "opcode SHORT_BINBYTES"),
        "long4": (b"\x8b\x01\x00\x00\x00\x01", "opcode LONG4"),
        "frame": (b"\x95" + struct.pack("<Q", 4) + STATE, "opcode FRAME|not a pickle"),
        "string_beyond_the_end": (b"X\xff\xff\xff\x7f", "not a pickle"),
        "not_utf8": (b"X\x01\x00\x00\x00\xff", "not a pickle"),
        "unknown_opcode": (b"\xff", "not a pickle"),
        "odd_items": (b"}(" + text("a") + b"u", "a key without a value"),
        "append_to_dict": (b"}Na", "appends to what is no list"),
        "item_of_list": (b"]" + text("a") + b"Ns", "what is no dictionary"),
        "call_a_storage": (name("torch", "FloatStorage") + b")R", "calls 'torch.FloatStorage'"),
        "call_a_string": (text("x") + b")R", "calls what is no function"),
        "call_without_a_tuple": (name("collections", "OrderedDict") + b"]R", "calls what is no"),
        "ordered_of_items": (call("collections", "OrderedDict", b"]"), "built from arguments"),
        "deep": (b"]" * 100 + b"a" * 99, "more than 64 levels"),
        "very_deep": (b"]" * 400_000 + b"a" * 399_999, "more than 64 levels"),
        "many_opcodes": (b"N" * 1_100_000, "more than 1000000 opcodes"),
        "large": (text("x" * (5 << 20)), "data.pkl has 52"),
        "state_of_a_tensor": (TENSOR_A + b"}b", "what is no OrderedDict"),
        "another_state": (ORDERED + dict_of(__class__=b"N") + b"b", "not '_metadata'"),
        "metadata_is_a_number": (ORDERED + dict_of(_metadata=b"K\x01") + b"b", "no dictionary"),
    }
    for key, (body, reason) in bodies.items():
        yield Kind(f"pickle_{key}", pickled(body), reason)
    recalled = [b"h" + bytes([i]) for i in range(60)]
    lists = b"".join(b"]q" + bytes([i]) + b"(" + recalled[i - 1] * 2 + b"e" for i in range(1, 60))
    yield Kind("pickle_doubling_lists", pickled(b"]q\x00" + lists), "leaves more than one value")
    yield Kind("protocol_4", saved(Net().state_dict(), pickle_protocol=4), "protocol 4")
    yield Kind("protocol_0", with_pickle(b"(dp0\n", start=b""), "does not begin with its protocol")
    unstopped = pack(members_of(GOOD, **{"data.pkl": b"\x80\x02" + STATE}))
    yield Kind("no_stop", unstopped, "not a pickle")
    followed = pack(members_of(GOOD, **{"data.pkl": b"\x80\x02" + STATE + b".cos\nmkdir\n."}))
    yield Kind("behind_the_stop", followed, "something follows the pickle")


def strange_data() -> Iterator[Kind]:
    colliding = b"".join(number(i * ((1 << 61) - 1)) + b"N" for i in range(1, 9_000))
    bodies = {
        "list": (b"]", "expected a state dict, got list"),
        "tensor": (TENSOR_A, "expected a state dict, got TensorRef"),
        "empty": (b"}", "got an empty one"),
        "model_and_ema": (dict_of(model=STATE, ema=STATE), "'model', 'ema' are both there"),
        "model_and_state_dict": (dict_of(model=STATE, state_dict=STATE), "are both there"),
        "two_levels_down": (dict_of(model=dict_of(state_dict=STATE)), "is not a plain tensor"),
        "number": (dict_of(a=TENSOR_A, b=TENSOR_B, epoch=b"K\x03"), "'epoch' is not a plain"),
        "prefix_twice": (
            dict_of(**{"a": TENSOR_A, "module.a": TENSOR_A, "b": TENSOR_B}),
            'two keys mean "a"',
        ),
        "compiled_twice": (
            dict_of(**{"_orig_mod.b": TENSOR_B, "a": TENSOR_A, "b": TENSOR_B}),
            'two keys mean "b"',
        ),
        "same_key": (b"}(" + (text("a") + TENSOR_A) * 2 + b"u", "'a' is there twice"),
        "integer_key": (b"}K\x01" + TENSOR_A + b"s", "'1' is not a plain tensor"),
        "float_key": (b"}G?\xf0\x00\x00\x00\x00\x00\x00Ns", "of type float"),
        "tuple_key": (b"})Ns", "of type tuple"),
        "none_key": (b"}NNs", "of type NoneType"),
        "bool_key": (b"}\x88Ns", "of type bool"),
        "colliding_keys": (b"}(" + colliding + b"u", "of type int"),
        "long_key": (dict_of(**{"k" * 513: TENSOR_A}), "longer than 512"),
        "empty_key": (dict_of(**{"": TENSOR_A}), "a key is empty"),
        "missing_key": (dict_of(a=TENSOR_A), "1 of 2 keys missing"),
        "unknown_key": (dict_of(a=TENSOR_A, b=TENSOR_B, c=TENSOR_B), "1 unexpected"),
        "bare_storage": (dict_of(a=storage("0", 6)), "a bare storage"),
        "bare_name": (dict_of(a=name("torch", "FloatStorage")), "a bare global"),
    }
    for key, (body, reason) in bodies.items():
        yield Kind(f"data_{key}", pickled(body), reason)
    surrogate = b"}" + text("\ud800") + TENSOR_A + b"s"
    yield Kind("data_surrogate_key", pickled(surrogate), "2 of 2 keys missing")


def strange_tensors() -> Iterator[Kind]:
    six = storage("0", 6)

    def state(first: bytes, **records: bytes | None) -> bytes:
        return pickled(dict_of(a=first, b=TENSOR_B), **records)

    true = b"\x88"
    bodies = {
        "stride_0": (tensor(six, (2, 3), (0, 1)), "not contiguous: 'a'"),
        "transposed": (tensor(six, (2, 3), (1, 2)), "not contiguous: 'a'"),
        "negative_stride": (tensor(six, (2, 3), (-3, 1)), "negative"),
        "negative_offset": (tensor(six, (2, 3), (3, 1), offset=-1), "negative"),
        "offset_too_far": (tensor(six, (2, 3), (3, 1), offset=1), "do not exactly fill"),
        "offset_huge": (tensor(six, (2, 3), (3, 1), offset=1 << 63), "negative or no whole"),
        "shape_beyond": (tensor(six, (2, 4), (4, 1)), "another shape"),
        "huge_shape": (tensor(six, (1 << 40, 1 << 40), (1 << 40, 1)), "another shape"),
        "many_sides": (tensor(six, (1,) * 9, (1,) * 9), "9 sizes"),
        "sides_and_strides": (tensor(six, (2, 3), (1,)), "2 sizes and 1 strides"),
        "bool_as_size": (
            call("torch._utils", "_rebuild_tensor_v2", six, number(0), tuple_of(true, number(3)),
                 tuple_of(number(3), number(1)), b"\x89", ORDERED),
            "no whole number",
        ),
        "hooks": (tensor(six, (2, 3), (3, 1), hooks=ORDERED + text("h") + b"Ns"), "unknown arg"),
        "metadata": (tensor(six, (2, 3), (3, 1), more=dict_of(neg=true)), "neg, conj or other"),
        "of_no_storage": (tensor(text("0"), (2, 3), (3, 1)), "unknown arguments"),
        "parameter_of_text": (
            call("torch._utils", "_rebuild_parameter", text("x"), true, ORDERED),
            "a parameter is built",
        ),
        "storage_4_tb": (tensor(storage("0", 1 << 40), (2, 3), (3, 1)), "has 24 bytes"),
        "storage_negative": (tensor(storage("0", -6), (2, 3), (3, 1)), "-6 elements"),
        "storage_elsewhere": (tensor(storage("../0", 6), (2, 3), (3, 1)), "is missing"),
        "missing_record": (tensor(storage("7", 6), (2, 3), (3, 1)), "'data/7' is missing"),
        "storage_of_ordered": (
            tensor(tuple_of(text("storage"), name("collections", "OrderedDict"), text("0"),
                            text("cpu"), number(6)) + b"Q", (2, 3), (3, 1)),
            "elements of 'collections OrderedDict'",
        ),
        "persistent_module": (
            tuple_of(text("module"), name("torch", "FloatStorage"), text("0"), text("x"), number(6))
            + b"Q",
            "persistent id",
        ),
        "persistent_text": (text("0") + b"Q", "persistent id"),
        "two_dtypes": (
            tensor(storage("1", 4, "IntStorage"), (2, 3), (3, 1)),
            "described in two ways",
        ),
        "overlap": (tensor(storage("1", 4), (2, 3), (3, 1)), "record|fill"),
    }  # fmt: skip
    for key, (body, reason) in bodies.items():
        yield Kind(f"tensor_{key}", state(body), reason)
    window = tensor(storage("0", 6), (4,), (1,), offset=2)
    overlapping = dict_of(a=TENSOR_A, b=window)
    yield Kind("tensor_overlapping_keys", pickled(overlapping, data_1=None), "do not exactly fill")
    gap = dict_of(a=tensor(storage("0", 7), (2, 3), (3, 1)), b=TENSOR_B)
    yield Kind("tensor_gap", pickled(gap, data_0=A + B[:4]), "do not exactly fill")
    for dtype in (torch.int64, torch.bool, torch.uint8):
        whole = {"a": torch.ones(2, 3, dtype=dtype), "b": torch.ones(4)}
        label = str(dtype).removeprefix("torch.")
        yield Kind(f"tensor_{label}", saved(whole), "not dense floats: 'a'")
    for label, value in (("nan", torch.nan), ("inf", torch.inf), ("minus_inf", -torch.inf)):
        whole = {"a": torch.ones(2, 3), "b": torch.tensor([1.0, value, 2.0, 3.0])}
        yield Kind(f"tensor_{label}", saved(whole), "NaN or infinity: 'b'")
    both = {"a": torch.ones(2, 3), "b": torch.tensor([torch.inf, -torch.inf, 0.0, 0.0])}
    yield Kind("tensor_infinities_that_cancel", saved(both), "NaN or infinity: 'b'")
    large = {"a": torch.full((2, 3), 1e300, dtype=torch.float64), "b": torch.ones(4)}
    yield Kind("tensor_overflows_float32", saved(large), "NaN or infinity: 'a'")


def strange_records() -> Iterator[Kind]:
    for label, data in (("4_short", A[:-4]), ("4_long", A + b"\0" * 4), ("empty", b"")):
        yield Kind(f"record_{label}", pickled(STATE, data_0=data), "6 elements of float32 need 24")
    yield Kind("record_unreferenced", pickled(STATE, data_2=B), "1 records belong to no tensor")
    constants: dict[str, Mapping[str, bytes | None]] = {
        "big_endian": {"byteorder": b"big"},
        "version_4": {"version": b"4\n"},
        "version_text": {"version": b"3\n" * 40},
        "format_version_2": {".format_version": b"2"},
        "alignment_text": {".storage_alignment": b"0x40"},
        "serialization_id": {".data/serialization_id": b"x" * 40},
    }
    for label, change in constants.items():
        record = next(iter(change))
        yield Kind(f"record_{label}", pack(members_of(GOOD, **change)), f"the record {record} ")
    for record in ("version", "data.pkl"):
        yield Kind(f"record_no_{record}", pack(members_of(GOOD, **{record: None})), "is missing")
    yield Kind("record_extra", pack(members_of(GOOD, **{"readme.md": b"x"})), "no part of a state")
    script = pack(members_of(GOOD, **{"code/__torch__.py": b"pass"}))
    yield Kind("record_torchscript", script, "TorchScript archive")


def forged_zips() -> Iterator[Kind]:
    good = members_of(GOOD)
    twice = [*good, Member("archive/data.pkl", b"\x80\x02" + STATE + b".")]
    yield Kind("zip_two_pickles", pack(twice), "two records are named data.pkl")
    for label, bad in {
        "traversal": "archive/../data/2", "absolute": "/archive/data/2", "up": "../data/2",
        "backslash": "archive\\data/2", "no_root": "data.pkl", "deep": "archive/x/data/2",
        "leading_zero": "archive/data/00", "control": "arch\x01ive/data/2",
        "folder": "archive/data/",
    }.items():  # fmt: skip
        yield Kind(f"zip_name_{label}", pack([*good, Member(bad, b"1234")]), "no part of a state")
    yield Kind("zip_two_roots", pack([*good, Member("other/data/2", B)]), "2 root folders")
    deflated = zlib.compress(b"\0" * (1 << 26), 9)[2:-4]
    bomb = altered("data/0", data=deflated, method=8, size=1 << 26, packed_size=len(deflated))
    yield Kind("zip_bomb", bomb, "compressed")
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "encrypted": ({"flags": 0x0809}, "encrypted"),
        "unknown_flag": ({"flags": 0x0848}, "flags 0x0848"),
        "wrong_crc": ({"crc": 1}, "CRC"),
        "local_name": ({"local_name": "archive/data/9"}, "local zip header disagrees"),
        "local_flags": ({"local_flags": 0x0800}, "local zip header disagrees"),
        "local_sizes": ({"local_sizes": (1, 2, 3)}, "disagree with the directory"),
        "no_descriptor": ({"has_descriptor": False}, "disagree with the directory"),
        "size_smaller": ({"size": 20}, "disagree with the directory"),
        "size_larger": ({"size": 1 << 20}, "overlap"),
        "two_sizes": ({"packed_size": 20}, "two sizes"),
        "same_place": ({"offset": 0}, "overlap"),
        "beyond_the_end": ({"offset": 1 << 30}, "overlap"),
        "hidden_bytes": ({"before": b"hidden"}, "disagree|overlap"),
        "comment": ({"comment": b"hello"}, "comment"),
        "unknown_extra": ({"extra": b"UT\x01\x00x"}, "extra field"),
        "cut_extra": ({"extra": b"FB\x09\x00x"}, "extra field"),
        "central_extra": ({"central_extra": b"UT\x01\x00x"}, "extra field"),
        "wide_disagrees": (
            {"is_wide": True, "extra": b"", "local_sizes": (0, 0, 9)},
            "disagree with the directory",
        ),
        "wide_elsewhere": (
            {"extra": struct.pack("<HHQ", 1, 8, 1 << 40)},
            "64-bit sizes of a local zip header disagree",
        ),
        "needless_64_bit": ({"central_extra": struct.pack("<HHQ", 1, 8, 24)}, "one too many"),
    }
    for label, (change, reason) in changes.items():
        yield Kind(f"zip_{label}", altered("data/0", **change), reason)
    ends = {
        "count_small": (End(count=-1, count64=-1), "number of records"),
        "count_large": (End(count=1, count64=1), "number of records"),
        "ends_disagree": (End(count64=1), "32-bit and 64-bit ends disagree"),
        "starts_elsewhere": (End(start=1), "not where its end says"),
        "second_disk": (End(disk=1), "not where its end says"),
        "archive_comment": (End(comment=b"hello"), "not at its end"),
        "trailing_bytes": (End(after=b"hello"), "not at its end"),
        "trailing_zip": (End(after=GOOD), "locator points elsewhere"),
    }
    for label, (end, reason) in ends.items():
        yield Kind(f"zip_{label}", pack(good, end), reason)
    yield Kind("zip_leading_bytes", b"PK\x03\x04" + pack(good), "not where|elsewhere")
    yield Kind("zip_no_records", b"PK\x03\x04" + pack([]), "not where|elsewhere|0 records")
    yield Kind(
        "zip_first_is_hidden", pack([replace(good[0], before=pack(good)), *good[1:]]), "begin"
    )
    flips = {"weights": GOOD.index(B) + 3, "pickle": GOOD.index(b"_rebuild_tensor_v2") + 2}
    for label, at in flips.items():
        data = bytearray(GOOD)
        data[at] ^= 0x10
        yield Kind(f"bit_in_the_{label}", bytes(data), "CRC")


def other_files() -> Iterator[Kind]:
    def link_to(target: str) -> Callable[[Path], None]:
        return lambda path: path.symlink_to(target)

    def link_to_good(path: Path) -> None:
        (path.parent / f"{path.name}.target").write_bytes(GOOD)
        path.symlink_to(f"{path.name}.target")

    def unix_socket(path: Path) -> None:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        finally:
            os.chdir(here)

    def sparse(path: Path) -> None:
        """Three terabytes of weights that cost nothing on disk."""
        whole = pack([replace(m, data=b"") for m in members_of(GOOD)])
        with path.open("wb") as stream:
            stream.write(whole)
            stream.truncate(1 << 41)

    yield Kind("file_symlink", link_to_good, "is a symbolic link")
    yield Kind("file_endless_device", link_to("/dev/zero"), "is a symbolic link")
    yield Kind("file_dangling", link_to("nowhere"), "is a symbolic link")
    yield Kind("file_pipe", os.mkfifo, "is a pipe")
    yield Kind("file_folder", Path.mkdir, "is a folder")
    yield Kind("file_socket", unix_socket, "is a socket")
    yield Kind("file_absent", lambda _: None, "no such file")
    yield Kind("file_terabytes", sparse, "not at its end")
    yield Kind("file_empty", b"", "is empty")
    yield Kind("file_text", b"weights\n" * 100, "not a zip file")
    yield Kind("file_raw_pickle", b"\x80\x02" + STATE + b".", "bare pickle")
    legacy = saved(Net().state_dict(), _use_new_zipfile_serialization=False)
    yield Kind("file_legacy", legacy, "bare pickle")
    yield Kind("file_tar", _tar(), "tar format")
    from safetensors.torch import save

    yield Kind("file_safetensors", save(dict(Net().state_dict())), "safetensors")


def _tar() -> bytes:
    import tarfile

    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        entry = tarfile.TarInfo("pickle")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"\x80\x02N."))
    return sink.getvalue()


def cut_files() -> Iterator[Kind]:
    for percent in (1, 10, 25, 50, 75, 90, 99):
        length = len(GOOD) * percent // 100
        yield Kind(f"cut_at_{percent}_percent", GOOD[:length], "cut|not a zip|not where")
    yield Kind("cut_by_a_byte", GOOD[:-1], "cut")


# Good ones.


def good_files() -> Iterator[tuple[str, bytes]]:
    net = Net()
    plain = {key: value.clone() for key, value in net.state_dict().items()}
    yield "plain", saved(plain)
    yield "ordered_with_metadata", saved(net.state_dict())
    yield "parameters", saved(dict(net.named_parameters()))
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        yield str(dtype), saved({key: value.to(dtype) for key, value in plain.items()})
    yield "mixed", saved({"a": plain["a"].double(), "b": plain["b"].half()})
    shared = torch.cat([value.flatten() for value in plain.values()])
    yield "chunks_of_one_storage", saved({"a": shared[:6].view(2, 3), "b": shared[6:]})
    yield "data_parallel", saved({f"module.{key}": value for key, value in plain.items()})
    compiled = {f"module._orig_mod.{key}": value for key, value in plain.items()}
    yield "compiled", saved(compiled)
    optimizer = torch.optim.AdamW(net.parameters())
    net.a.grad, net.b.grad = torch.ones(2, 3), torch.ones(4)
    optimizer.step()
    extras = {
        "optimizer": optimizer.state_dict(),
        "epoch": 7,
        "best": 0.81,
        "note": "naïve ✓",
        "rng": (torch.get_rng_state(), [2**70, -5, None, True], {1: {"x": ()}}),
    }
    for wrapper in ("model", "state_dict", "ema"):
        yield f"beside_training_state_{wrapper}", saved({wrapper: plain, **extras})
    memo = {"epoch": 1, "history": [f"line {i}" for i in range(2_000)], "model": plain}
    yield "many_values", saved(memo)
    newer = ("byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
    yield "no_newer_records", pack(members_of(GOOD, **dict.fromkeys(newer)))
    yield "no_64_bit_end", pack(members_of(GOOD), End(has_zip64=False))
    yield "records_above_4_gb", pack([replace(m, is_wide=True) for m in members_of(GOOD)])
    far = [replace(m, has_wide_offset=True) for m in members_of(GOOD)]
    yield "records_behind_4_gb", pack(far)
    exact = [
        replace(
            m,
            flags=0x0800,
            has_descriptor=False,
            local_sizes=(zlib.crc32(m.data), len(m.data), len(m.data)),
        )
        for m in members_of(GOOD)
    ]
    yield "no_descriptors", pack(exact)
    away = dict_of(
        a=tensor(storage("0", 6, location="cuda:0"), (2, 3), (3, 1)),
        b=tensor(storage("1", 4, location="cuda:1"), (4,), (1,)),
    )
    yield "saved_on_gpus", pickled(away)
    from torch.utils.serialization import config

    before = config.save.storage_alignment
    config.save.storage_alignment = 4096
    try:
        yield "aligned_to_pages", saved(plain)
    finally:
        config.save.storage_alignment = before
