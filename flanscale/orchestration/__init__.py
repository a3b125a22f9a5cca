"""How does a study become finished runs? Study → plan → dispatch → watch; everything below reads from left to right.

study, grid, plan, order       what is asked, as data; `plan.decide` says what to do about each cell
cost, memory, bill, preview    what it takes: hours by runs already measured, bytes by shapes or by the compiler
launch                         the one way to start it: `local` (a queue on this machine) or `submit` (Slurm), both by
                               `launcher`; `resources`, `request`, `chains`, `snapshot`, `closing` prepare and end that
job, ranks, repeat             one attempt of one cell, in its processes; is what was cut off repeated, and when
state, claim, liveness         the truth about a run: its record, who holds it, whether anybody is at work on it
ledger, monitor, display       the index of a study, and what people see of it: `tables`, `live`, `heatmap`, `words`
finding, selection, targets    which runs and cells a verb is about
retry, cancel, prune           what people do about them
provenance, sources, rerun     where a result came from, and how to make it again
sync, doctor                   what W&B lacks, what this machine lacks
"""
