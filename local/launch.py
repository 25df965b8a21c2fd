#!/usr/bin/env python3
"""Run a program in several processes as torchrun does, but end with the program's own message and exit code.

    local/launch.py --standalone --nproc_per_node 2 egrecho_inner/lora.py -c config/train.yaml ...

`egrecho launch` is the same; this file is for scripts that name a program by its file.
"""

import sys

from egrecho_inner.cli import COMMANDS
from egrecho_inner.runtime.launch import launch

if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:], COMMANDS))
