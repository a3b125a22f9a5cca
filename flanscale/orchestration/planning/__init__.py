"""What is asked, and what does it take? A study file becomes cells, hours and bytes; nothing is started.

study, grid, plan, order       what is asked, as data, and in which order it is started
ledger, finding                the index of a launched study; which study or run is meant by a name
resources                      what a cell's job needs, by its model
cost, memory, preview          hours by runs already measured, bytes by shapes or by the compiler, both over a plan
figures, sheet, display_plan   numbers in words, tables, and what people see of a plan
"""
