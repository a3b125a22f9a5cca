# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does instruction finetuning do to a real pretrained model?
#
# The other notebooks read models that we made from nothing. This one reads SmolLM2-135M-Instruct, published weights,
# finetuned for a quarter of an hour of two CPU cores on 8, 64 and 512 tasks of Super-NaturalInstructions, two draws of
# them, and as it comes. It is asked tasks of the official test split (none of them seen), and two benchmarks of
# another kind: MMLU, multiple choice about facts, and BBH, reasoning.

# %%
from IPython.display import Image, Markdown, display

from analysis import answers, contrasts, figures, fit_report, notebooks, panels, report, tables

study, which = notebooks.study("niv2_smollm2")
analysed = panels.analyse(study)
asked, _ = contrasts.ask(study, analysed)
Markdown(f"{which}<br>**{study.title}** · {tables.progress(study)}")

# %% [markdown]
# ## The answer, benchmark by benchmark
#
# One average would hide what is asked here: whether what is learnt from instructions carries over to tasks of the
# same kind, and whether it carries over to anything else.

# %%
for panel, found in zip(analysed, asked, strict=True):
    display(Markdown(f"**{panel.title}**\n\n" + "\n".join(f"- {each}" for each in answers.answers(panel, found))))

# %% [markdown]
# Points are normalised: 0 is what guessing scores (of MMLU's four options one in four), 100 is everything right;
# below 0 is worse than guessing. Brackets are 95 % intervals over draws of tasks, which hold the luck of the items too.
#
# ## The curves
#
# Left of the break stands the model as it comes, which is one run, and has the error of its items alone.

# %%
figure, _ = figures.scaling_figure(analysed, sizes=figures.sizes(study), note=report.shortfall(study))
Image(figures.png(figure), width=900)

# %% [markdown]
# ## The scores and the differences
#
# Mean ± standard error, and every question with p corrected for the others (Holm's rule).

# %%
for panel, found in zip(analysed, asked, strict=True):
    display(Markdown(f"**{panel.title}**"), tables.scores(panel), tables.contrasts(found))

# %% [markdown]
# ## How to read it
#
# - The steps are the same for every count: the examples of eight tasks are seen more than once, of each of 512 tasks
#   two or three. What rises with the count is variety, not the number of examples.
# - On BBH it is a form that is lost, more than a skill: two thirds of its questions want an option in parentheses. As
#   it comes, the model takes "(B)" over from the worked examples before it in 99 answers of 100; finetuned on prompts
#   without examples, it writes "B" in 78 to 100. By the letter alone it is right in 29 % as it comes and in 28 % after
#   512 tasks. The paper's mixtures hold prompts with examples, `mixture.few_shot_fraction` does that here.
# - The model has been instructed before, in a chat form that is not used here. So the first step is to a form of
#   answering: the exact matches beside ROUGE-L show how much of a gain is that.
# - The benchmarks are asked in part: five items a subtask. The intervals say what that leaves open; an interval that
#   holds 0 is no proof that nothing changed.
# - Two draws of tasks are few. A contrast between counts has their scatter, pooled over the counts, and no more.
#
# ## Provenance

# %%
Markdown(
    f"{len(study.records)} cells of study `{study.name}`, launched with flanscale {study.version}; data fingerprints"
    f" {tables.fingerprints(study) or 'not recorded'}; analysed with {fit_report.versions()}."
)
