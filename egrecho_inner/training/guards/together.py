"""A step that fits all processes or none: nobody waits for one whose memory ran out.

DistributedDataParallel averages gradients during backward; a process that fails there leaves the others waiting for
ever. With `train.auto_halve` a backward pass is each process's own: before gradients are averaged, all ask each other
whether it fitted. That costs the overlap of computing and sending, so it is done only where it is asked for.
"""

from collections.abc import Callable

import torch
from torch import nn

from egrecho_inner.training import collectives
from egrecho_inner.training.guards.memory import OutOfMemory


class FitsAllOrNone:
    """Runs the batches of a step on one process of several.

    Args:
        device: Where the backend takes figures from.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.fault: OutOfMemory | None = None

    def run(self, batch: Callable[[], torch.Tensor], model: nn.Module, last: bool) -> torch.Tensor:
        """Run one batch forward and backward without averaging; after the last of a step average all gradients.

        Args:
            batch: Runs it and returns its loss; not called after one that did not fit.
            model: Has the gradients.
            last: Whether it is the last of its step.

        Raises:
            OutOfMemory: On all processes, after the last batch, if one of the step did not fit one of them.
        """
        loss = torch.zeros((), device=self.device)
        if self.fault is None:
            try:
                loss = batch()
            except OutOfMemory as error:
                self.fault = error.bare()
                model.zero_grad(set_to_none=True)
        if last:
            fault, self.fault = self.fault, None
            self.agree(fault)
            collectives.average(p.grad for p in model.parameters() if p.grad is not None)
        return loss

    def agree(self, fault: OutOfMemory | None) -> None:
        """Raise on all processes what one of them met.

        Raises:
            OutOfMemory: One of them had a fault; the first one's words, the smallest batch's rows.
        """
        if not collectives.largest([fault is not None], self.device)[0]:
            return
        faults = [each for each in collectives.gather(fault and (str(fault), fault.rows)) if each]
        raise OutOfMemory(faults[0][0], min(rows for _, rows in faults))
