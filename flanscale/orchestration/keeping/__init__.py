"""Where did a result come from, and what is missing? Provenance, running a cell again, W&B later, this machine.

provenance, sources            what an attempt ran on, and the code it ran
rerun, replay, devices         the same again, and what differs today
sync, doctor                   what W&B lacks, what this machine lacks
"""
