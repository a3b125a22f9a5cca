"""Can a result be had again, and what is missing? Running a cell once more, W&B later, this machine.

rerun, replay, devices         the same again, and what differs today
sync, doctor                   what W&B lacks, what this machine lacks
"""
