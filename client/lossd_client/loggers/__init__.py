"""Reports, comparisons and results in mlflow, TensorBoard and Weights & Biases.

from lossd_client.loggers import log

log(client.report("focal", logits, targets), to=mlflow, step=epoch)

Each tracker has an extra: `pip install 'lossd[mlflow]'`, `lossd[tensorboard]`, `lossd[wandb]`. None is
imported before it is used.
"""

from lossd_client.loggers._log import log

__all__ = ["log"]
