"""How does a plan get run? On this machine by a queue, on Slurm by job arrays; both through the one `launch`.

launch, multirun               the command line's way in, and Hydra's
local, process                 the queue on this machine, and how it makes a process of a cell
submit, request                job arrays and who waits for whom; what no node can give
launcher                       the only caller of submitit
reserve, snapshot, closing     a cell is taken once; the copy of the code that jobs run; report and notice at the end
"""
