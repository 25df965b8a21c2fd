"""The Lion optimizer (Chen et al. 2023, arXiv:2302.06675), with Transformers' own parameter groups."""

from lion_pytorch import Lion
from torch import nn
from transformers import TrainingArguments


def make_lion(model: nn.Module, decay: set[str], args: TrainingArguments) -> Lion:
    """Make Lion for the trained parameters of a model.

    Args:
        model: With `requires_grad` where it is trained.
        decay: Names of the parameters that decay.
        args: Learning rate, betas, weight decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if name in decay], "weight_decay": args.weight_decay},
        {"params": [p for name, p in named if name not in decay], "weight_decay": 0.0},
    ]
    # decoupled_weight_decay False (the default): the decay is scaled by the learning rate, as AdamW's
    return Lion(groups, lr=args.learning_rate, betas=(args.adam_beta1, args.adam_beta2))
