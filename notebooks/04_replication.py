# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does it hold again on tasks of another kind?
#
# A finding may be about the tasks that it was found on. This notebook asks the questions of a first study again of a
# second one, whose tasks share nothing with the first's: FIRST and STUDY name them, by default the decoder's half of
# our miniature of the paper, on sequences of digits, and the same models finetuned on words of letters instead.
#
# What can hold again is what *changes* a score: heights differ between tasks. A question is **replicated** when there
# is an effect in both studies, of one sign; **not replicated** when there is one in the first, and in the second one of
# the other sign or none of 2 points or more (its 90 % interval lies within ± 2, a margin fixed beforehand); and
# **inconclusive** otherwise.

# %%
from collections import Counter

from IPython.display import Image, Markdown, display

from analysis import contrasts, figures, fit_report, notebooks, panels, replication, tables

first, told = notebooks.study("miniature_palm", "FIRST")
second, which = notebooks.study("miniature_fresh")
before, again = panels.analyse(first), panels.analyse(second)
asked = [contrasts.ask(each, analysed)[0] for each, analysed in ((first, before), (second, again))]
Markdown(
    f"{told}<br>{which}<br>**{first.title}** · {tables.progress(first)}<br>**{second.title}** ·"
    f" {tables.progress(second)}"
)

# %% [markdown]
# ## The answer

# %%
pairs = replication.replication(asked[0][-1], asked[1][-1])
found = replication.Again(first.title, before[-1].title, pairs, replication.heights(before[-1], again[-1]))
verdicts = Counter(each.verdict for each in pairs)
Markdown(
    f"Of {len(pairs)} questions about the {before[-1].title.lower()}, "
    + ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
    + ".\n\n"
    + "\n".join(f"- {each}" for each in found.sentences)
)

# %% [markdown]
# Brackets are 95 % intervals in normalised points. The last line is about the heights themselves: how far the second
# study's cells lie from the first's, how many of them fall where another draw of the first would have put them, and
# whether both put them in the same order.
#
# ## The curves, first study above

# %%
for study, analysed in ((first, before), (second, again)):
    figure, _ = figures.scaling_figure(analysed[-1:], sizes=figures.sizes(study))
    display(Markdown(f"**{study.title}**"), Image(figures.png(figure), width=460))

# %% [markdown]
# ## Every way of asking

# %%
theirs = {panel.setting: contrasts_of for panel, contrasts_of in zip(again, asked[1], strict=True)}
for panel, own in zip(before, asked[0], strict=True):
    pairs = replication.replication(own, theirs.get(panel.setting, []))
    lines = [f"- {pair.verdict}: {pair.first.question.text}" for pair in pairs]
    display(Markdown(f"**{panel.title}**\n\n" + "\n".join(lines or ["the second study does not ask so"])))

# %% [markdown]
# ## Caveats
#
# - Two studies are two: that both show an effect says nothing about a third kind of tasks.
# - A question that only one of the studies answers has no verdict and is not counted.
# - Models, recipe and pretraining are the same in both: only the tasks are new.

# %% [markdown]
# ## Provenance

# %%
Markdown(
    "; ".join(f"{len(each.records)} cells of `{each.name}`, flanscale {each.version}" for each in (first, second))
    + f"; analysed with {fit_report.versions()}."
)
