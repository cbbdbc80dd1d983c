"""Plays a bundle from a program of one's own: values in, many runs, outputs out.

The runtime alone: numpy, safetensors, ONNX Runtime and a tokenizer, no PyTorch.
Usage, after 01_export.py: python examples/03_embed.py
"""

from __future__ import annotations

import sys

import numpy as np

from keepstep.runtime import Bundle, InputError

BUNDLE, PLAN = "engines/emoji", "dato-coco"


def main() -> None:
    """Feed arrays, play several times, read what comes out."""
    bundle = Bundle.open(BUNDLE)
    with bundle.player(PLAN, threads=1) as player:
        # What the plan takes and gives: static names, dtypes and shapes.
        for role in ("inputs", "feeds", "outputs"):
            for name, type_ in getattr(player, role).items():
                print(f"{role}: {name} {type_.dtype} {list(type_.shape)}")

        # Every input is an array. Tokens come from the bundle's tokenizer, or from anywhere else.
        rng = np.random.default_rng(0)
        shape = player.inputs["noise"].shape
        inputs = {
            **player.encode("a red apple", negative_prompt="blurry"),
            "noise": rng.standard_normal(shape, dtype=np.float32),
            "guidance_scale": np.float32(5),
        }

        # Memory and engines are ready: further runs allocate nothing, and change values alone.
        first = player.run(inputs)
        inputs["noise"] = rng.standard_normal(shape, dtype=np.float32)
        second = player.run(inputs, progress=lambda done, total, call: None)  # after every call
        change = np.abs(first["image"].astype(int) - second["image"]).mean()
        print(f"two runs: latents {first['latents'].shape}, pixels differ by {change:.1f} of 255")

        # A feed takes the place of the calls that would compute it: here no text encoder runs.
        embedded = {n: inputs[n] for n in ("noise", "guidance_scale")}
        for name in ("prompt_embeds", "negative_prompt_embeds"):
            embedded[name] = np.zeros(player.feeds[name].shape, np.float32)
        launched: list[str] = []
        player.run(embedded, progress=lambda done, total, call: launched.append(call.stage))
        print(f"with embeddings: {len(launched)} of {len(player.plan.calls)} calls")

        # Outputs without a copy: to be read within the `with`.
        with player.lend(inputs) as outputs:
            image = np.from_dlpack(outputs["image"])
            print(f"lent: image {image.dtype} {image.shape}, mean {image.mean():.1f}")

        # What does not fit is refused in words, and the player stays as it was.
        try:
            player.run(inputs | {"noise": inputs["noise"][:, :1]})
        except InputError as error:
            print(f"refused: {error}")
    print(f"PyTorch loaded: {'torch' in sys.modules}")


if __name__ == "__main__":
    main()
