# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How many seeds does the next study need?
#
# A study that cannot see the effect it looks for is paid for in vain. From a finished study this notebook takes the
# noise between seeds, and says which differences a study of the same design tells from none, and what more runs would
# buy. `flanscale plan STUDY --power --pilot PILOT` says the same of another design.

# %%
import pandas as pd
from IPython.display import Markdown, display

from analysis import fit_report, notebooks, panels, power, signal, summary, tables

study, which = notebooks.study()
analysed = panels.analyse(study)
panel = analysed[-1]
noise = summary.pooled_noise(panel.runs)
items = panel.means[0].n
Markdown(f"{which}<br>**{study.title}** · {tables.progress(study)}")

# %% [markdown]
# ## The answer

# %%
seen = power.seen(study, noise, items)
volume = next((each for each in seen if each.question.kind in ("volume", "finetuning")), seen[0])
bought = ", ".join(f"{least:.1f} with {runs} runs" for runs, least in volume.by_runs.items() if least is not None)
Markdown(
    f"{volume.question.text}: the smallest difference that four studies of five tell from none is {bought} a cell, in"
    " points where half is right. With one run a cell no difference is told, however large."
    if noise.known
    else "No cell of this study has two runs: it shows no noise, and a study planned after it would be a guess."
)

# %% [markdown]
# ## The noise that this rests on
#
# The deviation between seeds is pooled over all cells of the last panel, in log-odds. Its degrees of freedom say how
# well it is known itself: below about ten, foresee a third more than what is said here.

# %%
tables.seeds(panel)

# %% [markdown]
# ## Every question of the design
#
# The columns are numbers of runs a cell. "–" is a question that the design cannot answer with that many.

# %%
rows = [
    {"question": each.question.text, "size": each.question.size}
    | {f"{runs} runs": tables.number(least, 1) for runs, least in each.by_runs.items() if runs > 1}
    for each in seen
]
pd.DataFrame(rows)

# %% [markdown]
# ## The law behind the curve
#
# An exponent needs more than a difference does. Here is by which factor its 95 % interval is wide, as a median over
# simulated studies of this design with a true exponent of .35.

# %%
factor = power.exponent_factor(study, noise, items) if noise.known else None
Markdown(f"A factor of {factor:.1f}." if factor else "It is not bounded on both sides: more counts, or more runs.")

# %% [markdown]
# ## Which benchmark to look at

# %%
for each in analysed:
    ratio = signal.signal_to_noise(each.means)
    display(Markdown(f"**{each.title}**: signal to noise {ratio:.1f}" if ratio else f"**{each.title}**: unknown"))

# %% [markdown]
# ## Caveats
#
# - The noise of a larger model, or of a pretrained one, may be smaller or larger: a pilot of two seeds at one count is
#   cheaper than a study that cannot answer.
# - What is said holds for the middle of the scale. Near chance and near the ceiling, noise and effects shrink together.
#
# ## Provenance

# %%
Markdown(f"Study `{study.name}`, read from {study.source}; analysed with {fit_report.versions()}.")
