"""From finished run folders to tables, statistics, verdicts, figures and a summary.

In reading order: `design` (what was meant to run), `runs` (what a folder holds), `scales` (what a spec implies),
`measures` (one scalar per run), `rows` and `tables` (runs and curves, written and read), `statistics` (paired
differences over seeds), `comparisons` (every arm against the baseline), `controls` (what must be equal to the last
bit), `claim` and `claims` (what is said, as data), `outcomes`, `verdicts` and `notes` (what follows), `summary` (the
same as text), `exchanges` (bytes, times and links of training in several processes), `style`
and `figures/<study>/<figure>.py` (drawn from tables alone). Beside them, for runs made by hand: `collected` (any run
folders as one table) and `page` (figures and table as one HTML file).

Nothing here imports torch, and nothing here knows an arm by name.
"""
