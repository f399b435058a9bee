"""The commands people and programs type. `main` is `masqmail`; `sendmail` stands alone and imports nothing else."""
