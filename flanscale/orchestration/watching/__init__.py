"""How is a study doing? Reads its index and its run directories alone, whoever runs the cells and wherever.

ledger, monitor, progress, forecast        the index, what is going on, and how long it will take
display, words, sheet, tables, heatmap, live, status_json     what people and programs see of it
finding, selection, transcript             which run or cells are meant, and what a run has said
"""
