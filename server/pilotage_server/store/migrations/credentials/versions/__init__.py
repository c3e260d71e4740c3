"""Revisions of the credentials database, in files named NNNN_pre_what.py or NNNN_post_what.py."""
