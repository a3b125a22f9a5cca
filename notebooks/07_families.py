# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does instruction finetuning help whatever the model learnt before?
#
# The paper finetunes an encoder-decoder that filled gaps (T5), a decoder that continued texts (PaLM), and the same
# decoder after a short stage of both (U-PaLM), and finds that all gain. Here are its families and its whole design in
# miniature: three sizes of each read the same plain texts of a world of digits and letters, in their own way, and are
# finetuned on 9 to 1,836 tasks of digits, with and without rationales, three draws of them. A fourth study asks the
# decoder the same on tasks of letters, which nobody looked at while recipes were chosen.
#
# STUDY, SECOND, THIRD and FOURTH name others in their place.

# %%
import pandas as pd
from IPython.display import Image, Markdown, display

from analysis import answers, contrasts, figures, notebooks, panels, tables

MAIN = ("finetuning", "volume", "cot", "size")
chosen = {"STUDY": "miniature_palm", "SECOND": "miniature_upalm", "THIRD": "miniature_t5", "FOURTH": "miniature_fresh"}
read = [notebooks.study(name, variable) for variable, name in chosen.items()]
studies = [study for study, _ in read]
analysed = [panels.analyse(study) for study in studies]
asked = [contrasts.ask(study, own)[0] for study, own in zip(studies, analysed, strict=True)]
Markdown("<br>".join(f"{which} **{study.title}** · {tables.progress(study)}" for study, which in read))

# %% [markdown]
# ## The answers, family by family

# %%
asked = [[[each for each in contrasts.overall(panel) if each.question.kind in MAIN] for panel in own] for own in asked]
for study, found in zip(studies, asked, strict=True):
    told = "\n".join(f"- {answers.sentence(each)}" for each in found[-1])
    display(Markdown(f"**{study.title}**\n\n{told}"))

# %% [markdown]
# Points are normalised: 0 is what guessing scores, 100 is everything right. Brackets are 95 % intervals over draws of
# tasks. The average is of prompts for a direct answer and for one step by step.
#
# ## The questions side by side
#
# A way of asking at a time, since rationales change what is answered step by step and what is answered at once in
# opposite ways. A finding that holds everywhere has its whole interval on one side of 0 in every column.

# %%
for place, title in enumerate(panel.title for panel in analysed[0]):
    columns = {
        study.name: {each.question.text: tables.signed(each.estimate) for each in found[place]}
        for study, found in zip(studies, asked, strict=True)
        if place < len(found)
    }
    display(Markdown(f"**{title}**"), pd.DataFrame(columns).fillna("–"))

# %% [markdown]
# ## The curves
#
# Of the averages, in the order above.

# %%
for study, own in zip(studies, analysed, strict=True):
    figure, _ = figures.scaling_figure(own[-1:], sizes=figures.sizes(study))
    display(Markdown(f"**{study.title}**"), Image(figures.png(figure), width=600))

# %% [markdown]
# ## What this does and does not say
#
# - Families differ in more than their pretraining: an encoder-decoder of two layers a side needs twice the steps before
#   it answers at all, so that heights may not be compared between columns. What may be is the sign of a change.
# - A column has the noise of its own draws alone. The texts and the 48 tasks that are asked are the same everywhere.
# - Models of 25,000 to a million parameters in a world of digits show what the design can show, and that the software
#   shows it. They are no evidence about models of billions.
