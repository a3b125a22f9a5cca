# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does a small study show the shape that the paper found?
#
# Chung et al. (2022) finetuned PaLM at three sizes on up to 1,836 tasks. Their Table 3 is redrawn here with the same
# functions as a study of one's own, and a study's curve is put beside it: the one that the environment variable
# `STUDY` names, else `studies/quickstart.json`, else the demo copy.

# %%
from IPython.display import Image, Markdown, display

from analysis import figures, fit_report, notebooks, panels, published, runs, tables

paper = published.task_count_panel()
try:
    study, which = notebooks.study()
    own = panels.analyse(study)[-1:]
except runs.AnalysisError as error:
    study, own, which = None, [], f"Only the paper's curve is shown: {error}."
Markdown(which)

# %% [markdown]
# ## The answer


# %%
def share(panel, curve, *counts):
    none, some, most = (panel.mean(curve, count).value for count in counts)
    return f"{(some - none) / (most - none):.0%}"


early = ", ".join(f"{share(paper, curve, 0, 282, 1836)} ({curve.size})" for curve in paper.curves)
last = f"In the paper, of what finetuning on 1,836 tasks gains over none, {early} is there at 282 tasks."
Markdown(last + "".join(f" In `{study.name}`: {panel.comparison.sentence}" for panel in own))

# %% [markdown]
# ## The curves
#
# The left panel is the study's own, where there is one; the right one is the paper's. Both are in normalised points,
# but of different benchmarks: compare shapes, not heights. The paper's marks have no error bars because every one is a
# single run and no error is printed.

# %%
sizes = figures.sizes(study) if study else {}
figure, _ = figures.scaling_figure([*own, paper], sizes=sizes)
Image(figures.png(figure), width=820 if own else 520)

# %% [markdown]
# ## The paper's numbers
#
# Table 3: percent, MMLU on its validation split, `norm_avg` the normalised average of the six columns after it.

# %%
published.table_3().drop(columns=["family", "suspect"])

# %% [markdown]
# ## Which curve is it?
#
# Fit on the counts below 1,836, predict 1,836. The paper prints no errors, so differences below one point count as
# noise here.

# %%
display(Markdown(paper.comparison.sentence), tables.forms(paper))

# %% [markdown]
# "No change since 282 tasks" predicts the last column best, which agrees with the authors' own reading that most of
# the gain is there at 282 tasks. What all counts together say about the law itself: an exponent that is hardly
# bounded, and ceilings that are only bounded from below.

# %%
tables.parameters(paper).query("form == 'power law'").drop(columns="form")

# %% [markdown]
# ## Caveats
#
# - In the paper's order the tasks come in blocks (CoT, + Muffin, + T0-SF, + NIV2): the number of tasks and which tasks
#   they are change together, and every count is a different mixture.
# - One run a cell. Single benchmarks move up and down: BBH of the 8B model falls from 30.8 to 19.8 at 9 tasks.
# - One printed cell contradicts its own row: the average of 62B at 89 tasks (33.4; its six scores give about 32.4).
#   It is kept as printed.
# - A miniature model on a synthetic collection shares the design with the paper, not the data.

# %% [markdown]
# ## Provenance

# %%
Markdown(
    "Table 3 of arXiv 2210.11416 v5, `analysis/published/flan_table_3.csv`; "
    + (f"study `{study.name}`, {tables.progress(study)}; " if study else "no study; ")
    + f"analysed with {fit_report.versions()}."
)
