"""How does one cell run as a job? One attempt in its processes, and the truth about the run on disk.

job, ranks, stop, logs         an attempt, its processes, how it is asked to leave, where its words go
claim, liveness, withheld      who holds a run, whether anybody is at work on it, whether it may still be started
failure, repeat, progress      why it ended, whether it is repeated, how far it got
provenance, sources, slurm     what it ran on, which code, and the questions asked of Slurm
"""
