"""The losses as metrics of torchmetrics, computed by a server: `pip install 'lossd[torchmetrics]'`.

metrics = MetricCollection([RemoteBCE(client), RemoteFocal(client, gamma=2.0)])
for images, targets in loader:
    metrics.update(model(images), targets)
print(metrics.compute())

This is the one package of the client that imports torch.
"""

from lossd_client._extras import needs

with needs("lossd_client.torchmetrics", "torchmetrics"):
    from lossd_client.torchmetrics import _further_losses
from lossd_client.torchmetrics._further_losses import *  # noqa: F403 - a metric for each loss
from lossd_client.torchmetrics._losses import RemoteBCE, RemoteFocal
from lossd_client.torchmetrics._means import Normalizer
from lossd_client.torchmetrics._report import RemoteReport

__all__ = ["Normalizer", "RemoteBCE", "RemoteFocal", "RemoteReport"]
__all__ += _further_losses.__all__
