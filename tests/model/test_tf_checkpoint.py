"""TensorFlow checkpoints: all that is written comes back, and nothing damaged is accepted."""

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo_bert.errors import ModelError
from demo_bert.model.tf_checkpoint import TfCheckpoint, find_prefix
from model import tf_writer

Tensors = dict[str, npt.NDArray[np.generic]]
SHARED = next(
    (
        parent.parent / "shared" / "data" / "checkpoints" / "bleurt-tiny"
        for parent in Path(__file__).resolve().parents
        if (parent.parent / "shared").is_dir()
    ),
    None,
)
DTYPES = ("<f4", "<f8", "<f2", "<i4", "<i8", "|u1", "|b1", "<u2")

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda name: not name.startswith("\0")
) | st.builds("bert/encoder/layer_{}/attention/self/query/kernel".format, st.integers(0, 30))
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@st.composite
def checkpoints(draw: st.DrawFn) -> Tensors:
    tensors: Tensors = {}
    for name in draw(st.lists(names, unique=True, max_size=30)):
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(shapes)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        data = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, size, np.uint8)
        values = data % 2 if dtype == "|b1" else data
        tensors[name] = values.view(dtype).reshape(shape)
    return tensors


@dataclasses.dataclass(frozen=True)
class Written:
    prefix: Path
    tensors: Tensors

    @property
    def index(self) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.index")

    @property
    def shard(self) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.data-00000-of-00001")


@pytest.fixture
def written(tmp_path: Path) -> Written:
    rng = np.random.default_rng(0)
    tensors: Tensors = {
        f"bert/encoder/layer_{layer}/output/dense/{part}": rng.standard_normal(shape).astype("<f4")
        for layer in range(5)
        for part, shape in (("kernel", (4, 3)), ("bias", (3,)))
    }
    tf_writer.write_checkpoint(tmp_path / "bert_model.ckpt", tensors, block_bytes=150)
    return Written(tmp_path / "bert_model.ckpt", tensors)


def read_all(prefix: Path) -> Tensors:
    checkpoint = TfCheckpoint(prefix)
    return {name: checkpoint.tensor(name) for name in checkpoint.shapes}


def expected(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """What reading gives: 16 bits stand for the upper half of a float32."""
    if values.dtype.str == "<u2":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def assert_refused(prefix: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_all(prefix)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    checkpoints(),
    st.integers(1, 4),
    st.sampled_from([1, 50, 400, 4096]),
    st.sampled_from([1, 2, 16]),
    st.booleans(),
)
def test_what_was_written_comes_back(
    tensors: Tensors, num_shards: int, block_bytes: int, restart_interval: int, with_snappy: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "model.ckpt-7"
        tf_writer.write_checkpoint(
            prefix,
            tensors,
            num_shards=num_shards,
            block_bytes=block_bytes,
            restart_interval=restart_interval,
            with_snappy=with_snappy,
        )
        checkpoint = TfCheckpoint(prefix)
        assert checkpoint.shapes == {name: tensors[name].shape for name in sorted(tensors)}
        assert len(checkpoint.files) == 1 + num_shards
        for name, values in tensors.items():
            found = checkpoint.tensor(name)
            assert found.dtype == expected(values).dtype
            assert found.shape == values.shape
            assert found.tobytes() == expected(values).tobytes()


def test_a_large_tensor_comes_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((1500, 1001)).astype("<f4")
    tf_writer.write_checkpoint(tmp_path / "a", {"x": values})
    assert np.array_equal(TfCheckpoint(tmp_path / "a").tensor("x"), values)


def test_a_file_cut_anywhere_is_refused(written: Written) -> None:
    for path in (written.index, written.shard):
        data = path.read_bytes()
        for size in range(len(data)):
            path.write_bytes(data[:size])
            assert_refused(written.prefix)
        path.write_bytes(data)
    assert read_all(written.prefix).keys() == written.tensors.keys()


def test_any_changed_byte_of_the_index_is_refused(written: Written) -> None:
    data = written.index.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(len(data)):
        for change in {1, 128, int(rng.integers(1, 256))}:
            damaged = bytearray(data)
            damaged[place] ^= change
            written.index.write_bytes(damaged)
            assert_refused(written.prefix)


def test_any_changed_byte_of_the_data_is_refused(written: Written) -> None:
    data = written.shard.read_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        written.shard.write_bytes(damaged)
        assert_refused(written.prefix)


def test_a_compressed_index_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    tf_writer.write_checkpoint(
        tmp_path / "a", {f"layer_{i}/bias": np.zeros(3) for i in range(40)}, with_snappy=True
    )
    index = tmp_path / "a.index"
    data = index.read_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        index.write_bytes(damaged)
        assert_refused(tmp_path / "a")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_entries_of_noise_are_refused_or_read_but_never_crash(noise: bytes) -> None:
    """Here all checksums are right: a writer with a fault, not a damaged file."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "a"
        tf_writer.write_checkpoint(prefix, {}, extra={b"x": noise})
        try:
            read_all(prefix)
        except ModelError as error:
            assert "\n" not in str(error)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=120))
def test_an_index_of_noise_with_the_right_end_is_refused(noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "a"
        prefix.with_name("a.index").write_bytes(noise + tf_writer.MAGIC)
        assert_refused(prefix)


def test_a_tensor_that_lies_is_refused(tmp_path: Path) -> None:
    good = tf_writer.entry(1, (2, 3), shard=0, offset_bytes=0, data=bytes(24))
    cases = {
        "instead of 28": tf_writer.entry(1, (7,), shard=0, offset_bytes=0, data=bytes(24)),
        "truncated": tf_writer.entry(1, (6,), shard=0, offset_bytes=4, data=bytes(24)),
        "lies in part 5": tf_writer.entry(1, (6,), shard=5, offset_bytes=0, data=bytes(24)),
        "type string": tf_writer.entry(7, (6,), shard=0, offset_bytes=0, data=bytes(24)),
        "number 99": tf_writer.entry(99, (6,), shard=0, offset_bytes=0, data=bytes(24)),
        "stored in slices": good + b"\x3a\x00",
    }
    for message, entry in cases.items():
        tf_writer.write_checkpoint(
            tmp_path / "a", {"other": np.zeros(6, "<f4")}, extra={b"x": entry}
        )
        with pytest.raises(ModelError, match=message):
            read_all(tmp_path / "a")
    with pytest.raises(ModelError, match="no tensor 'y'"):
        tf_writer.write_checkpoint(tmp_path / "a", {"x": np.zeros(6, "<f4")})
        TfCheckpoint(tmp_path / "a").tensor("y")


def test_the_keys_of_slices_are_no_tensors(tmp_path: Path) -> None:
    entry = tf_writer.entry(1, (), shard=0, offset_bytes=0, data=b"")
    tf_writer.write_checkpoint(
        tmp_path / "a", {"x": np.zeros(1, "<f4")}, extra={b"\0\x01\xffx": entry}
    )
    assert list(TfCheckpoint(tmp_path / "a").shapes) == ["x"]


def test_big_endian_headerless_and_unordered_checkpoints_are_refused(tmp_path: Path) -> None:
    index = tmp_path / "a.index"
    tf_writer.write_checkpoint(tmp_path / "a", {}, big_endian=True)
    with pytest.raises(ModelError, match="big-endian"):
        TfCheckpoint(tmp_path / "a")
    index.write_bytes(tf_writer.build_table([]))
    with pytest.raises(ModelError, match="no header"):
        TfCheckpoint(tmp_path / "a")
    index.write_bytes(tf_writer.build_table([(b"b", b""), (b"a", b"")]))
    with pytest.raises(ModelError, match="not in order"):
        TfCheckpoint(tmp_path / "a")


def test_a_missing_part_is_named(written: Written) -> None:
    written.shard.unlink()
    with pytest.raises(ModelError, match=r"data-00000-of-00001: no such file"):
        TfCheckpoint(written.prefix)


def test_a_directory_a_prefix_and_each_file_mean_the_checkpoint(written: Written) -> None:
    paths = (written.prefix.parent, written.prefix, written.index, written.shard)
    for path in (*paths, written.prefix.with_name("bert_model.ckpt.meta")):
        assert find_prefix(path) == written.prefix


def test_the_usual_names_win_and_several_others_are_listed(tmp_path: Path) -> None:
    for step in (1000, 2000):
        tf_writer.write_checkpoint(tmp_path / f"model.ckpt-{step}", {})
    with pytest.raises(ModelError, match=r"model\.ckpt-1000, model\.ckpt-2000"):
        find_prefix(tmp_path)
    assert find_prefix(tmp_path / "model.ckpt-1000.index") == tmp_path / "model.ckpt-1000"
    for name in ("variables", "bert_model.ckpt"):
        tf_writer.write_checkpoint(tmp_path / name, {})
        assert find_prefix(tmp_path) == tmp_path / name


def test_nothing_there_is_said_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "bert_model.ckpt", Path("/"), tmp_path / "no" / "such"):
        with pytest.raises(ModelError, match="no TensorFlow checkpoint"):
            find_prefix(path)


def test_an_old_v1_checkpoint_is_recognised_and_refused(tmp_path: Path) -> None:
    old = tmp_path / "model.ckpt"
    old.write_bytes(tf_writer.build_table([(b"", b"meta"), (b"a", b"1")]))
    for path in (tmp_path, old):
        with pytest.raises(ModelError, match="old V1 format"):
            find_prefix(path)


@pytest.mark.skipif(SHARED is None or not SHARED.is_dir(), reason="the real checkpoint is not here")
def test_a_real_checkpoint_equals_its_published_conversion() -> None:
    from safetensors.numpy import load_file

    assert SHARED is not None
    checkpoint = TfCheckpoint(find_prefix(SHARED / "tf"))
    config = json.loads((SHARED / "tf" / "bert_config.json").read_text())
    words = "bert/embeddings/word_embeddings"
    assert checkpoint.shapes[words] == (config["vocab_size"], config["hidden_size"])
    converted = load_file(SHARED / "model.safetensors")
    assert len(converted) == 39
    for name, values in converted.items():
        google = name.replace(".layer.", ".layer_").replace(".", "/")
        google = google.removesuffix("/weight") if "_embeddings" in google else google
        if "LayerNorm" in google:
            google = google.replace("/weight", "/gamma").replace("/bias", "/beta")
        is_kernel = google.endswith("/weight")
        found = checkpoint.tensor("bert/" + google.replace("/weight", "/kernel"))
        assert np.array_equal(found.T if is_kernel else found, values), name
    assert checkpoint.tensor("global_step").shape == ()
