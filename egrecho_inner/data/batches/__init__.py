"""From cuts to the tensors of a batch: plan or stream, inputs, targets."""
