"""When a number is not finite: which term of the loss, or which gradient, and which picture (lesson 10)."""
from contextlib import contextmanager

ADVICE = ("The last good checkpoint is kept. Look at that picture and its labels, try a smaller learning rate or a "
          "longer warm-up, or train without amp")


@contextmanager
def naming_pictures(step, names, output):
    """Turn the matching's refusal of a cost that is not finite into a FloatingPointError that names the pictures.

    names: those of the B pictures of `output`. Any other error passes through.
    """
    try:
        yield
    except ValueError as error:
        bad = [name for b, name in enumerate(names) if not all_finite(*tensors_of_image(output, b))]
        if not bad:
            raise
        raise FloatingPointError(f"step {step}: the model's prediction for {', '.join(bad)} is not finite: {error}. "
                                 f"{ADVICE}") from None


def explanation(run, losses, batch, normalizers, names, step):
    """What to say about a step whose loss or gradient is not finite: which terms or parameters, from which pictures.

    Each picture of the batch is tried alone; the model's gradients are overwritten. names: a list per micro-batch.
    """
    model, parameters = run.model, bad_parameters(run.model)
    terms = {name: None for name, value in losses.items() if name != "loss" and not value.isfinite()}
    bad_loss, bad_gradient = [], []
    for (images, _, targets), own_names in zip(batch, names):
        for b, name in enumerate(own_names):
            model.zero_grad()
            with run.precision:
                output = model(model.normalize(images[b:b + 1]))
            alone = run.criterion(output, targets[b:b + 1], normalizers)
            if not alone["loss"].isfinite():
                terms |= {term: None for term, value in alone.items() if term != "loss" and not value.isfinite()}
                bad_loss.append(name)
                continue
            alone["loss"].backward()
            if bad_parameters(model):
                bad_gradient.append(name)
    every = ", ".join(sum(names, []))
    if bad_loss or not losses["loss"].isfinite():
        return (f"step {step}: the loss is not finite (terms: {', '.join(terms) or 'their sum'}; "
                f"pictures: {', '.join(bad_loss) or 'none alone, among ' + every}). {ADVICE}")
    return (f"step {step}: the gradient is not finite (in {len(parameters)} parameters, nearest to the output "
            f"{parameters[-1]}; pictures: {', '.join(bad_gradient) or 'none alone, among ' + every}). {ADVICE}")


def bad_parameters(model):
    """The names of the parameters whose gradient is not finite."""
    return [name for name, p in model.named_parameters() if p.grad is not None and not all_finite(p.grad)]


def all_finite(*tensors):
    """Whether all entries of all tensors are finite."""
    return all(tensor.isfinite().all() for tensor in tensors)


def tensors_of_image(output, b):
    """The predictions for image b, of every decoder layer."""
    return [tensor[b] for layer in (output, *output.aux) for tensor in (layer.class_logits, layer.mask_logits)]
