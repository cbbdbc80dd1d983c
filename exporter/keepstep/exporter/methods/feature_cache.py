"""Feature caching: full calls keep a deep tensor, shallow calls go on from it (DeepCache, 3.2).

Here for a network that runs eagerly. A compiled shallow call is a slice of the traced network; it
shares with this nothing but the place of the cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
    """What the last full call of a network left for the shallow calls behind it.

    Of tensors that are kept since another site, what was added there is added to what a shallow
    call has at that site.
    """

    def __init__(self, module: nn.Module, cut: Cut) -> None:
        self.cut = cut
        # Where PyTorch has compiled the network, shallow calls run what it was made of.
        self._module: nn.Module = getattr(module, "_orig_mod", module)
        self._given: dict[str, Any] = {}

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Around a full call: keep its features."""
        with ExitStack() as hooks:
            begun = hooks.enter_context(watched(self._module, self._begins))
            for path in self.cut.deep:

                def note(_m: nn.Module, _a: Any, out: Any, path: str = path) -> None:
                    self._given[path] = self._worth(path, out, begun)

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
            begun = undo.enter_context(watched(self._module, self._begins))
            for path in self._given:
                module = self._module.get_submodule(path)
                module.forward = lambda *_, path=path, **__: self._again(path, begun)
                undo.callback(delattr, module, "forward")  # the class's own again
            yield

    @property
    def _begins(self) -> list[Site]:
        return [kept.since for kept in self.cut.kept if kept.since]

    def _worth(self, path: str, out: Any, begun: Mapping[Site, Tensor]) -> Any:
        """What is kept of a module's outputs: of tensors at the cut, and the shapes of others."""
        kept = {k.site.output: k for k in self.cut.kept if k.site.module == path}

        def worth(x: Any, number: int) -> Any:
            if number not in kept:
                return tree_map_only(Tensor, _nothing_like, x)
            since = kept[number].since
            return x - begun[since] if since else x

        if isinstance(out, Tensor):
            return worth(out, 0)
        return tuple(worth(x, i) for i, x in enumerate(out))

    def _again(self, path: str, begun: Mapping[Site, Tensor]) -> Any:
        """What a module gives in a shallow call."""
        given = self._given[path]
        parts = [given] if isinstance(given, Tensor) else list(given)
        for kept in self.cut.kept:
            if kept.site.module == path and kept.since:
                parts[kept.site.output] = begun[kept.since] + parts[kept.site.output]
        return parts[0] if isinstance(given, Tensor) else tuple(parts)


def _nothing_like(x: Tensor) -> Tensor:
    """NaN in the shape of x, in the memory of one number."""
    return torch.full((), torch.nan, dtype=x.dtype, device=x.device).expand(x.shape)
