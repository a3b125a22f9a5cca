# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Volume or chain of thought: what helps, and on which prompts?
#
# Rationales in the training data are also more tasks. This notebook keeps the two apart: what training with
# chain-of-thought (CoT) data changes at equal task counts, what more tasks change within each arm, and which of the
# two changes more; for direct prompts and CoT prompts separately, because the paper's claim is about that split.

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
lines = []
for panel, found in zip(analysed, asked, strict=True):
    told = [
        answers.sentence(each) for each in contrasts.overall(found) if each.question.kind in ("cot", "volume_less_cot")
    ]
    lines += [f"- **{panel.title}**: {' '.join(told) or 'the study does not vary it.'}"]
Markdown("\n".join(lines))

# %% [markdown]
# Brackets are 95 % intervals in normalised points; "helps" and "harms" are said only where p, corrected for the other
# questions asked, is below 0.05.
#
# ## The curves
#
# Solid with filled marks: trained with CoT. Dashed with open marks: without. Colour is model size.

# %%
figure, _ = figures.scaling_figure(analysed, sizes=figures.sizes(study), note=report.shortfall(study))
Image(figures.png(figure), width=900)

# %% [markdown]
# ## The effect of CoT data at each end
#
# Arms that share task counts are compared at them. Arms that do not (in the paper 9, 89, 282 and 1,836 tasks with CoT
# against 80, 273 and 1,827 without) are matched on the tasks without rationales, and once more at equal counts with
# the arm without CoT interpolated; the table says which.

# %%
kinds = ("cot", "cot_at", "cot_growth", "cot_interpolated", "volume", "volume_less_cot")
for panel, found in zip(analysed, asked, strict=True):
    own = [each for each in contrasts.overall(found) if each.question.kind in kinds]
    display(Markdown(f"**{panel.title}**"), tables.contrasts(own))

# %% [markdown]
# ## The same for each size

# %%
for panel, found in zip(analysed, asked, strict=True):
    own = [each for each in found if each.question.kind in ("cot", "volume")]
    display(Markdown(f"**{panel.title}**"), tables.contrasts(own))

# %% [markdown]
# ## Caveats
#
# - "Volume" is the step from the fewest tasks of the study to the most; another range would give another number.
# - With a fixed number of steps, CoT examples take the place of others: their effect is that of exchanging them.
# - A direct prompt asks a model trained with CoT to leave out what it has learned to write first.

# %% [markdown]
# ## Provenance

# %%
Markdown(
    f"{len(study.records)} cells of study `{study.name}`, launched with flanscale {study.version}, read from"
    f" {study.source}; analysed with {fit_report.versions()}."
)
