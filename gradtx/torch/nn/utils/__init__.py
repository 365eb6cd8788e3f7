"""torch.nn.utils: the clipping of gradients, on trees and as transformations."""

__namespace__ = "torch.nn.utils"


from gradtx.torch.nn.utils.clip_grad import clip_grad_norm as clip_grad_norm
from gradtx.torch.nn.utils.clip_grad import clip_grad_norm_ as clip_grad_norm_
from gradtx.torch.nn.utils.clip_grad import clip_grad_value as clip_grad_value
from gradtx.torch.nn.utils.clip_grad import clip_grad_value_ as clip_grad_value_
from gradtx.torch.nn.utils.clip_grad import clip_grads_with_norm_ as clip_grads_with_norm_
from gradtx.torch.nn.utils.clip_grad import get_total_norm as get_total_norm
