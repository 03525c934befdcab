"""pkpo_jax.lm.formats.tensor_files."""

import json

import numpy as np
import pytest
import safetensors.numpy

from pkpo_jax.lm.formats import tensor_files

INDEX = "model.safetensors.index.json"
TENSORS = {
  name: np.arange(size, dtype=np.float32)
  for name, size in {"a": 10, "b": 15, "c": 5, "d": 60, "e": 1}.items()
}
SIZES = {name: x.nbytes for name, x in TENSORS.items()}


def write(folder, limit):
  folder.mkdir(exist_ok=True)
  tensor_files.write_tensors(folder, TENSORS.items(), SIZES, limit)
  return folder


def test_files_are_filled_up_to_the_limit(tmp_path):
  """100 bytes: a and b fill a file, d alone is larger than one."""
  write(tmp_path, 100)
  files = sorted(tmp_path.glob("*.safetensors"))
  held = [list(safetensors.numpy.load_file(file)) for file in files]
  assert [sorted(names) for names in held] == [["a", "b"], ["c"], ["d"], ["e"]]
  assert files[1].name == "model-00002-of-00004.safetensors"
  index = json.loads((tmp_path / INDEX).read_text())
  assert index["metadata"] == {"total_size": 4 * 91}
  assert list(index["weight_map"]) == list(TENSORS)
  for name, file in index["weight_map"].items():
    assert name in held[files.index(tmp_path / file)]


def test_one_file_needs_no_index(tmp_path):
  write(tmp_path, 364)
  assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("limit", [100, 364])
def test_slices_are_read(tmp_path, limit):
  with tensor_files.open_folder(write(tmp_path, limit)) as stored:
    assert stored.keys() == TENSORS.keys()
    assert stored["d"].get_shape() == [60]
    np.testing.assert_array_equal(stored["d"][7:31], TENSORS["d"][7:31])


def test_tensors_are_taken_as_files_fill_up(tmp_path):
  """No more of them is held than fits one file."""
  seen = []

  def tensors():
    for name, x in TENSORS.items():
      seen.append((name, len(list(tmp_path.glob("*.safetensors")))))
      yield name, x

  tensor_files.write_tensors(tmp_path, tensors(), SIZES, 100)
  assert seen == [("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 3)]


SECOND = "model-00002-of-00004.safetensors"


def test_a_missing_file_is_named(tmp_path):
  write(tmp_path, 100)
  (tmp_path / SECOND).unlink()
  for _ in range(2):  # with the index and without
    with pytest.raises(FileNotFoundError, match=rf"has no {SECOND}\.$"):
      read(tmp_path)
    (tmp_path / INDEX).unlink(missing_ok=True)


def test_a_whole_set_of_shards_needs_no_index(tmp_path):
  write(tmp_path, 100)
  (tmp_path / INDEX).unlink()
  assert read(tmp_path).keys() == TENSORS.keys()


@pytest.mark.parametrize(
  ("file", "remedy"),
  [
    ("pytorch_model.bin", "save_pretrained"),
    ("pytorch_model-00001-of-00002.bin", "save_pretrained"),
    ("consolidated.00.pth", "save_pretrained"),
    ("gemma.gguf", "gguf_file="),
    ("flax_model.msgpack", "weights of Flax"),
    ("zero_to_fp32.py", "DeepSpeed.*safe_serialization"),
    ("epoch=1.ckpt", "Pickled weights"),
    ("__0_0.distcp", "distributed checkpoint"),
  ],
)
def test_other_formats_are_named_with_what_to_do(tmp_path, file, remedy):
  (tmp_path / file).touch()
  with pytest.raises(FileNotFoundError, match=f"(?i)no model.safe.*{remedy}"):
    read(tmp_path)


def save(path, **tensors):
  safetensors.numpy.save_file(TENSORS | tensors, path)


@pytest.mark.parametrize(
  ("limit", "other"),
  [(100, "model.safetensors"), (364, SECOND), (364, "ema.safetensors")],
)
def test_two_sets_of_weights_are_refused_unless_equal(tmp_path, limit, other):
  write(tmp_path, limit)
  save(tmp_path / other)
  assert read(tmp_path)["d"].tolist() == TENSORS["d"].tolist()
  changed = TENSORS["d"].copy()
  changed[-1] += 1
  save(tmp_path / other, d=changed)
  with pytest.raises(ValueError, match=rf"two sets of weights: d .*{other}"):
    read(tmp_path)


def test_a_set_that_lacks_tensors_of_the_other_is_refused(tmp_path):
  write(tmp_path, 100)
  safetensors.numpy.save_file(
    {"a": TENSORS["a"]}, tmp_path / "model.safetensors"
  )
  with pytest.raises(ValueError, match="two sets of weights"):
    read(tmp_path)


@pytest.mark.parametrize("step", [0, 1])
def test_a_tensor_in_two_shards_is_refused_unless_equal(tmp_path, step):
  write(tmp_path, 100)
  last = tmp_path / "model-00004-of-00004.safetensors"
  tensors = {"e": TENSORS["e"], "a": TENSORS["a"] + step}
  safetensors.numpy.save_file(tensors, last)
  if step:
    with pytest.raises(ValueError, match=f": a differs in .*1-of.*{last.name}"):
      read(tmp_path)
  else:
    assert read(tmp_path).keys() == TENSORS.keys()


def test_tensors_of_another_type_may_be_equal_and_of_another_shape_not(
  tmp_path,
):
  write(tmp_path, 364)
  save(tmp_path / "copy.safetensors", d=np.float64(TENSORS["d"]))
  assert read(tmp_path)["d"].tolist() == TENSORS["d"].tolist()
  save(tmp_path / "copy.safetensors", d=TENSORS["d"][:9])
  with pytest.raises(ValueError, match="two sets"):
    read(tmp_path)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"version https://git-lfs.github.com/spec/v1", "`git lfs pull`"),
    (b"", "copy it again"),
    (b"x" * 50, "copy it again"),
    (None, "copy it again"),
  ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
  file = write(tmp_path, 364) / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-8] if content is None else content)
  with pytest.raises(ValueError, match=f"model.safetensors can't .*{message}"):
    read(tmp_path)


def test_hidden_files_are_no_weights(tmp_path):
  """What copies from a Mac leave beside each file."""
  write(tmp_path, 100)
  for file in list(tmp_path.glob("*.safetensors")):
    file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7Mac OS X")
  assert read(tmp_path).keys() == TENSORS.keys()


@pytest.mark.parametrize("name", [["a"], 5, "../a.safetensors"])
def test_an_index_that_names_no_file_is_refused(tmp_path, name):
  write(tmp_path, 100)
  (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
  with pytest.raises(ValueError, match="which is none of its folder"):
    read(tmp_path)


def read(folder):
  with tensor_files.open_folder(folder) as stored:
    return {name: stored[name][:] for name in stored}


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("version https://git-lfs.github.com/spec/v1", "`git lfs pull`"),
    ("", "it is empty.; copy it again"),
  ],
)
def test_a_json_file_that_was_not_fetched_is_named(tmp_path, text, message):
  for name in ("config.json", INDEX):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} can't be read .*{message}"):
      tensor_files.read_json(tmp_path / name)
  with pytest.raises(ValueError, match=f"{INDEX} can't be read .*{message}"):
    read(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "\ufeff{}"])
def test_a_damaged_json_file_is_named(tmp_path, text):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ValueError, match=r"config.json (is|holds) no JSON"):
    tensor_files.read_json(tmp_path / "config.json")


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no folder .*there\.$"):
    tensor_files.read_json(tmp_path / "there" / "config.json")
  with pytest.raises(FileNotFoundError, match=r"has no config.json\.$"):
    tensor_files.read_json(tmp_path / "config.json")
  (tmp_path / "file").touch()
  with pytest.raises(FileNotFoundError, match=r"file is a file; give its fold"):
    tensor_files.read_json(tmp_path / "file" / "config.json")


def test_a_folder_is_there_when_it_is_complete(tmp_path):
  folder = tmp_path / "new" / "folder"
  with tensor_files.new_folder(folder) as made:
    (made / "file").write_text("some")
    assert not folder.exists()
  assert (folder / "file").read_text() == "some"
  assert list(folder.parent.iterdir()) == [folder]


def test_an_empty_folder_is_filled(tmp_path):
  (tmp_path / "folder").mkdir()
  with tensor_files.new_folder(tmp_path / "folder") as made:
    (made / "file").write_text("some")
  assert (tmp_path / "folder" / "file").exists()


def test_what_fails_leaves_nothing(tmp_path):
  def fail():
    with tensor_files.new_folder(tmp_path / "folder") as made:
      (made / "file").write_text("some")
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    fail()
  assert not list(tmp_path.iterdir())


def test_what_exists_is_refused(tmp_path):
  (tmp_path / "file").write_text("mine")
  for path in (tmp_path, tmp_path / "file"):
    with (
      pytest.raises(FileExistsError, match="choose another"),
      tensor_files.new_folder(path),
    ):
      pass
  assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
  "name", ["../other.safetensors", "/etc/passwd", 3, "", ".."]
)
def test_an_index_names_files_of_its_folder_alone(tmp_path, name):
  write(tmp_path / "other", 364)
  folder = write(tmp_path / "model", 100)
  (tmp_path / "other/model.safetensors").rename(tmp_path / "other.safetensors")
  index = json.loads((folder / INDEX).read_text())
  index["weight_map"]["a"] = name
  (folder / INDEX).write_text(json.dumps(index))
  with (
    pytest.raises(ValueError, match=rf"{INDEX} names the file {name!r}, which"),
    tensor_files.open_folder(folder),
  ):
    pass


def test_a_deep_index_is_no_json(tmp_path):
  (tmp_path / INDEX).write_text("[" * 10**6)
  with (
    pytest.raises(ValueError, match=rf"{INDEX} is no JSON"),
    tensor_files.open_folder(tmp_path),
  ):
    pass
