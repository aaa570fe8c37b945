"""Files that try something: each ends in a sentence, in this very process, and none of its code is run."""
import pickle

import numpy as np
import pytest
import torch
from hostile_files import files_of_two_contents, hostile_files

from minimaskformer import build_model, load_checkpoint, save_checkpoint
from minimaskformer.system.pickles import read_arrays
from minimaskformer.system.tensors import read_tensors

FILES = hostile_files()
TWO = files_of_two_contents()


@pytest.mark.parametrize("what", FILES)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_a_hostile_file_ends_in_a_sentence(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    path.write_bytes(FILES[what])
    with pytest.raises(ValueError, match=f"{path}|these weights are not of a kind") as error:
        load_checkpoint(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert str(error.value).replace("\n", "").isprintable() and len(str(error.value)) < 100_000


@pytest.mark.parametrize("what", TWO)
def test_a_file_of_which_not_all_is_what_was_written_is_refused(what, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(TWO[what][0])
    assert torch.count_nonzero(read_tensors(path)[0]["w"]) == 0
    path.write_bytes(TWO[what][1])
    with pytest.raises(ValueError, match=f"{path} cannot be read.*(behind|two parts|larger than the file|checksum)"):
        read_tensors(path)


class Attack:
    def __reduce__(self):
        import os
        return os.system, ("true",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_a_pickle_asks_for_is_named(protocol, tmp_path):
    (tmp_path / "attack.pkl").write_bytes(pickle.dumps({"w": Attack()}, protocol))
    with pytest.raises(ValueError, match="asks for (posix|nt).system, which is not an array: refused, nothing was run"):
        read_arrays(tmp_path / "attack.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_kind_come_through(protocol, tmp_path):
    arrays = {"f": np.arange(6, dtype=np.float32).reshape(2, 3), "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
              "big": np.arange(5, dtype=">i4"), "half": np.float16([1.5, -2]), "bool": np.array([True, False]), "bytes": np.uint8([0, 255]),
              "empty": np.zeros((0, 3)), "scalar": np.float64(3.25), "one": np.array(7)}
    content = {"model": arrays, "author": "ä", "numbers": [1, -2**40, 2.5, None, True, (1, 2, 3, 4)]}
    pickler = pickle._Pickler if protocol == 5 else pickle.Pickler
    with open(tmp_path / "arrays.pkl", "wb") as file:
        pickler(file, min(protocol, 4)).dump(content)
    tensors, header = read_tensors(tmp_path / "arrays.pkl")
    assert header is None and list(tensors) == list(arrays)
    for name, array in arrays.items():
        assert torch.equal(tensors[name], torch.from_numpy(np.array(array, np.asarray(array).dtype.newbyteorder("=")))), name
        assert tensors[name].dtype == torch.from_numpy(np.array(array, np.asarray(array).dtype.newbyteorder("="))).dtype
    plain = read_arrays(tmp_path / "arrays.pkl")
    assert plain["numbers"] == content["numbers"] and plain["author"] == "ä"


def test_an_old_torch_file_is_read(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    torch.save({"model": tensors}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found, _ = read_tensors(tmp_path / "old.pth")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model("mini", dim=32, mask_dim=32, hidden_dim=32, feedforward=32, num_queries=3, decoder_layers=1, encoder_layers=0)
    path = tmp_path_factory.mktemp("small") / "model.safetensors"
    save_checkpoint(model, path)
    return path.read_bytes()


def test_a_flipped_bit_of_our_own_file_is_noticed(small, tmp_path):
    generator, path = torch.Generator().manual_seed(0), tmp_path / "model.safetensors"
    header = 8 + int.from_bytes(small[:8], "little")
    places = torch.randint(header, len(small), (8,), generator=generator).tolist() + torch.randint(0, header, (22,), generator=generator).tolist()
    expected = {name: value.clone() for name, value in written(path, small).state_dict().items()}
    config, noticed = load_checkpoint(path).config, 0
    for place in places:
        damaged = bytearray(small)
        damaged[place] ^= 1 << place % 8
        try:
            model = written(path, bytes(damaged))
        except ValueError as error:
            noticed += str(path) in str(error)
        else:  # a flip in the word "digest", or in what has no meaning: then all is as it was
            assert model.config == config and all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert noticed >= 27


def written(path, content):
    path.write_bytes(content)
    return load_checkpoint(path)


def test_a_file_without_a_digest_is_read(small, tmp_path):
    assert small.count(b'"digest"') == 1
    written(tmp_path / "old.safetensors", small.replace(b'"digest"', b'"nought"'))
