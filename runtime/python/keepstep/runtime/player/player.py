"""The player: a plan, loaded and bound, that turns inputs into outputs any number of times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from types import TracebackType

import numpy as np

from keepstep.runtime.backends import Session, SupportsDLPack, backend
from keepstep.runtime.errors import BundleError, InputError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.folder.tokenizer import PromptTokenizer
from keepstep.runtime.format.plan import Call, Plan, TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.memory.inputs import checked_input, default_array, on_gpu
from keepstep.runtime.player.lent import Lent
from keepstep.runtime.player.results import check_results
from keepstep.runtime.quoting import did_you_mean, quote, quote_names

_GIVEN = "negative_prompt_given"  # an input: whether there is a negative prompt
MOST_THREADS = 1024  # more than any launch can use; each of them takes memory

CallProgress = Callable[[int, int, Call], None]
"""(calls done, calls in all, the call just done)"""


@dataclass(frozen=True)
class CallTime:
    """How long one call took."""

    index: int  # in `Plan.calls`
    call: Call
    seconds: float


@dataclass(frozen=True)
class Profile:
    """A run that was measured: `seconds` as `Player.run` plays it, `calls` each by itself.

    On a GPU the whole is less than its parts: the calls are launched as one there.
    """

    seconds: float
    calls: tuple[CallTime, ...]
    outputs: Mapping[str, np.ndarray]


class Player:
    """Plays one plan. Make one with `Bundle.player`; close it, or use it in a `with`."""

    def __init__(
        self,
        bundle: BundleFolder,
        plan: Plan,
        backend_name: str = "onnxruntime",
        *,
        threads: int | None = None,
    ) -> None:
        if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
            raise InputError(
                f"threads: expected an int from 1 to {MOST_THREADS}, found {quote(threads)}"
            )
        self._bundle = bundle
        self._plan = plan
        self._session: Session | None = backend(backend_name).open(bundle, plan, threads)
        self._playing = Lock()
        defaults = {n: v for n, v in plan.values.items() if v.default is not None}
        self._defaults = {name: default_array(value) for name, value in defaults.items()}

    @property
    def plan(self) -> Plan:
        """What is played."""
        return self._plan

    @property
    def inputs(self) -> Mapping[str, TensorType]:
        """What `run` must be given; but for those with a default in the plan, and for what only
        calls read that given feeds leave out."""
        return self._types(lambda name: self._plan.values[name].kind == "input")

    @property
    def feeds(self) -> Mapping[str, TensorType]:
        """What `run` may be given in place of the calls that compute it."""
        return self._types(lambda name: self._plan.values[name].feed)

    @property
    def outputs(self) -> Mapping[str, TensorType]:
        """What `run` returns."""
        return self._types(lambda name: self._plan.values[name].kind == "output")

    def run(
        self, inputs: Mapping[str, object], progress: CallProgress | None = None
    ) -> dict[str, np.ndarray]:
        """Play the plan once and give copies of its outputs.

        `inputs` maps names to arrays of the types in `self.inputs` and `self.feeds`: numpy's, or
        any that speak DLPack, also on the GPU that plays. `progress` is called after each call.
        Nothing remains of a run, also of one that was interrupted.
        Raises `InputError` for what does not fit, `BackendError` when an engine fails, and
        `ResultError` where outputs are NaN or infinite.
        """
        with self._prepared(inputs) as (session, calls, write):
            if progress is None:
                session.play(calls)
            else:
                for done, index in enumerate(calls, 1):
                    session.launch(index)
                    session.wait()
                    progress(done, len(calls), self._plan.calls[index])
            return self._read(session, calls, write)

    @contextmanager
    def lend(self, inputs: Mapping[str, object]) -> Iterator[dict[str, Lent]]:
        """Play the plan once and lend its outputs where they are, without a copy.

            with player.lend(inputs) as outputs:
                latents = torch.from_dlpack(outputs["latents"]) * 2

        They speak DLPack, on the GPU if that is where the plan is played, and are to be read only;
        bfloat16 on a CPU is seen as uint16. Behind the `with` they can no longer be taken, and
        what was taken is overwritten by the next run. Raises as `run` does; outputs on a GPU are
        not looked at.
        """
        with self._prepared(inputs) as (session, calls, write):
            session.play(calls)
            session.wait()
            memory = {name: session.view(name) for name in self.outputs}
            in_host = {n: view for n, view in memory.items() if isinstance(view, np.ndarray)}
            check_results(self._plan, in_host, session, calls, write)
            lent = {name: Lent(name, view) for name, view in memory.items()}
            try:
                yield dict(lent)
            finally:
                for output in lent.values():
                    output.end()

    def profile(self, inputs: Mapping[str, object]) -> Profile:
        """Play the plan and give its outputs, its time and the time of each call."""
        with self._prepared(inputs) as (session, calls, write):
            times = session.timed(calls, write)
            each = tuple(
                CallTime(index, self._plan.calls[index], seconds)
                for index, seconds in zip(calls, times.calls, strict=True)
            )
            return Profile(times.seconds, each, self._read(session, calls, write))

    @property
    def device_bytes(self) -> int:
        """Memory of a GPU that this player and the weights it shares take; 0 on a CPU."""
        with self._alone():
            return self._session.device_bytes if self._session else 0

    def encode(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Give the inputs that the bundle's tokenizers make, for the plan's batch.

        Tokenizer `token_ids` makes `token_ids` and `negative_token_ids`, and so do others by
        their names. One text stands for the whole batch, a sequence for one text each. Without a
        negative prompt an empty one is encoded, unless the plan asks whether there is one
        (`negative_prompt_given`): to such a model none means zeros, as in diffusers' pipelines. A
        plan without guidance has no negative inputs and takes no negative prompt.
        Raises `InputError`.
        """
        known = self.inputs
        tokenizers = {n: t for n, t in self._bundle.tokenizers.items() if n in known}
        if not tokenizers:
            raise InputError(
                f"plan {self._plan.name!r} takes no prompt; its inputs: {quote_names(known)}"
            )
        if negative_prompt and not any(f"negative_{name}" in known for name in tokenizers):
            raise InputError(
                f"plan {self._plan.name!r} has no guidance and takes no negative prompt"
            )
        encoded = {}
        for name, tokenizer in tokenizers.items():
            for input_, text in ((name, prompt), (f"negative_{name}", negative_prompt or "")):
                if input_ in known:
                    encoded[input_] = _token_ids(input_, text, known[input_], tokenizer)
        if asked := known.get(_GIVEN):
            encoded[_GIVEN] = np.full(asked.shape, negative_prompt is not None)
        return encoded

    def close(self) -> None:
        """Give memory and engines back; a closed player cannot run."""
        with self._alone():
            if self._session is not None:
                self._session.close()
                self._session = None

    def __enter__(self) -> Player:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(
        self, session: Session, calls: Sequence[int], rewind: Callable[[], None]
    ) -> dict[str, np.ndarray]:
        """Copies of the outputs of a run, looked at."""
        outputs = {name: session.read(name) for name in self.outputs}
        check_results(self._plan, outputs, session, calls, rewind)
        return outputs

    def _types(self, chosen: Callable[[str], bool]) -> dict[str, TensorType]:
        return {name: value.type for name, value in self._plan.values.items() if chosen(name)}

    @contextmanager
    def _prepared(
        self, inputs: Mapping[str, object]
    ) -> Iterator[tuple[Session, list[int], Callable[[], None]]]:
        """Check the inputs, keep other threads out, and hand over what is to be launched.

        What is handed over last writes the inputs; it has been called once.
        """
        calls, arrays = self._checked(inputs)
        with self._alone():
            if self._session is None:
                raise InputError("this player is closed; make another one with Bundle.player")
            session = self._session

            def write() -> None:
                for name, array in arrays.items():
                    session.write(name, array)

            write()
            yield session, calls, write

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse what would come between the launches of a run."""
        if not self._playing.acquire(blocking=False):
            raise InputError(
                "this player is playing already, in another thread or in its own progress "
                "callback; make a second player of the bundle, they share engines and weights"
            )
        try:
            yield
        finally:
            self._playing.release()

    def _checked(self, inputs: Mapping[str, object]) -> tuple[list[int], dict[str, SupportsDLPack]]:
        """The calls to launch for these inputs, and the inputs as arrays of the right types.

        What lies on a GPU is left to the session to check.
        """
        if not isinstance(inputs, Mapping):
            raise InputError(f"expected a mapping from names to arrays, found {quote(inputs)}")
        known = {**self.inputs, **self.feeds}
        for name in inputs:
            if name not in known:
                raise InputError(
                    f"plan {self._plan.name!r} has no input {quote(name)}"
                    f"{did_you_mean(str(name), known)}; its inputs: {quote_names(self.inputs)}; "
                    f"it may also be fed: {quote_names(self.feeds)}"
                )
        calls = calls_to_launch(self._plan, inputs.keys())
        read = {binding.value for i in calls for binding in self._plan.calls[i].reads.values()}
        left_out = [name for name in self.inputs if name in read and name not in inputs]
        if missing := [name for name in left_out if name not in self._defaults]:
            types = ", ".join(f"{name} {type_text(known[name])}" for name in missing[:12])
            raise InputError(f"plan {self._plan.name!r} also needs the input {types}")
        defaults = {name: self._defaults[name] for name in left_out}
        return calls, defaults | {
            name: given
            if on_gpu(given)
            else checked_input(name, given, known[name], self._plan.values[name].range)
            for name, given in inputs.items()
        }


def _token_ids(
    name: str, text: str | Sequence[str], expected: TensorType, tokenizer: PromptTokenizer
) -> np.ndarray:
    """Encode one text a row of the plan's batch."""
    batch = expected.shape[0] if expected.shape else 0
    if expected.dtype not in ("int64", "int32") or expected.shape != (batch, tokenizer.length):
        raise BundleError(
            0,
            f"input {name} is {type_text(expected)}, but the bundle's tokenizer gives "
            f"{tokenizer.length} ids a prompt; export the bundle again",
        )
    texts = [text] * batch if isinstance(text, str) else list(text)
    if len(texts) != batch:
        raise InputError(f"{name}: expected {batch} prompts, found {len(texts)}")
    return tokenizer.encode(texts).astype(expected.dtype)


def calls_to_launch(plan: Plan, given: Collection[str]) -> list[int]:
    """Indices of the calls that are not left out: those that write a value that is not given.

    Raises `InputError` when of a call's feed values only some are given.
    """
    calls = []
    for i, call in enumerate(plan.calls):
        written = {binding.value for binding in call.writes.values()}
        missing = sorted(written.difference(given))
        if missing and written.intersection(given):
            fed = quote_names(sorted(written.intersection(given)))
            raise InputError(
                f"plan {plan.name!r}: with {fed} give {quote_names(missing)}, too: one call "
                "computes them all; or give none of them"
            )
        if missing:
            calls.append(i)
    return calls
