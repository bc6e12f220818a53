"""The pickle reader returns admitted data unchanged, refuses everything else, and never executes any of it."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ctt.core.errors import DataError
from ctt.safeload import pickle_machine, pickle_reader
from ctt.safeload.rebuild import Array


def loaded(path):
    """The file's tree with its arrays read."""
    with open(path, "rb") as file:
        return read_all(pickle_reader.read(path), file)


def read_all(value, file):
    if isinstance(value, Array):
        return value.read(file)
    if isinstance(value, dict):
        return {key: read_all(entry, file) for key, entry in value.items()}
    return [read_all(entry, file) for entry in value] if isinstance(value, list) else value


NUMBERS = arrays.arrays(
    st.sampled_from([np.dtype(code) for code in ("<f4", ">f4", "<f8", "<i8", "|u1", "|b1", "<i2")]),
    arrays.array_shapes(min_dims=1, max_dims=4, max_side=17),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NUMBERS, st.integers(0, 5), st.booleans())
def test_arrays_survive_a_round_trip(tmp_path, array, protocol, fortran):
    array = np.asfortranarray(array) if fortran else array
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"train": {"a": array, "b": [array, 1.5, "x", None, True, -(2**70)]}}, protocol))
    out = loaded(path)["train"]
    assert out["b"][1:] == [1.5, "x", None, True, -(2**70)]
    for got in (out["a"], out["b"][0]):
        assert got.dtype == array.dtype and got.shape == array.shape and got.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8])
@pytest.mark.parametrize("save", ["pickle", "torch", "torch legacy"])
def test_tensors_are_read_without_torch(tmp_path, dtype, save):
    whole = (torch.arange(4 * 1500).reshape(4, 1500) % 251).to(dtype)
    tree = {"a": whole, "b": whole[2], "c": whole[1:3]}
    path = tmp_path / "t.pkl"
    if save == "pickle":
        path.write_bytes(pickle.dumps(tree))
    else:
        torch.save(tree, path, _use_new_zipfile_serialization=save == "torch")
    if save == "torch legacy":
        with pytest.raises(DataError, match="follow its end"):
            pickle_reader.read(path)
        return
    out = loaded(path)
    for name, tensor in tree.items():
        assert (out[name] == tensor.numpy()).all() and out[name].shape == tuple(tensor.shape)


def test_large_arrays_stay_in_the_file(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({f"v{i}": np.full(1_000_000, i, np.float32) for i in range(8)}))
    tracemalloc.start()
    try:
        tree = pickle_reader.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    with open(path, "rb") as file:
        assert tree["v7"].read(file).tolist() == [7.0] * 1_000_000


# ---- unsafe files ----


class Calls:
    """Is pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Plain:
    pass


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def with_tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def bare(state: bytes, kind: bytes = b"", then: bytes = b"b.") -> bytes:
    """A pickle of an array of one float with the given state."""
    made = named("numpy.core.multiarray", "_reconstruct")
    blank = with_tuple(kind or named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
    return b"\x80\x04" + made + blank + b"R" + state + then


FLOAT = named("numpy", "dtype") + with_tuple(text("f4"), b"\x89", b"\x88") + b"R"
FLOAT += with_tuple(b"K\x03", text("<"), b"NNN", b"J\xff\xff\xff\xff" * 2, b"K\x00") + b"b"


def state(shape: bytes = b"K\x01\x85", kind: bytes = FLOAT, data: bytes = b"C\x04abcd", order: bytes = b"\x89") -> bytes:
    return with_tuple(b"K\x01", shape, kind, order, data)


def storage_bytes(evil: bytes) -> bytes:
    data = evil.ljust(5000, b"\0")
    call = named("torch.storage", "_load_from_bytes") + b"B" + struct.pack("<I", len(data)) + data
    return b"\x80\x02" + call + b"\x85R."


def storages(depth: int) -> bytes:
    """A torch storage whose bytes contain another one, nested `depth` times."""
    data = b"N." * 2048
    for _ in range(depth):
        data = b"\x80\x02" + loads(data) + b"R."
    return data


def storage_twice() -> bytes:
    """A pickle that loads the same bytes as a storage twice, so that they would be read twice."""
    out = io.BytesIO()
    torch.save(torch.arange(2000.0)._typed_storage(), out, _use_new_zipfile_serialization=False)
    return b"\x80\x04" + loads(out.getvalue()) + b"\x94R0h\x00h\x01R."


def loads(data: bytes) -> bytes:
    """torch's loading function, memoized, and its argument."""
    return named("torch.storage", "_load_from_bytes") + b"q\x00B" + struct.pack("<I", len(data)) + data + b"\x85"


def pairs(depth: int) -> bytes:
    """Nested pairs (x, x) of one object: few bytes, but exponentially long text."""
    return b"K\x01" + b"2\x86" * depth


def torch_zip(description: bytes, method: int = zipfile.ZIP_STORED, name: str = "a/data.pkl") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr(name, description)
    return out.getvalue()


def dtype_of(code: str) -> bytes:
    return pickle.dumps(np.array([{"a": 1}, None], object) if code == "O" else np.zeros(2, code))


def protocols(value):
    return {f"protocol {p}": pickle.dumps(value, p) for p in range(6)}


SYSTEM = Calls(os.system, "touch executed")
SYSTEM_BYTES = pickle.dumps(SYSTEM)
UNSAFE: dict[str, tuple[bytes, str]] = {
    **{f"os.system, {p}": (data, r"requests (posix|nt)\.system") for p, data in protocols(SYSTEM).items()},
    "os.system deep in a dict": (pickle.dumps({"train": {"a": [1, (SYSTEM,)]}}), "requests posix.system"),
    "eval": (pickle.dumps(Calls(eval, "open('executed', 'w')")), "requests builtins.eval"),
    "getattr": (pickle.dumps(Calls(getattr, "", "join")), "builtins.getattr"),
    "import": (pickle.dumps(Calls(__import__, "os")), "requests builtins.__import__"),
    "a name with dots": (named("numpy", "core.multiarray._reconstruct") + b")R.", "requests numpy.core.multiarray"),
    "a name through a module": (named("numpy.core.multiarray", "os.system") + text("x") + b"\x85R.", "os.system"),
    "a name in two halves": (
        named("numpy._core", "multiarray._reconstruct") + b"0N.",
        "requests numpy._core.multiarray",
    ),
    "a name that is a number": (b"\x80\x04" + text("os") + b"K\x01\x93.", "must be text"),
    "a name that is an array": (bare(state(), then=b"b" + text("x") + b"\x93."), "must be text"),
    "a class as function": (named("numpy", "ndarray") + b"K\x02\x85\x85R.", "numpy.ndarray must not be called"),
    "numpy.load": (pickle.dumps(Calls(np.load, "x.npy", None, True)), "requests numpy.load"),
    "numpy.fromfile": (pickle.dumps(Calls(np.fromfile, "/etc/passwd")), "fromfile"),
    "numpy's runstring": (named("numpy.testing._private.utils", "runstring") + b")R.", "runstring"),
    "numpy's memmap": (named("numpy", "memmap") + b")R.", "requests numpy.memmap"),
    "an array of a subclass": (bare(state(), kind=named("numpy", "dtype")), "only numpy.ndarray"),
    "copyreg": (pickle.dumps(Plain(), 0), "copy_reg|copyreg"),
    "an object of a class": (pickle.dumps(Plain(), 2), "Plain"),
    "INST": (b"(S'touch executed'\nios\nsystem\n.", "object of a class"),
    "OBJ": (b"(" + named("numpy", "ndarray") + b"o.", "object of a class"),
    "NEWOBJ": (named("numpy", "ndarray") + b")\x81.", "object of a class"),
    "NEWOBJ_EX": (named("numpy", "ndarray") + b")}\x92.", "object of a class"),
    "a nested pickle by _pickle.loads": (pickle.dumps(Calls(pickle.loads, SYSTEM_BYTES)), "requests _pickle.loads"),
    "a nested pickle as a torch storage": (storage_bytes(SYSTEM_BYTES), "posix.system"),
    "a torch storage of zeros": (storage_bytes(b""), "no opcode"),
    "a torch storage that is short": (
        named("torch.storage", "_load_from_bytes") + b"C\x01.\x85R.",
        "a torch storage of under",
    ),
    "a torch storage of text": (named("torch.storage", "_load_from_bytes") + text("x") + b"\x85R.", "made of bytes"),
    "a torch file that calls": (torch_zip(SYSTEM_BYTES), "posix.system"),
    "a torch file that is compressed": (torch_zip(SYSTEM_BYTES, zipfile.ZIP_DEFLATED), "is compressed"),
    "a torch file without description": (torch_zip(b"", name="a/other"), "without a data.pkl"),
    "a torch storage in a torch storage, 400 deep": (storages(400), "within another one"),
    "a torch storage loaded twice": (storage_twice(), "or loaded twice"),
    "nested pairs for a dtype": (named("numpy", "dtype") + pairs(60) + b"\x85R.", "the dtype tuple is refused"),
    "nested pairs for a shape": (bare(state(shape=pairs(60))), r"shape \(tuple, tuple\) must be non-negative"),
    "nested pairs for a class": (bare(state(), kind=pairs(60)), "of the class tuple"),
    "nested pairs for an order": (
        named("numpy.core.numeric", "_frombuffer") + with_tuple(b"C\x04abcd", FLOAT, b"K\x01\x85", pairs(60)) + b"R.",
        "got tuple",
    ),
    "nested pairs for a storage": (
        torch_zip(b"\x80\x02" + with_tuple(text("storage"), pairs(60), text("0"), text("cpu"), b"K\x01") + b"Q."),
        "class tuple is refused",
    ),
    "a shape of long numbers": (
        bare(state(shape=(b"\x8b" + struct.pack("<i", 500) + b"\x7f" * 500) * 2 + b"\x86")),
        "…",
    ),
    "a long name on two lines": (named("a\nb" * 900, "c" * 3000) + b".", r"a\\nba.*… *; only"),
    "a long dtype": (named("numpy", "dtype") + text("f" * 4000) + b"\x85R.", "f…' is refused"),
    "a part of a torch file that lies outside of it": (
        torch_zip(b"N.").replace(struct.pack("<II", 2, 2), struct.pack("<II", 1 << 30, 1 << 30)),
        "cut off",
    ),
    "a persistent id": (b"\x80\x02" + with_tuple(text("storage")) + b"Q.", "persistent id"),
    "a persistent id in text": (b"Pstorage\n.", "persistent id"),
    "a persistent id that is no storage": (torch_zip(b"\x80\x02" + text("../../etc") + b"Q."), "not a torch storage"),
    "a storage of an unknown class": (
        torch_zip(b"\x80\x02" + with_tuple(text("storage"), text("x"), text("0"), text("cpu"), b"K\x01") + b"Q."),
        "storage of the class 'x' is refused",
    ),
    "a state for a dict": (b"\x80\x02}}b.", "a state is given to a dict"),
    "a state for a name": (named("numpy", "ndarray") + b"}b.", "a state is given to a Name"),
    "a state that is a dict": (bare(b"}" + text("__setstate__") + text("x") + b"s"), "an unknown description"),
    "a state given twice": (bare(state() + b"b" + state()), "set twice"),
    "an array never set": (bare(b"", then=b"."), "never set"),
    "a missing memo entry": (b"\x80\x02h\x05.", "does not exist"),
    "a circular memo": (b"\x80\x02]q\x00(h\x00h\x00eb.", "does not exist|state"),
    "an empty stack": (b"\x80\x020.", "does not exist"),
    "a missing mark": (b"\x80\x02t.", "does not exist"),
    "values left over": (b"\x80\x02NN.", "left over"),
    "a huge byte string": (
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
        "1152921504606846976 bytes are announced",
    ),
    "a huge text": (b"\x80\x04\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"x.", "are announced"),
    "a huge frame": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.", "are announced"),
    "a huge number": (b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"\x00.", "a number of"),
    "a number of negative size": (b"\x80\x02\x8b" + struct.pack("<i", -4) + b"\x00.", "a number of"),
    "a text of negative size": (b"T" + struct.pack("<i", -4) + b"abcd.", "announced"),
    "a number of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "too long"),
    "a huge array of few bytes": (bare(state(shape=b"J\x00\x00\x00\x7fJ\x00\x00\x00\x7f\x86")), "has .* bytes, but"),
    "an array of negative size": (bare(state(shape=b"J\xff\xff\xff\xff\x85")), "non-negative"),
    "an array of many dimensions": (bare(state(shape=b"(" + b"K\x01" * 64 + b"t")), "at most 8"),
    "an array whose shape is text": (bare(state(shape=text("f4"))), "must be a tuple"),
    "an array without bytes": (bare(state(data=b"N")), "must be bytes"),
    "an array with more bytes": (bare(state(data=b"C\x05abcde")), "but the file holds 5"),
    "objects": (dtype_of("O"), "dtype 'O8' is refused"),
    "objects from a buffer": (
        named("numpy.core.numeric", "_frombuffer")
        + with_tuple(b"C\x08abcdefgh", FLOAT.replace(b"f4", b"O8"), b"K\x01\x85", text("C"))
        + b"R.",
        "dtype 'O8' is refused",
    ),
    "a dtype with fields": (dtype_of("f4,i8"), "dtype 'V12' is refused"),
    "dates": (dtype_of("M8[s]"), "dtype 'M8' is refused"),
    "strings": (dtype_of("U3"), "dtype 'U3' is refused"),
    "a float dtype with fields": (
        named("numpy", "dtype") + text("f4") + b"\x85R" + with_tuple(b"K\x03", text("<"), b"N)}", b"K\x00" * 3) + b"b.",
        "with fields",
    ),
    "another codec": (named("_codecs", "encode") + text("x") + text("rot13") + b"\x86R.", "latin1 only"),
    "the extension registry, 1 byte": (b"\x80\x02\x82\x01.", "extension registry"),
    "the extension registry, 4 bytes": (b"\x80\x02\x84\x01\0\0\0.", "extension registry"),
    "numbers out of band": (b"\x80\x05\x97.", "outside of the file"),
    "a set": (pickle.dumps({1, 2}, 4), "a set"),
    "a key that is a tuple": (pickle.dumps({(1, 2): 3}), "must be text or a whole number"),
    "a key that is a float": (pickle.dumps({1.5: 3}), "must be text or a whole number"),
    "a key twice": (b"\x80\x02}(" + text("a") + b"N" + text("a") + b"Nu.", "'a' occurs twice"),
    "XX": (b"\x80\x02](" + text("a") + b"Nu.", "an object that is no dict"),
    "appending to what is no list": (b"\x80\x02}Na.", "an object that is no list"),
    "a second pickle": (pickle.dumps({}) + SYSTEM_BYTES, "follow its end"),
    "a later protocol": (b"\x80\x06N.", "protocol 6"),
    "an unknown opcode": (b"\x80\x04\xff.", "no opcode"),
    "an empty file": (b"", "cut off"),
    "a text file": (b"hello\n", "pickle"),
    "a zip file cut off": (torch_zip(SYSTEM_BYTES)[:30], "zip file that is cut off"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_an_unsafe_file_is_refused_and_nothing_is_executed(case, tmp_path, monkeypatch):
    data, message = UNSAFE[case]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as refused:
        pickle_reader.read(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 250
    assert os.listdir(tmp_path) == ["evil.pkl"], "something was executed"


def test_pickle_would_execute_the_unsafe_files():
    """Python's own reader executes them, so the test above is meaningful."""
    assert sum(b"touch executed" in data for data, _ in UNSAFE.values()) >= 10
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(named("no_such_module", "x") + b".")
    assert pickle.loads(UNSAFE["getattr"][0]) == "".join


TENSOR = pickle.dumps({"t": torch.arange(6000.0)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: pickle.dumps({"t": torch.arange(6000.0).reshape(60, 100).T}), "not contiguous"),
        (lambda: TENSOR.replace(struct.pack("<q", 6000), struct.pack("<q", 7000)), "another size than announced"),
        (lambda: TENSOR.replace(b"FloatStorage", b"FleetStorage"), "requests torch.FleetStorage"),
        (lambda: TENSOR.replace(b"M\x70\x17\x85", b"M\x71\x17\x85"), "past the end"),
        (lambda: TENSOR[:-200], "cut off"),
    ],
)
def test_a_malformed_tensor_is_refused(change, message, tmp_path):
    path = tmp_path / "t.pkl"
    path.write_bytes(TENSOR)
    assert loaded(path)["t"].tolist() == list(range(6000))
    path.write_bytes(change())
    with pytest.raises(DataError, match=message):
        pickle_reader.read(path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_truncated_file_is_refused(protocol, tmp_path):
    whole = pickle.dumps({"train": {"0_pixels.mp4": np.arange(3000, dtype=np.float32), "b": [1, "x", 2.5]}}, protocol)
    path = tmp_path / "a.pkl"
    for size in {*range(0, 300, 7), *range(300, len(whole), 997), *range(len(whole) - 60, len(whole))}:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            pickle_reader.read(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_corrupted_file_is_read_or_refused(tmp_path, data):
    whole = data.draw(st.sampled_from([*(pickle.dumps({"a": np.arange(9.0)}, p) for p in range(6)), SYSTEM_BYTES]))
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.integers(0, 255))
    noise = data.draw(st.binary(max_size=20))
    at = data.draw(st.integers(0, len(broken)))
    path = tmp_path / "noise.pkl"
    path.write_bytes(broken[:at] + noise + broken[at:])
    try:
        tree = pickle_reader.read(path)
        with open(path, "rb") as file:
            read_all(tree, file) if not _is_circular(tree) else None
    except DataError:
        pass


def _is_circular(value, above=()):
    if not isinstance(value, (dict, list)):
        return False
    if any(value is outer for outer in above):
        return True
    entries = value.values() if isinstance(value, dict) else value
    return any(_is_circular(entry, (*above, value)) for entry in entries)


def test_deeply_nested_tuples_are_read(tmp_path):
    path = tmp_path / "nested.pkl"
    path.write_bytes(b"\x80\x02N" + b"\x85" * 500_000 + b".")
    assert isinstance(pickle_reader.read(path), tuple)


def test_too_many_opcodes_and_too_much_text_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "many.pkl"
    path.write_bytes(b"\x80\x02" + b"N0" * 2000 + b"N.")
    assert pickle_reader.read(path) is None
    monkeypatch.setattr(pickle_reader, "MOST_STEPS", 1000)
    with pytest.raises(DataError, match="more than 1,000 opcodes"):
        pickle_reader.read(path)
    path.write_bytes(b"\x80\x02" + (text("x" * 1000) + b"0") * 20 + b"N.")
    monkeypatch.setattr(pickle_machine, "MOST_KEPT", 10_000)
    with pytest.raises(DataError, match="of texts"):
        pickle_reader.read(path)
    for line in (b"S'" + b"x" * 5000 + b"'\n0", b"V" + b"x" * 3000 + b"\n0", b"I" + b"9" * 500 + b"\n0"):
        path.write_bytes(line * 30 + b"N.")
        with pytest.raises(DataError, match="of texts"):
            pickle_reader.read(path)


def test_a_long_text_for_a_short_array_is_refused_unread(tmp_path):
    """A character may take several bytes, but not thousands."""
    data = named("_codecs", "encode") + b"V" + b"x" * 5000 + b"\n" + text("latin1") + b"\x86R"
    path = tmp_path / "a.pkl"
    path.write_bytes(bare(state(data=data)))
    with pytest.raises(DataError, match="has 4 bytes, but the file holds 5000"):
        pickle_reader.read(path)


def test_a_truncated_part_of_a_torch_file_is_refused(tmp_path):
    """Its tensor would otherwise include the bytes that follow in the file."""
    tree = {"a": torch.arange(3000.0), "b": torch.arange(9000.0)}
    torch.save(tree, tmp_path / "t.pkl")
    with zipfile.ZipFile(tmp_path / "t.pkl") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "cut.pkl", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data[:-400] if name.endswith("data/0") else data)
    assert loaded(tmp_path / "t.pkl")["a"].tolist() == tree["a"].tolist()
    with pytest.raises(DataError, match="another size than announced"):
        pickle_reader.read(tmp_path / "cut.pkl")


def test_an_empty_array_with_huge_axes_is_refused(tmp_path):
    huge = b"\x8a\x06" + struct.pack("<q", 1 << 46)[:6]
    path = tmp_path / "a.pkl"
    path.write_bytes(bare(state(shape=b"K\x00" + huge * 2 + b"\x87", data=b"C\x00")))
    with pytest.raises(DataError, match="cannot be made"):
        loaded(path)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(DataError, match=r"gone\.pkl is missing"):
        pickle_reader.read(tmp_path / "gone.pkl")
    with pytest.raises(DataError, match="is a folder, not a file"):
        pickle_reader.read(tmp_path)
