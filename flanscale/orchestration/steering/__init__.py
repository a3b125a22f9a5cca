"""What do people do about cells? Pick some, try them again, stop them, delete what nobody needs.

targets, filters               which cells a verb is about
retry; cancel, scancel, withheld; prune, pruning, leftovers    the verbs
"""
