"""How does a study become finished runs? Study → plan → dispatch → watch; everything below reads from left to right.

planning     what is asked, as data, and what it takes
dispatch     the one way to start it: a queue on this machine, or Slurm
running      one attempt of one cell, and the truth about a run on disk
watching     the index of a study, and what people see of it
steering     retry, cancel, prune
keeping      provenance, running a cell again, W&B later, what this machine lacks

Nothing here imports JAX.
"""
