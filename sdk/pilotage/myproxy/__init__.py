"""MyProxy's protocol, version 2: its messages, which the gateway answers too, and a client.

Sources: the file PROTOCOL of MyProxy, GFD-E.54, and what the real programs of Debian 12 say and accept.
"""
