"""How does one cell run as a job? One attempt in its processes, and the truth about the run on disk.

job, ranks, stop, logs         an attempt, its processes, how it is asked to leave, where its words go
state, claim, liveness         the record, who holds it, whether anybody is at work on it
failure, repeat                why it ended, and whether it is repeated by itself
"""
