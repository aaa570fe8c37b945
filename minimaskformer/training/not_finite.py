"""When a number is not finite: which term of the loss, or which gradient, and which picture (lesson 10)."""
from ..model import Output

ADVICE = ("The last good checkpoint is kept. Look at that picture and its labels, try a smaller learning rate or a "
          "longer warm-up, or train without amp")


def finite_losses(criterion, output, targets, normalizers, names, step):
    """The criterion's losses. Raises FloatingPointError naming term and picture if one is not finite.

    names: the B pictures' names.
    """
    try:
        losses = criterion(output, targets, normalizers)
    except ValueError as error:  # the matching refuses costs that are not finite
        bad = [name for b, name in enumerate(names) if not finite(*flat(one_image(output, b)))]
        if not bad:
            raise
        raise FloatingPointError(f"step {step}: the model's prediction for {', '.join(bad)} is not finite: {error}. "
                                 f"{ADVICE}") from None
    if losses["loss"].isfinite():
        return losses
    terms = [name for name, value in losses.items() if name != "loss" and not value.isfinite()]
    alone = [criterion(one_image(output, b), targets[b:b + 1], normalizers) for b in range(len(names))]
    bad = [name for name, own in zip(names, alone) if not own["loss"].isfinite()]
    raise FloatingPointError(f"step {step}: the loss is not finite (terms: {', '.join(terms) or 'their sum'}; "
                             f"pictures: {', '.join(bad) or 'none alone, among ' + ', '.join(names)}). {ADVICE}")


def blame_gradient(model, criterion, images, targets, normalizers, names, precision):
    """The names of the pictures, of one piece, that alone give a gradient that is not finite.

    images: as the model takes them; precision: the autocast of the run. The model's gradients are lost.
    """
    bad = []
    for b, name in enumerate(names):
        model.zero_grad(set_to_none=True)
        with precision:
            output = model(images[b:b + 1])
        criterion(output, targets[b:b + 1], normalizers)["loss"].backward()
        if not finite(*(p.grad for p in model.parameters() if p.grad is not None)):
            bad.append(name)
    return bad


def gradient_message(step, parameters, bad, names):
    """What to say about a gradient that is not finite."""
    return (f"step {step}: the gradient is not finite (in {len(parameters)} parameters, nearest to the output "
            f"{parameters[-1]}; pictures: {', '.join(bad) or 'none alone, among ' + ', '.join(names)}). {ADVICE}")


def bad_parameters(model):
    """The names of the parameters whose gradient is not finite."""
    return [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]


def finite(*tensors):
    """Whether all entries of all tensors are."""
    return all(tensor.isfinite().all() for tensor in tensors)


def one_image(output, b):
    """The output of image b alone, as a batch of one."""
    return Output(output.class_logits[b:b + 1], output.mask_logits[b:b + 1],
                  tuple(one_image(layer, b) for layer in output.aux))


def flat(output):
    """All tensors of an output."""
    return [tensor for layer in (output, *output.aux) for tensor in (layer.class_logits, layer.mask_logits)]
