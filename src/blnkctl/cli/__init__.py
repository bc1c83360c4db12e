"""The command line: argv to a request, a result to text or JSON. The only place that knows Typer and rich."""
