"""Feature caching: full calls keep a deep tensor, shallow calls go on from it (DeepCache, 3.2).

Here for a network that runs eagerly. A compiled shallow call is a slice of the traced network; it
shares with this nothing but the place of the cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..models.denoiser import Cut, Site


@contextmanager
def watched(module: nn.Module, sites: Collection[Site]) -> Iterator[dict[Site, Tensor]]:
    """While active, every call of `module` leaves its tensors at `sites` in the dict."""
    seen: dict[Site, Tensor] = {}
    with ExitStack() as hooks:
        for site in sites:

            def note(_m: nn.Module, _a: Any, out: Any, site: Site = site) -> None:
                seen[site] = out if isinstance(out, Tensor) else out[site.output]

            hook = module.get_submodule(site.module).register_forward_hook(note)
            hooks.callback(hook.remove)
        yield seen


class FeatureCache:
    """What the last full call of a network left for the shallow calls behind it."""

    def __init__(self, module: nn.Module, cut: Cut) -> None:
        self.cut = cut
        # Where PyTorch has compiled the network, shallow calls run what it was made of.
        self._module: nn.Module = getattr(module, "_orig_mod", module)
        self._given: dict[str, Any] = {}

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Around a full call: keep its features."""
        with ExitStack() as hooks:
            for path in self.cut.deep:

                def note(_m: nn.Module, _a: Any, out: Any, path: str = path) -> None:
                    self._given[path] = self._worth(path, out)

                hook = self._module.get_submodule(path).register_forward_hook(note)
                hooks.callback(hook.remove)
            yield

    @contextmanager
    def reusing(self) -> Iterator[None]:
        """Around a shallow call: no deep module runs.

        The one at the cut gives what was kept. The others give NaN in the shapes of the full
        call, which would be seen in the prediction if anything took them.
        """
        assert self._given, "a shallow call before any full one"
        with ExitStack() as undo:
            for path, given in self._given.items():
                module = self._module.get_submodule(path)
                module.forward = lambda *_, given=given, **__: given
                undo.callback(delattr, module, "forward")  # the class's own again
            yield

    def _worth(self, path: str, out: Any) -> Any:
        """What is kept of a module's outputs: the tensor at the cut, the shapes of all others."""
        site = self.cut.site
        if path != site.module:
            return tree_map_only(Tensor, _nothing_like, out)
        if isinstance(out, Tensor):
            return out
        return tuple(x if i == site.output else _nothing_like(x) for i, x in enumerate(out))


def _nothing_like(x: Tensor) -> Tensor:
    """NaN in the shape of x, in the memory of one number."""
    return torch.full((), torch.nan, dtype=x.dtype, device=x.device).expand(x.shape)
