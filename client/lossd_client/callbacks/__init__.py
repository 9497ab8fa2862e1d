"""Callbacks that log a validation report an epoch.

`lossd_client.callbacks.lightning` needs `pip install 'lossd[lightning]'`, `lossd_client.callbacks.keras`
needs `lossd[keras]` and one of Keras's backends.
"""
