"""Databases: schema, migrations, and one function per statement or transaction."""
