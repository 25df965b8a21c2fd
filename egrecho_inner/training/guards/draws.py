"""The random states that dropout draws from, to be put back where a step is taken again."""

import torch


def random_state() -> list[torch.Tensor]:
    """Return the states that dropout draws from: the machine's, and the GPU's if there is one."""
    return [torch.random.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def set_random_state(states: list[torch.Tensor]) -> None:
    """Go back to states that `random_state` returned."""
    torch.random.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
