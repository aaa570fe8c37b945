"""A model of the hub by its name: downloaded, from the cache as its tools lay it out, or a sentence; whole or in parts."""
import json
import os
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from minimaskformer import build_model, load_checkpoint, save_hub
from minimaskformer.weights import hub_cache
from minimaskformer.weights.shards import read_all_tensors

NAME, HASH = "someone/maskformer-tiny", "0123abcd" * 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, model) of a small model."""
    torch.manual_seed(0)
    model = build_model("r18", 3, class_names=("cat", "dog", "sky"), things=(0, 1), dim=32, mask_dim=32, hidden_dim=32,
                        feedforward=64, decoder_layers=1, num_queries=5, num_heads=2).eval()
    folder = tmp_path_factory.mktemp("made")
    save_hub(model, folder)
    return folder, model


def cache(root, folder, name=NAME, version=HASH, main=HASH):
    """The cache of the hub's tools: files are links to blobs."""
    place = root / f"models--{name.replace('/', '--')}"
    (place / "snapshots" / version).mkdir(parents=True)
    (place / "blobs").mkdir(exist_ok=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        blob = place / "blobs" / f"{version[:4]}{number}"
        os.link(path, blob)
        (place / "snapshots" / version / path.name).symlink_to(f"../../blobs/{blob.name}")
    if main:
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(main)
    return place


@pytest.fixture(autouse=True)
def at_home(monkeypatch, tmp_path):
    """Nobody's own cache, and no huggingface_hub: a name that is None cannot be imported."""
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def same(model, other):
    return model.config == other.config and all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


def test_without_a_network_the_cache_is_read(made, tmp_path, monkeypatch):
    place = cache(tmp_path / "home" / "hub", made[0])
    assert same(load_checkpoint(NAME), made[1]) and same(load_checkpoint(place), made[1])
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load_checkpoint(NAME)


def test_the_cache_s_place_is_the_one_its_tools_use(monkeypatch):
    for variable, value, place in (("HF_HUB_CACHE", "/a/b", "/a/b"), ("HF_HOME", "/a", "/a/hub"), ("XDG_CACHE_HOME", "/x", "/x/huggingface/hub")):
        for other in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(other, raising=False)
        monkeypatch.setenv(variable, value)
        assert str(hub_cache.hub_cache()) == place


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_with_a_network_it_is_downloaded(made, tmp_path, monkeypatch, weights):
    asked = []

    def snapshot_download(name, cache_dir, allow_patterns):
        """What a repository with these files gives, of those that match."""
        asked.append(name)
        place = cache_dir / "models--x" / "snapshots" / HASH
        place.mkdir(parents=True, exist_ok=True)
        for path in made[0].glob("*.json"):
            shutil.copy(path, place)
        if weights == "model.safetensors" and "*.safetensors" in allow_patterns:
            shutil.copy(made[0] / weights, place)
        if weights == "pytorch_model.bin" and "pytorch_model*.bin" in allow_patterns:
            torch.save(load_file(made[0] / "model.safetensors"), place / weights)
        return str(place)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert same(load_checkpoint(NAME), made[1]) and set(asked) == {NAME}


@pytest.mark.parametrize("error", [ConnectionError("no route\nto host"), ValueError("offline"), Exception("of its own kind")])
def test_where_neither_has_it_the_commands_are_said(made, tmp_path, monkeypatch, error, capsys):
    def snapshot_download(*_, **__):
        raise error

    with pytest.raises(FileNotFoundError, match="huggingface_hub is not installed.*pip install huggingface_hub"):
        load_checkpoint(NAME)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(FileNotFoundError) as caught:
        load_checkpoint(NAME)
    first = str(error).splitlines()[0]
    assert f"downloaded ({first})" in str(caught.value) and f"hf download {NAME} --local-dir maskformer-tiny" in str(caught.value)
    cache(tmp_path / "home" / "hub", made[0])
    assert same(load_checkpoint(NAME), made[1]) and first in capsys.readouterr().err


def test_a_path_that_is_missing_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for path in ("runs/mini", "runs/mini/model.safetensors", "somewhere/model.pth", str(tmp_path / "x"), "nothing", "../a/b"):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            load_checkpoint(path)


def test_versions_in_a_cache(made, tmp_path):
    place = cache(tmp_path, made[0], main=None)
    assert same(load_checkpoint(place), made[1])  # the only one
    cache(tmp_path, made[0], version="f" * 40, main=None)
    with pytest.raises(ValueError, match="2 versions"):
        load_checkpoint(place)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("9" * 40)
    with pytest.raises(FileNotFoundError, match=f"no version 999.*hf download {NAME}"):
        load_checkpoint(place)
    (place / "refs" / "main").write_text(HASH + "\n")
    (place / "snapshots" / HASH / "model.safetensors").resolve().unlink()  # an interrupted download
    with pytest.raises(FileNotFoundError, match="model.safetensors is a link to a file that is not there"):
        load_checkpoint(place)


def sharded(folder, made, ending):
    """The same weights in three files with an index."""
    folder.mkdir()
    for path in made.glob("*.json"):
        shutil.copy(path, folder)
    tensors, name = load_file(made / "model.safetensors"), "model" if ending == "safetensors" else "pytorch_model"
    files = {f"{name}-0000{i + 1}-of-00003.{ending}": {key: tensors[key] for key in list(tensors)[i::3]} for i in range(3)}
    for file, part in files.items():
        save_file(part, folder / file, {"format": "pt"}) if ending == "safetensors" else torch.save(part, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": {key: file for file, part in files.items() for key in part}}
    (folder / f"{name}.{ending}.index.json").write_text(json.dumps(index))
    return folder, list(files), folder / f"{name}.{ending}.index.json"


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_weights_in_several_files(made, tmp_path, ending):
    folder, files, index = sharded(tmp_path / "parts", made[0], ending)
    assert same(load_checkpoint(folder), made[1]) and same(load_checkpoint(index), made[1])
    with pytest.raises(ValueError, match="a part of a model.*give the folder"):
        load_checkpoint(folder / files[1])
    whole = (folder / files[1]).read_bytes()
    (folder / files[1]).write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=f"{files[1]}.*(truncated|cannot be read)"):
        load_checkpoint(folder)
    (folder / files[1]).write_bytes((folder / files[0]).read_bytes())
    with pytest.raises(ValueError, match="in none of its files, such as.*Download"):
        load_checkpoint(folder)
    (folder / files[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"1 are not there: {files[1]}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content, words", [
    ("{", "not valid JSON"), ("[]", "weight_map"), ({"weight_map": {}}, "weight_map"), ({"weight_map": {"a": 3}}, "weight_map"),
    ({"weight_map": {"a": "../model.safetensors"}}, "leads out of"), ({"weight_map": {"a": "/etc/passwd"}}, "leads out of")])
def test_an_index_that_is_none(tmp_path, content, words):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_all_tensors(path)


@pytest.mark.parametrize("preset, changes, words", [
    ("mini", {}, "no backbone mini.*encoder.*read p3.*memory_positions.*pixel_positions"), ("r50_panoptic", {}, "transformer encoder"),
    ("mobilenet_v2", {}, "no backbone mobilenet_v2"), ("r50", {"memory": "res4"}, "read res4"), ("r18_fine", {}, "encoder")])
def test_what_transformers_does_not_have_is_said_before_anything_is_written(tmp_path, preset, changes, words):
    with torch.device("meta"):
        model = build_model(preset, **changes)
    with pytest.raises(ValueError, match=words):
        save_hub(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
