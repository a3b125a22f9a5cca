"""What do people do about cells? Pick some, try them again, stop them, delete what nobody needs.

targets                        which cells a verb is about, as they are now
retry, cancel, prune           the verbs
"""
