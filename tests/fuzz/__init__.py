"""Fuzzing: files and JPEGs that are wrong on purpose, made by the thousand (`python -m tests.fuzz --help`)."""
