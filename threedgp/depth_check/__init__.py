"""How good an estimator is, for people: pictures to look at, and scores against true depth. No result depends on it."""
