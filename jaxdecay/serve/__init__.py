"""A trained run, served: events are kept for good, states follow them, and lists are read at any moment.

    events ──▶ store: the log, every event once, durable ──▶ follower: states and trends ──▶ lists

The log is the truth. States are what a model makes of it: they are kept to save time, and can be made anew.
"""
