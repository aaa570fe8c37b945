"""The optimizer's two decisions: which parameters form a group, and how large a step is (lesson 10)."""
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..swin import WindowAttention


def parameter_groups(model, config):
    """AdamW groups of the reference: the backbone at its own learning rate, no weight decay on norms and queries."""
    no_decay = (nn.GroupNorm, nn.LayerNorm, _BatchNorm, nn.Embedding,
                WindowAttention)  # its table of relative positions; its linear layers are modules of their own
    groups = {}
    for module_name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            multiplier = config.backbone_multiplier if "backbone" in module_name.split(".") else 1.0
            decay = 0.0 if isinstance(module, no_decay) else config.weight_decay
            groups.setdefault((multiplier, decay), []).append(parameter)
    return [{"params": parameters, "lr": config.learning_rate * multiplier, "multiplier": multiplier,
             "weight_decay": decay} for (multiplier, decay), parameters in groups.items()]


def set_learning_rate(optimizer, config, step):
    """Linear warm-up times the schedule, times each group's multiplier; `step` counts from 1.

    poly: (1 - (step - 1) / steps) ** 0.9; step: 1, and 0.1 after two thirds of the steps; constant: 1. A function of
    the step alone, so nothing need be saved to resume it.
    """
    done = (step - 1) / config.steps
    factor = {"poly": (1 - done) ** 0.9, "step": 1 if 3 * (step - 1) < 2 * config.steps else 0.1,
              "constant": 1}[config.schedule]
    factor *= min(1, step / max(1, config.warmup))
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor * group["multiplier"]
