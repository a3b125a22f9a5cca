# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Do larger models gain more from instruction finetuning?
#
# Two questions that are easily mixed up: whether a larger model scores higher, and whether finetuning adds more to it.
# Both are asked here at every task count that all sizes share.

# %%
from IPython.display import Image, Markdown, display

from analysis import answers, contrasts, figures, fit_report, notebooks, panels, report, tables

study, which = notebooks.study("miniature_palm")
analysed = panels.analyse(study)
asked, _ = contrasts.ask(study, analysed)
Markdown(f"{which}<br>**{study.title}** · {tables.progress(study)}")

# %% [markdown]
# ## The answer

# %%
panel, found = analysed[-1], contrasts.overall(asked[-1])
told = [answers.sentence(each) for each in found if each.question.kind in ("size", "size_gain")]
Markdown("\n".join(f"- {each}" for each in told) or "The study has one size: there is nothing to compare.")

# %% [markdown]
# ## The curves

# %%
figure, _ = figures.scaling_figure(analysed, sizes=figures.sizes(study), note=report.shortfall(study))
Image(figures.png(figure), width=900)

# %% [markdown]
# ## Sizes against each other
#
# With three sizes or more whose parameters are known, the difference is a slope: points per tenfold of parameters. With
# two it is the larger less the smaller.

# %%
for panel, found in zip(analysed, asked, strict=True):
    own = [each for each in found if each.question.kind.startswith("size")]
    display(Markdown(f"**{panel.title}**"), tables.contrasts(own) if own else Markdown("one size"))

# %% [markdown]
# ## What finetuning gains, size by size

# %%
for panel, found in zip(analysed, asked, strict=True):
    own = [each for each in found if each.question.kind == "finetuning"]
    display(Markdown(f"**{panel.title}**"), tables.contrasts(own) if own else Markdown("no untouched checkpoint"))

# %% [markdown]
# ## Caveats
#
# - All sizes here train for as many steps as their study says, at rates that may not be best for each: a size that is
#   not trained to its end shows its recipe, not its capacity.
# - Parameters are all of the model's, the vocabulary's included, which is a large part of a very small model.
# - Two sizes give a difference and no law; a slope from three is a line through three points.

# %% [markdown]
# ## Provenance

# %%
Markdown(
    f"{len(study.records)} cells of study `{study.name}`, sizes {figures.sizes(study)}, launched with flanscale"
    f" {study.version}, read from {study.source}; analysed with {fit_report.versions()}."
)
