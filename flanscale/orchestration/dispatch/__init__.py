"""How does a plan get run? On this machine by a queue, on Slurm by job arrays; both through the one `launch`.

launch, multirun               the command line's way in, and Hydra's
local, detach                  the queue on this machine
submit, request, chains        job arrays, what no node can give, who waits for whom
launcher, slurm                the only callers of submitit and of Slurm's commands
reserve, snapshot, closing     a cell is taken once; the copy of the code that jobs run; report and notice at the end
"""
