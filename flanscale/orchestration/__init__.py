"""How does a study become finished runs? Study → plan → dispatch → watch; each imports only those before it.

running      one attempt of one cell, what it ran on, and whether anybody is at work on it
planning     what is asked, as data, and what it takes; the index of a study
watching     what people see of a study
dispatch     the one way to start it: a queue on this machine, or Slurm
keeping      running a cell again, W&B later, what this machine lacks
steering     retry, cancel, prune

Nothing here imports JAX.
"""
