"""From an annotation to a recipe: what is imbalanced, and what to change about it.

`profile` counts, `rules` decides and says why, `config_text` writes the config,
`report` prints. None of them loads an image or the host.
"""
