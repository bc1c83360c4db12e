"""What operators do, as orders of effects over ports. They return frozen results and print nothing."""
