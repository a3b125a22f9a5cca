# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Can the numbers of this study be believed?
#
# Before any curve: which cells are there, were they all asked the same, and how far do runs of other seeds scatter? The
# study is the one that `STUDY` names, read from `SOURCE` (`directories`, `wandb`, `api:ENTITY/PROJECT` or `csv:FILE`).

# %%
from IPython.display import Markdown, display

from analysis import fit_report, gate, notebooks, panels, runs, signal, tables

study, which = notebooks.study()
analysed = panels.analyse(study)
found = gate.findings(study, analysed)
Markdown(f"{which}<br>**{study.title}** · {tables.progress(study)}")

# %% [markdown]
# ## The answer

# %%
Markdown(
    f"Before you believe a number: {gate.in_a_line(found)}."
    if found
    else "Nothing is wrong with these logs: all runs were asked the same, and every number could be read."
)

# %% [markdown]
# ## The grid
#
# One row a cell, in the order of the study's axes: the run that serves it, and how far that run is. A cell that is
# missing stays in the table; leaving it out would make the study look complete.

# %%
tables.cells(study)

# %% [markdown]
# ## What the logs hold
#
# The tidy table that everything else is made from: a row per cell, benchmark and way of asking. `score` is in percent,
# `normalized` runs from chance (0) to all right (100), `n` is the number of items.

# %%
runs.table(study).head(8)

# %% [markdown]
# ## What to know before comparing
#
# Each of these once changed a conclusion somewhere without a word: averages over different benchmarks, other prompts,
# other data, copies of one run taken for two seeds, a seed that collapsed.

# %%
Markdown("\n".join(f"- **{each.kind}**: {each.text}" for each in found) or "Nothing of the kind.")

# %% [markdown]
# ## The noise
#
# How far a score moves with nothing but the seed changed. It is pooled along each curve in log-odds, because two or
# three runs say little about one cell, and because near the floor and the ceiling nothing can move.

# %%
for panel in analysed:
    ratio = signal.signal_to_noise(panel.means)
    told = f"; signal to noise {ratio:.1f}" if ratio else "; no seed was repeated"
    display(Markdown(f"**{panel.title}**{told}"), tables.seeds(panel))

# %% [markdown]
# Signal to noise is the range of the trained cells' means over the deviation between seeds. A benchmark with a low one
# cannot tell arms apart, however many figures are drawn of it.
#
# ## Provenance

# %%
Markdown(
    f"{len(study.records)} cells of study `{study.name}`, launched with flanscale {study.version}, read from"
    f" {study.source}; data fingerprints {tables.fingerprints(study) or 'not recorded'}; analysed with"
    f" {fit_report.versions()}."
)
