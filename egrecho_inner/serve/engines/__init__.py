"""Where jobs run: this machine, a Slurm cluster, Modal. Each engine runs the same worker on the same job folder."""
