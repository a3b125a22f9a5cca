"""flanscale: scaling studies of instruction finetuning, from one command to curves with error bars."""

__version__ = "0.1.0"
