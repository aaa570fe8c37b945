"""Against the `transformers` port: the same weights give the same numbers; where the port differs, ours are the paper's.

A test of a difference skips itself when the installed version of the port has come round to the reference.
"""
import sys
from inspect import signature
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from minimaskformer import (
    SetCriterion,
    build_model,
    hungarian_match,
    instance_inference,
    load_checkpoint,
    panoptic_inference,
    save_hub,
    semantic_scores,
)
from minimaskformer.model import Output
from minimaskformer.predict import read_out, to_input_size

transformers = pytest.importorskip("transformers")
PROCESSOR = transformers.MaskFormerImageProcessor()
N, K = 20, 7
IMAGES = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(3))


def port_differs(does):
    if not does:
        pytest.skip(f"transformers {transformers.__version__} does here what the reference does")


def build(kind):
    """The port's model with random weights, norms, statistics and biases too, of sizes that keep queries apart."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.ResNetConfig(out_features=stages) if kind == "r50" else transformers.SwinConfig(
        embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_features=stages)
    config = transformers.MaskFormerConfig(backbone_config=backbone, num_labels=K,
                                           decoder_config=transformers.DetrConfig(num_queries=N))
    torch.manual_seed(0)
    model = transformers.MaskFormerForInstanceSegmentation(config).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var") or tensor.ndim == 1 and name.endswith("weight") and "criterion" not in name:
                tensor.uniform_(0.7, 1.3)
            elif name.endswith(("bias", "running_mean", "bias_table")):
                tensor.uniform_(-0.2, 0.2)
            elif tensor.is_floating_point() and tensor.ndim >= 2:
                gain = 1.5 if "q_proj" in name or "k_proj" in name else 0.5 if name.endswith("fc2.weight") else 1.0
                scale = 3.5 if "queries_embedder" in name else gain * (3 / tensor[0].numel()) ** 0.5
                tensor.uniform_(-scale, scale)
    return model


@pytest.fixture(scope="module", params=["r50", "swin_t"])
def pair(request, tmp_path_factory):
    theirs = build(request.param)
    folder = tmp_path_factory.mktemp("port")
    theirs.save_pretrained(folder)
    return theirs, load_checkpoint(folder)


@pytest.fixture(scope="module")
def outputs(pair):
    with torch.no_grad():
        return pair[0](IMAGES, output_hidden_states=True), pair[1](IMAGES)


def test_a_folder_of_ours_is_loaded_by_transformers_with_the_same_outputs(pair, outputs, tmp_path):
    compare_saved(pair[1], outputs[1], tmp_path)


def test_a_small_folder_of_ours_is_loaded_by_transformers_too(tmp_path):
    torch.manual_seed(0)
    model = build_model("r18", K, dim=32, mask_dim=64, hidden_dim=32, feedforward=96, decoder_layers=2, num_queries=N,
                        class_names=tuple("abcdefg"), things=(2, 4), score_threshold=0.5, long_side=100_000).eval()
    for module in model.backbone.modules():
        if hasattr(module, "running_var"):
            module.running_mean.uniform_(-0.2, 0.2), module.running_var.uniform_(0.7, 1.3)
    with torch.no_grad():
        compare_saved(model, model(IMAGES), tmp_path)


def compare_saved(model, want, folder):
    """What save_hub writes: nothing missing or left over there, and the model itself again here."""
    save_hub(model, folder / "hub")
    theirs, told = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folder / "hub", output_loading_info=True)
    assert not any(told.values()), told
    with torch.no_grad():
        got = theirs.eval()(IMAGES)
    torch.testing.assert_close(got.class_queries_logits, want.class_logits, rtol=0, atol=2e-5)
    torch.testing.assert_close(got.masks_queries_logits, want.mask_logits, rtol=0, atol=2e-4)
    processor = transformers.MaskFormerImageProcessor.from_pretrained(folder / "hub")
    picture = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    small = processor(picture, do_resize=False, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(small, model.normalize(picture), rtol=1e-5, atol=1e-5)
    theirs.save_pretrained(folder / "back")  # with the names of the installed version
    for place in ("hub", "back"):
        again = load_checkpoint(folder / place)
        assert again.config == model.config or place == "back" and again.config.things == model.config.things
        assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def targets():
    generator = torch.Generator().manual_seed(5)
    coarse = [torch.rand(T, 12, 16, generator=generator) > 0.6 for T in (5, 3)]
    return [{"labels": torch.randint(0, K, (len(m),), generator=generator),
             "masks": m.repeat_interleave(8, 1).repeat_interleave(8, 2)} for m in coarse]


def test_same_weights_same_predictions(outputs):
    theirs, ours = outputs
    assert theirs.class_queries_logits.std(1).mean() > 0.2  # queries differ
    torch.testing.assert_close(ours.class_logits, theirs.class_queries_logits, rtol=0, atol=2e-5)
    torch.testing.assert_close(ours.mask_logits, theirs.masks_queries_logits, rtol=0, atol=2e-4)


def test_same_matches_and_losses(pair, outputs):
    theirs, ours = outputs
    labels, masks = [t["labels"] for t in targets()], [t["masks"].float() for t in targets()]
    criterion = pair[0].criterion
    want = criterion.matcher(theirs.masks_queries_logits, theirs.class_queries_logits, masks, labels)
    for got, pairs in zip(hungarian_match(ours.class_logits, ours.mask_logits, targets()), want):
        assert set(zip(*(x.tolist() for x in got))) == set(zip(*(x.tolist() for x in pairs)))
    terms = criterion(theirs.masks_queries_logits, theirs.class_queries_logits, masks, labels)
    losses = SetCriterion(K)(Output(ours.class_logits, ours.mask_logits), targets())
    for mine, name in (("class", "loss_cross_entropy"), ("focal", "loss_mask"), ("dice", "loss_dice")):
        assert losses[mine].item() == pytest.approx(terms[name].item(), rel=1e-5)


def test_auxiliary_predictions_pass_the_final_norm_and_are_the_layers(pair, outputs):
    """The port has one more (the zero queries before any layer), and the middle ones skip the norm."""
    (model, _), (theirs, ours) = pair, outputs
    states = theirs.transformer_decoder_hidden_states
    norm = model.model.transformer_module.decoder.layernorm
    assert len(ours.aux) == 5
    port_differs(len(states) == 7)
    with torch.no_grad():
        for aux, state in zip(ours.aux, states[1:-1]):
            torch.testing.assert_close(aux.class_logits, model.class_predictor(norm(state)), rtol=0, atol=2e-5)
            assert (aux.class_logits - model.class_predictor(state)).abs().max() > 0.01


def test_targets_of_two_sizes_are_padded_with_empty_mask():
    """The port pads binary masks with `ignore_index`: its masks hold 0, 1 and 255."""
    processor = transformers.MaskFormerImageProcessor(do_resize=False, ignore_index=255)
    images = [torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(3, 64, 96, dtype=torch.uint8)]
    maps = [torch.ones(1, 64, 64, dtype=torch.uint8), torch.ones(1, 64, 96, dtype=torch.uint8)]
    small = {"labels": torch.tensor([1]), "masks": torch.ones(1, 64, 64, dtype=torch.bool)}
    large = {"labels": torch.tensor([1]), "masks": torch.ones(1, 64, 96, dtype=torch.bool)}
    padded = {"labels": torch.tensor([1]), "masks": F.pad(small["masks"], (0, 32))}
    output = Output(torch.randn(2, N, K + 1), torch.randn(2, N, 16, 24))
    losses = SetCriterion(K)(output, [small, large])
    assert losses["focal"] == SetCriterion(K)(output, [padded, large])["focal"]
    try:
        masks = processor(images, segmentation_maps=maps, return_tensors="pt")["mask_labels"]
        port_differs(any(mask.max() > 1 for mask in masks))
    except (TypeError, ValueError, RuntimeError) as error:
        pytest.skip(f"this version's processor does not take tensors of two sizes: {error}")


def prediction(rows, size=(4, 100)):
    """Class logits [Q, K+1] and mask logits [Q, *size] of queries (class, score, [(first, last column, mask prob)])."""
    probs = torch.full((len(rows), K + 1), 1e-4)
    masks = torch.full((len(rows), *size), 0.01)
    for q, (label, score, strips) in enumerate(rows):
        probs[q, label], probs[q, K] = score, 1 - score
        for first, last, value in strips:
            masks[q, :, first:last] = value
    return probs.log(), masks.logit()


def port_panoptic(class_logits, mask_logits, stuff=(), **thresholds):
    output = SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None])
    [result] = PROCESSOR.post_process_panoptic_segmentation(output, label_ids_to_fuse=set(stuff), **thresholds)
    return result["segmentation"], result["segments_info"]


def test_panoptic_results_agree_where_the_rules_do():
    rows = [(0, 0.9, [(0, 30, 0.9)]), (1, 0.95, [(30, 60, 0.9)]), (4, 0.9, [(60, 100, 0.9)])]
    ours, info = panoptic_inference(*prediction(rows), things=[0, 1], score_threshold=0.5)
    theirs, segments = port_panoptic(*prediction(rows), stuff=[4])
    assert torch.equal(ours, theirs)
    assert [(s["id"], s["category_id"]) for s in info] == [(s["id"], s["label_id"]) for s in segments]


def test_panoptic_overlap_counts_the_mask_not_score_times_mask():
    """The first query's mask is 100 columns wide, of which it wins 60: dropped. The port counts 60 of 60."""
    rows = [(0, 0.85, [(0, 60, 0.9), (60, 100, 0.55)]), (1, 0.95, [(60, 100, 0.99)])]
    _, info = panoptic_inference(*prediction(rows), things=[0, 1], score_threshold=0.5)
    assert [segment["category_id"] for segment in info] == [1]
    port_differs(len(port_panoptic(*prediction(rows))[1]) == 2)


def test_panoptic_ids_go_on_after_stuff_seen_again():
    rows = [(label, 0.9, [(25 * i, 25 * i + 25, 0.9)]) for i, label in enumerate((4, 0, 4, 0))]
    ours, info = panoptic_inference(*prediction(rows), things=[0], score_threshold=0.5)
    assert [segment["id"] for segment in info] == [1, 2, 3] and ours[0, ::25].tolist() == [1, 2, 1, 3]
    theirs, segments = port_panoptic(*prediction(rows), stuff=[4])
    port_differs(theirs[0, ::25].tolist() != [1, 2, 1, 3] or len(segments) != 3)


def test_empty_panoptic_result_is_void():
    rows = [(0, 0.1, [(0, 100, 0.9)])]
    ours, info = panoptic_inference(*prediction(rows), things=[0])
    assert info == [] and (ours == 0).all()
    port_differs((port_panoptic(*prediction(rows))[0] == -1).all())


def test_default_thresholds_are_coco_s():
    ours = signature(panoptic_inference).parameters
    assert (ours["score_threshold"].default, ours["overlap_threshold"].default) == (0.8, 0.8)
    port_differs(signature(PROCESSOR.post_process_panoptic_segmentation).parameters["threshold"].default != 0.8)


def test_semantic_scores_are_of_upsampled_masks():
    """Sigmoid after the resize, not before it; scores at the network's size are resized a second time."""
    generator = torch.Generator().manual_seed(2)
    class_logits = 3 * torch.randn(N, K + 1, generator=generator)
    mask_logits = 8 * torch.randn(N, 24, 32, generator=generator)
    config = build_model("mini", num_classes=K).config
    large = F.interpolate(mask_logits[None], (96, 128), mode="bilinear")[0]
    want = torch.einsum("nk,nhw->khw", class_logits.softmax(-1)[:, :K], large.sigmoid())
    assert torch.equal(read_out(config, "semantic", class_logits, to_input_size(mask_logits, (96, 128), 32), (96, 128)),
                       want.argmax(0))
    torch.testing.assert_close(semantic_scores(class_logits, large), want)
    [result] = PROCESSOR.post_process_semantic_segmentation(
        SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None]), [(96, 128)])
    port_differs((result != want.argmax(0)).any())


def test_overlapping_instances_stay_whole():
    class_logits, mask_logits = prediction([(0, 0.9, [(0, 60, 0.9)]), (1, 0.9, [(40, 100, 0.9)])])
    result = instance_inference(class_logits, mask_logits, things=range(K), top_k=2)
    assert sorted(result["masks"].flatten(1).sum(1).tolist()) == [240, 240]
    [theirs] = PROCESSOR.post_process_instance_segmentation(
        SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None]))
    port_differs(sorted((theirs["segmentation"] == i).sum().item() for i in (0, 1)) != [240, 240])


def test_number_of_masks_is_averaged_over_processes_once(monkeypatch):
    """Two processes with 8 and 4 masks: 6. The port divides the mean by the number of processes again: 3."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(4))
    assert SetCriterion.num_masks([{"labels": torch.zeros(8)}], "cpu") == 6
    monkeypatch.undo()
    module = sys.modules[transformers.MaskFormerForInstanceSegmentation.__module__]
    state = type("PartialState", (), {"_shared_state": {"on": True}, "num_processes": 2})
    monkeypatch.setattr(module, "is_accelerate_available", lambda: True)
    monkeypatch.setattr(module, "PartialState", state, raising=False)
    monkeypatch.setattr(module, "reduce", lambda tensor, *_, **__: (tensor + 4) / 2, raising=False)
    port_differs(module.MaskFormerLoss.get_num_masks(None, [torch.zeros(8)], torch.device("cpu")) != 6)


def test_a_cost_that_is_no_number_raises(pair):
    class_logits, mask_logits = torch.randn(1, N, K + 1), torch.randn(1, N, 24, 32)
    mask_logits[0, 3] = float("nan")
    with pytest.raises(ValueError, match="query 3"):
        hungarian_match(class_logits, mask_logits, targets()[:1])
    masks, labels = [targets()[0]["masks"].float()], [targets()[0]["labels"]]
    port_differs(len(pair[0].criterion.matcher(mask_logits, class_logits, masks, labels)[0][0]) == 5)


def test_dropout_and_norms_are_the_reference_s():
    """Dropout 0.1 on attention weights and inside the MLP too; BatchNorm is a constant."""
    with torch.device("meta"):
        model = build_model("r50")
    layer = model.decoder.layers[0]
    assert layer.self_attn.dropout == layer.cross_attn.dropout == layer.mlp[2].p == 0.1
    model.train()
    assert not any("bn" in name or "downsample.1" in name for name, _ in model.backbone.named_parameters())
    config = transformers.DetrConfig()
    port_differs(config.attention_dropout == config.activation_dropout == 0)
