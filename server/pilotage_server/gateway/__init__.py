"""The MyProxy gateway: MyProxy's own clients, on a port of its own, against this service's store."""
