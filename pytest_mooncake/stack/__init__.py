"""Provision or attach: engines, connector and store, from the first process to the last."""
