"""What is asked, and what does it take? A study file becomes cells, hours and bytes; nothing is started.

study, grid, plan, order       what is asked, as data; `plan.decide` says what to do about each cell, `order` when
resources                      what a cell's job needs, by its model
cost, memory, bill, preview    hours by runs already measured, bytes by shapes or by the compiler; how both are shown
"""
