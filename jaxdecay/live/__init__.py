"""The streaming face of a trained model: a small state for each user, which every event moves on, and which
gives at any moment the scores that the model gives to the whole history.

`weights` are the arrays that a trained model comes down to; `interest`, `counts` and `trends` hold what is
left of a user's events, of the events of each item of a user's own, and of everybody's; `encoding` is what
events mean after those before them; `live` puts them together, `lists` has the best of many items, by a
table (`tables`, `topk`) or by a graph (`search`), and `codec` makes bytes of states. All that is NumPy. JAX
is where arrays are taken out of a run (`taken`, `compiled`, which also steps the encoders that NumPy has no
face of), and where many states are moved at once (`many`).
"""
