"""POP3, the client's side, as a machine without IO: RFC 1939 with CAPA, STLS and AUTH.

Start with `client`. It logs in and out; what reads mail (UIDL, LIST, TOP, RETR, DELE) is in `transaction`.
"""
