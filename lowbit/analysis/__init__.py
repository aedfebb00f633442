"""From finished run folders to tables, statistics, verdicts, figures and a summary.

In reading order: `design` (what was meant to run), `runs` (what a folder holds), `scales` (what a spec implies),
`measures` (one scalar per run), `rows` and `tables` (runs and curves, written and read), `statistics` (paired
differences over seeds), `comparisons` (every arm against the baseline), `controls` (what must be equal to the last
bit), `claim` and `claims` (what is said, as data), `outcomes`, `verdicts` and `notes` (what follows), `summary` (the
same as text), `exchanges` (bytes, times and links of training in several processes), `style`
and `figures/<study>/<figure>.py` (drawn from tables alone).

Nothing here imports torch, and nothing here knows an arm by name.
"""
