"""Plots as SVG, drawn on the server: they need no script, and a page can be printed or kept with them in it.

One module a kind of plot. Each plot says in its title and description what it shows; the numbers stand in a table on
the same page. Colours are classes of `static/plots.css`, with a palette for light and one for dark that colour-blind
people can tell apart; beside the colour, lines differ in their dashes. Refuses to compute a metric.
"""
