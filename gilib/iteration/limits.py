"""How well a gradient determines the images behind it: a client's self-check before it sends an update.

Everything here is computed at the true images. It explains a leak, and a client can run it on its own data; a server
cannot, and no attack may use it.
"""

import torch
from torch import Tensor

from gilib.data import Batch
from gilib.federated import Client
from gilib.jacobian import jacobian


def error_amplification(client: Client, batch: Batch) -> Tensor:
    """How much an error in the gradient's direction grows on its way back to the pixels, one value an image (B,).

    If every entry of ``g / |g|`` carries independent Gaussian noise of variance s^2, then no unbiased estimate of the
    images has a mean squared error below s^2 times this value, to first order (the Cramer-Rao bound): it is the mean
    over an image's pixels of the diagonal of (A^T A)^-1, with A the derivative of ``g / |g|``. In decibels,
    ``-10 log10(error_amplification)`` is a PSNR up to a constant. Infinite where the gradient does not determine the
    images. Raises ValueError as ``jacobian`` does, and if the gradient is zero.

    Known as: error amplification, Cramer-Rao bound (analysis). Needs the client's images: for whoever holds them.
    Taught in: iteration/limits.
    """
    shared, derivative = jacobian(client, batch)
    length = shared.norm()
    if not length > 0:
        raise ValueError("the client's gradient is zero and has no direction; there is nothing to amplify.")
    unit = shared / length
    turning = (derivative - torch.outer(unit, unit @ derivative)) / length
    # The triangle of a QR decomposition has the same singular values and is as small as the image.
    _, values, rows = torch.linalg.svd(torch.linalg.qr(turning, mode="r").R, full_matrices=False)
    smallest = max(turning.shape) * torch.finfo(values.dtype).eps * values[0]
    if len(values) < turning.shape[1] or values[-1] <= smallest:
        return shared.new_full((len(batch),), torch.inf)
    variance = (rows / values[:, None]).square().sum(dim=0)
    return variance.reshape(len(batch), -1).mean(dim=1)
