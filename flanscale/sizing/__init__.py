"""How large is it? Parameters, operations and bytes of a configuration, from shapes alone."""
