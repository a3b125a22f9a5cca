"""How do `conf/` and overrides become one checked cell?"""
