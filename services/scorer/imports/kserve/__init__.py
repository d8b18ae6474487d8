"""Inferences of KServe: its logger sends request and response apart; joined by id they are one record of the log."""
