"""The client of a load, in a process of its own: a plan on stdin, its outcome on stdout, both MessagePack.

python -m api.bench.load_client
"""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from api.bench.load_loops import Outcome, Plan, run
from vss.errors import Code, VssError


def run_apart(plan: Plan) -> Outcome:
    """Run a plan in a new process on the plan's core. VssError (UNAVAILABLE) when the client fails."""
    done = subprocess.run(
        [sys.executable, "-m", "api.bench.load_client"],
        input=msgspec.msgpack.encode(plan),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise VssError(Code.UNAVAILABLE, f"the load's client failed: {said[-1] if said else done.returncode}")
    try:
        return msgspec.msgpack.decode(done.stdout, type=Outcome)
    except msgspec.DecodeError as error:
        raise VssError(Code.UNAVAILABLE, f"the load's client wrote {len(done.stdout)} bytes: {error}") from error


def main() -> None:
    """Read, run, write."""
    plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Plan)
    if plan.core is not None:
        os.sched_setaffinity(0, {plan.core})
    sys.stdout.buffer.write(msgspec.msgpack.encode(run(plan)))


if __name__ == "__main__":
    main()
