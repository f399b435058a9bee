"""Takes over the configuration and the queue of another program: MasqMail 0.2, 0.3 and 1.0, and four small senders.

Start with `tree.read_configuration`: it gives an `Outcome`, which is the text of our configuration file, a report of
everything that means something else now, and the secrets, which belong into files of their own. `grammar`, `values`,
`globs` and `commands` read what stands in old files; `mainfile`, `routefile` and `getfile` say what becomes of each
setting. Only `files` and `queuefolder` touch the disk, and they only read: the old files stay as they are.
"""
