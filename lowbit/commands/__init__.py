"""The steps of the pipeline as commands: arguments, paths, one call, outputs."""
