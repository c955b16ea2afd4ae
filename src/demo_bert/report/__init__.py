"""What a run tells: events are written once, and everything else here is a reader of them.

`events` is the log; `console` shows it while it grows, `tensorboard` repeats its scalars, `page`
draws `report.html`, `comparison` puts several runs side by side, `summary` says the last lines.
"""
