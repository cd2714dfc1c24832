"""Model files: exact round trips, and nothing but ModelFileError for whatever else is offered."""

import hashlib
import json
import os
import pickle
import struct
import time
from contextlib import suppress

import numpy as np
import pytest

from tsforecast import ModelFileError, load_model, persistence
from tsforecast._files import replacing


class Stub:
    """Stands for an estimator, so that these tests need none."""

    def __init__(self, arrays, meta):
        self.arrays, self.meta = arrays, meta

    @classmethod
    def _from_model_state(cls, arrays, meta):
        if arrays["params"].shape != (meta["n_params"],):
            raise ModelFileError(f"params has shape {arrays['params'].shape}, not ({meta['n_params']},)")
        return cls(arrays, meta)


ARRAYS = {
    "params": np.arange(7, dtype=np.float32) / 3,
    "history": np.linspace(-1e300, 1e300, 12).reshape(2, 3, 2),
    "starts": np.array([[-(2**62)], [5]]),
    "names": np.frombuffer(b"abc", dtype=np.uint8),
    "nothing": np.empty((0, 4), dtype=np.int32),
    "one": np.float64(0.1).reshape(()),
}
META = {
    "n_params": 7,
    "params": {"hidden_layer_sizes": (50, 20), "alpha": 0.1, "random_state": None, "shuffle": True, "name": "größe"},
    "nested": [(1, (2.5, "x")), {"a": np.float32(0.5), "b": np.int64(3)}, float("inf")],
}


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setitem(persistence.CLASSES, "Stub", __name__)


@pytest.fixture
def model(tmp_path, stub):
    path = tmp_path / "model.tsf"
    persistence.save_model(path, "Stub", ARRAYS, META)
    return path


def rewrite(path, change):
    """Apply ``change`` to the parsed header and write it back with a body as it was; the digest is made right."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    header["__metadata__"]["sha256"] = "0" * 64
    header = change(header) or header
    text = json.dumps(header).encode()
    digest = hashlib.sha256(text + body).hexdigest().encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text.replace(b"0" * 64, digest, 1) + body)


def test_round_trip_keeps_every_bit_shape_type_and_tuple(model):
    loaded = load_model(model)
    assert isinstance(loaded, Stub)
    assert loaded.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        found = loaded.arrays[name]
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert found.flags.writeable
    expected = {**META, "nested": [(1, (2.5, "x")), {"a": 0.5, "b": 3}, float("inf")]}
    assert loaded.meta == expected
    assert isinstance(loaded.meta["params"]["hidden_layer_sizes"], tuple)


def test_layout_is_that_of_safetensors(model):
    raw = model.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    assert length % 8 == 0
    header = json.loads(raw[8 : 8 + length])
    assert all(isinstance(value, str) for value in header.pop("__metadata__").values())
    position = 0
    for name, array in ARRAYS.items():
        begin, end = header[name]["data_offsets"]
        assert begin == position
        assert header[name]["shape"] == list(array.shape)
        assert raw[8 + length + begin : 8 + length + end] == array.tobytes()
        position = end
    assert len(raw) == 8 + length + position
    assert {header[name]["dtype"] for name in ARRAYS} == {"F32", "F64", "I64", "U8", "I32"}


def test_big_endian_and_strided_arrays_are_stored_by_value(tmp_path, stub):
    arrays = {"params": np.arange(14, dtype=">f8")[::2]}
    persistence.save_model(tmp_path / "m", "Stub", arrays, {"n_params": 7})
    found = load_model(tmp_path / "m").arrays["params"]
    assert found.dtype == np.float64
    assert found.tolist() == arrays["params"].tolist()


def test_fuzzed_files_are_refused(model):
    """2,000 damaged copies: flipped bits, cut ends, added, moved, doubled and zeroed pieces."""
    raw = model.read_bytes()
    rng = np.random.default_rng(8)
    for case in range(2000):
        damaged = bytearray(raw)
        a, b = sorted(rng.integers(0, len(raw), size=2).tolist())
        kind = case % 8
        if kind == 0:
            damaged[a] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            damaged = damaged[:a]
        elif kind == 2:
            damaged[a:a] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 3:
            del damaged[a : b + 1]
        elif kind == 4:
            damaged[a : b + 1] = rng.bytes(b + 1 - a)
        elif kind == 5:
            damaged[a:a] = raw[a : b + 1]
        elif kind == 6:
            damaged[a : a + 8] = struct.pack("<Q", int(rng.integers(2**63)))
        else:
            damaged[:8] = struct.pack("<Q", int(rng.integers(len(raw))))
        if damaged == raw:
            continue
        model.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load_model(model)


def test_fuzzed_headers_with_a_right_digest_give_no_other_error(model):
    """What a hostile author can do: any header at all, correctly signed. A few say nothing wrong, and load."""
    rng = np.random.default_rng(9)
    raw = model.read_bytes()
    values = [None, True, -1, 0, 7, 2.5, 2**70, "x", [], [1], [[1]], {}, {"dtype": "F32"}, [0, 28], [0, 2**70]]

    def change(header):
        name = list(header)[int(rng.integers(1, len(header)))]
        key = ("dtype", "shape", "data_offsets", None)[int(rng.integers(4))]
        value = values[int(rng.integers(len(values)))]
        if key is None:
            header[name] = value
        else:
            header[name][key] = value

    refused = 0
    for _ in range(500):
        model.write_bytes(raw)
        rewrite(model, change)
        refused += 1
        with suppress(ModelFileError):
            load_model(model)
            refused -= 1
    assert refused >= 480


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["__metadata__"].update(format="pt"), "not a model file of tsforecast"),
        (lambda h: h["__metadata__"].update(schema="2"), "schema '2'.*upgrade tsforecast"),
        (lambda h: h["__metadata__"].update({"class": "os.system"}), "class 'os.system' is unknown"),
        (lambda h: h["__metadata__"].update({"class": ["Stub"]}), "no text about it"),
        (lambda h: h["__metadata__"].update(meta="[1]"), "cannot be read"),
        (lambda h: h["__metadata__"].update(meta="{" * 5000), "cannot be read"),
        (lambda h: h["__metadata__"].update(meta="[" * 500_000), "cannot be read"),
        (lambda h: h["__metadata__"].update(meta=json.dumps({"n_params": 8})), r"shape \(7,\), not \(8,\)"),
        (lambda h: h["__metadata__"].update(meta="{}"), "parts of the Stub do not fit together: 'n_params'"),
        (lambda h: h["__metadata__"].pop("meta"), "cannot be read"),
        (lambda h: [1, 2, h["__metadata__"]["sha256"]], "cannot be read"),
        (lambda h: h["params"].update(shape=[7, 1, 1, 1, 1]), "impossible shape"),
        (lambda h: h["params"].update(shape=[-7]), "impossible shape"),
        (lambda h: h["params"].update(shape=[7.0]), "impossible shape"),
        (lambda h: h["nothing"].update(shape=[0, 2**50]), "impossible shape"),
        (lambda h: h["params"].update(dtype="O"), "not described as it must be"),
        (lambda h: h["params"].update(shape=[6]), "does not lie where its shape says"),
        (lambda h: h["params"].update(dtype="I32"), None),
        (lambda h: h.pop("one"), "cut off or damaged"),
    ],
)
def test_wrong_headers_say_what_is_wrong(model, change, message):
    def apply(header):
        replaced = change(header)
        return replaced if isinstance(replaced, list) else None

    rewrite(model, apply)
    if message is None:  # another type of the same width is a different, but whole, file
        assert load_model(model).arrays["params"].dtype == np.int32
        return
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(model)
    assert str(model) in str(caught.value)


def test_weights_that_are_not_finite_are_refused_both_ways(model, tmp_path):
    raw = bytearray(model.read_bytes())
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    raw[start : start + 4] = struct.pack("<f", float("nan"))
    model.write_bytes(raw)
    rewrite(model, lambda _: None)
    with pytest.raises(ModelFileError, match="'params' holds NaN or infinity"):
        load_model(model)
    with pytest.raises(ModelFileError, match="'params' holds NaN or infinity"):
        persistence.save_model(tmp_path / "n", "Stub", {"params": np.array([np.inf])}, {})


def test_huge_claims_are_refused_at_once(model):
    raw = model.read_bytes()
    began = time.perf_counter()
    model.write_bytes(struct.pack("<Q", 8 << 30) + raw[8:])
    with pytest.raises(ModelFileError, match="no possible length"):
        load_model(model)
    model.write_bytes(raw)
    rewrite(model, lambda h: h["params"].update(shape=[2**31], data_offsets=[0, 2**33]))
    with pytest.raises(ModelFileError, match="does not lie where"):
        load_model(model)
    assert time.perf_counter() - began < 0.5


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_opened(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.tsf").write_bytes(pickle.dumps(Bomb(), protocol) * 100)
    with pytest.raises(ModelFileError):
        load_model("model.tsf")
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\0" * 8, b"\0" * 100, struct.pack("<Q", 2) + b"{}", b"PK\3\4" * 9]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not a model file"):
        load_model(path)


def test_paths_that_are_not_files(tmp_path):
    with pytest.raises(ModelFileError, match="not a regular file"):
        load_model(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ModelFileError, match="not a regular file"):
        load_model(tmp_path / "fifo")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "missing.tsf")


def test_what_cannot_be_stored_is_named(tmp_path, stub):
    def save(arrays, meta, name="Stub"):
        persistence.save_model(tmp_path / "m", name, arrays, meta)

    with pytest.raises(ModelFileError, match=r"meta\['params'\]\['random_state'\] is a RandomState"):
        save({}, {"params": {"random_state": np.random.RandomState(0)}})
    with pytest.raises(ModelFileError, match="array 'ids' of type object"):
        save({"ids": np.array(["a"], dtype=object)}, {})
    with pytest.raises(ModelFileError, match="5 dimensions"):
        save({"deep": np.zeros((1,) * 5)}, {})
    with pytest.raises(ModelFileError, match="class 'Ridge' cannot be stored"):
        save({}, {}, "Ridge")
    with pytest.raises(ModelFileError, match="header would have"):
        save({}, {"ids": ["series"] * 200_000})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strings", [[], [""], ["a", "", "größe", "日本", "a\0b", "\ud800"]])
def test_strings_pack_and_unpack(strings):
    assert persistence.unpack_strings(*persistence.pack_strings(strings)) == strings


@pytest.mark.parametrize("ends", [[3], [1], [-1, 2], [2, 1, 2], []])
def test_strings_that_do_not_fit_their_bounds(ends):
    with pytest.raises(ModelFileError, match="bounds"):
        persistence.unpack_strings(np.frombuffer(b"ab", np.uint8), np.array(ends, np.int64))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "forecast.csv"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(target) as file:
        file.write(b"new" * (1 // 0))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "model.tsf"
    target.write_bytes(b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), replacing(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        with replacing(tmp_path / "pipe") as file:
            file.write(b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(IsADirectoryError), replacing(tmp_path):
        pass


def test_a_link_stays_a_link_and_modes_follow_the_umask(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "link") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
