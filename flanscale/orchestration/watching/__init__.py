"""How is a study doing? Reads its index and its run directories alone, whoever runs the cells and wherever.

monitor, forecast                          what is going on, and how long it will take
selection                                  which cells are asked for
words, tables, heatmap, live, status_json  what people and programs see of it
transcript                                 what a run has said
"""
