"""The type checker behind jaxtyping's import hook, in tests only: shapes and types of annotated functions."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers read it
