"""Hold the payload wrapper: one standard-library file that a site installs root-owned.

The pilot never imports it: the helper starts it as `python3 -I` under the owner's account.
"""
