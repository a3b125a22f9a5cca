# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does a model learn unseen tasks better when it was finetuned on more tasks?
#
# And do rationales in the training data change that? This notebook reads one finished study: models of several
# sizes, each finetuned on a growing number of tasks, with and without rationales ("chain of thought", CoT), several
# seeds each, all asked the same questions about tasks that none of them saw.

# %%
from IPython.display import Image, Markdown, display

from analysis import answers, contrasts, figures, fit_report, notebooks, panels, report, tables

study, which = notebooks.study()
analysed = panels.analyse(study)
asked, _ = contrasts.ask(study, analysed)
Markdown(f"{which}<br>**{study.title}** · {tables.progress(study)}")

# %% [markdown]
# ## The answer

# %%
Markdown("\n".join(f"- {each}" for each in answers.of_study(analysed, asked)))

# %% [markdown]
# Points are *normalised*: 0 is what guessing scores, 100 is everything right. Brackets are 95 % intervals. The rest
# of the notebook shows where these sentences come from, and how far they carry.
#
# ## The curves
#
# One panel per way of asking. Marks are means over seeds with their 95 % interval, small dots are single runs. The
# horizontal axis is logarithmic; models that were not finetuned at all stand left of the break.

# %%
figure, _ = figures.scaling_figure(analysed, sizes=figures.sizes(study), note=report.shortfall(study))
Image(figures.png(figure), width=900)

# %% [markdown]
# ## The scores behind it
#
# Mean ± standard error between seeds, pooled along each curve, because two or three seeds say little about one cell.
# Seeds also differ in which items they happen to get right, so that their scatter holds the luck of the items
# already. A star marks a mean with fewer runs than planned.

# %%
for panel in analysed:
    display(Markdown(f"**{panel.title}**, by number of finetuning tasks"), tables.scores(panel))

# %% [markdown]
# ## What more tasks and what rationales change
#
# A study asks many such questions, and of many, some look like an effect by luck. The last column is therefore p
# corrected for the others (Holm's rule): an effect is what stays below 0.05.

# %%
for panel, found in zip(analysed, asked, strict=True):
    display(Markdown(f"**{panel.title}**"), tables.contrasts(found))

# %% [markdown]
# ## Which curve is it?
#
# Five forms:
#
# - **power law** $y = c - a\,n^{-b}$: diminishing returns up to a ceiling $c$, one exponent $b$ for all curves;
# - **log-linear** $y = \alpha + \beta \log_{10} n$: every tenfold of tasks adds the same;
# - **log-linear in the odds** $y = 100\,\mathrm{logistic}(\alpha + \beta \log_{10} n)$: the same, bent near 0 and 100;
# - **plateau**: log-linear up to $k$ tasks, then flat, one $k$ for all curves;
# - **constant**: the number of tasks changes nothing.
#
# AICc (smaller is better) compares the fits to all counts, and a form is preferred only if it leads by a margin. A
# second test is prediction: fit on the smaller counts, predict the largest, where a form must not be beaten by more
# than the noise of what is predicted. There the constant stands for "no change since the last count".

# %%
for panel in analysed:
    display(Markdown(f"**{panel.title}.** {panel.comparison.sentence}"), tables.forms(panel))

# %% [markdown]
# ## What the data do not tell
#
# A parameter whose interval has an open end, or that sits on a bound, is no finding. Here are all of the power law,
# with what is wrong about each; a dash in place of a value means that there is none to be had.

# %%
for panel in analysed:
    law = tables.parameters(panel).query("form == 'power law'").drop(columns="form")
    display(Markdown(f"**{panel.title}**" + "".join(f"<br>{warning}." for warning in panel.warnings)), law)

# %% [markdown]
# ## Caveats
#
# - More tasks come with a fixed number of steps: each task is seen less often as the count grows. And in the paper's
#   order, *how many* tasks and *which* tasks change together.
# - The intervals are for the held-out tasks of this study. Other tasks would shift all curves together.
# - Nothing here says what happens beyond the largest count: two points in that gap are worth more than any fit.
# - Points that never got a score:

# %%
tables.incomplete(study) if study.incomplete() else Markdown("none, the grid is complete.")

# %% [markdown]
# ## Provenance

# %%
Markdown(
    f"{len(study.records)} cells of study `{study.name}`, launched with flanscale {study.version}; data fingerprints"
    f" {tables.fingerprints(study) or 'not recorded'}; analysed with {fit_report.versions()}."
)
