"""How many rows one optimizer step learns from: rows a pass x accumulated passes x processes.

For GRPO a row is a completion, and a step must hold whole groups: the attempts at one prompt, that are compared with
each other.
"""

from dataclasses import dataclass
from math import lcm

from guerdon.errors import counted
from guerdon.settings import SettingError


@dataclass(frozen=True, slots=True)
class Batch:
    """A legal batch: `batch_size` rows a process and pass, `accumulation` passes a step, `world` processes.

    `mended` says what was changed to make it legal, or is empty. For GRPO `group_size` is the attempts at a prompt.
    """

    batch_size: int
    accumulation: int
    world: int = 1
    group_size: int | None = None
    mended: str = ""

    @property
    def total(self) -> int:
        """Rows in an optimizer step, of all processes."""
        return self.batch_size * self.accumulation * self.world

    @property
    def prompts(self) -> int:
        """Different rows in a step: with groups, prompts."""
        return self.total // (self.group_size or 1)

    @property
    def eval_batch_size(self) -> int:
        """Rows a process and pass of an evaluation: near `batch_size`, whole groups in all processes together."""
        step = lcm(self.world, self.group_size or 1) // self.world
        return step * max(1, self.batch_size // step)

    def steps(self, rows: int) -> int:
        """Optimizer steps in one epoch of so many rows, a last, smaller one too; of so many prompts, whole ones."""
        if self.group_size:
            return max(1, rows // self.prompts)
        passes = -(-rows // (self.batch_size * self.world))
        return -(-passes // self.accumulation)

    def __str__(self) -> str:
        """
        >>> print(Batch(2, 4, 2))
        global batch 16 = 2 rows x 4 passes x 2 processes
        >>> print(Batch(6, 1, 1, group_size=6))
        global batch 6 = 6 rows x 1 pass = 1 prompt x 6 attempts
        """
        passes = f"{self.accumulation} pass{'es' if self.accumulation > 1 else ''}"
        processes = f" x {self.world} processes" if self.world > 1 else ""
        groups = f" = {counted(self.prompts, 'prompt')} x {self.group_size} attempts" if self.group_size else ""
        return f"global batch {self.total} = {counted(self.batch_size, 'row')} x {passes}{processes}{groups}"


def solve(
    *,
    batch_size: int,
    accumulation: int,
    global_batch: int | None = None,
    world: int = 1,
    group_size: int | None = None,
) -> Batch:
    """The legal batch that is meant.

    `global_batch` decides over `accumulation`. Without it, groups that do not fit are mended by the fewest more rows a
    step; rows a pass never become more, for they cost memory.

    Raises:
        SettingError: `global_batch` cannot be had, with the nearest that can, or there is no group to compare.

    >>> print(solve(batch_size=1, accumulation=1, global_batch=4))
    global batch 4 = 1 row x 4 passes
    >>> solve(batch_size=1, accumulation=1, group_size=6).accumulation
    6
    """
    if group_size is not None and group_size < 2:
        raise SettingError(
            f"a group of {group_size} has nothing to compare: GRPO learns from the differences between the attempts at "
            "one prompt. Set loop.group_size to 2 or more (4 to 16 are usual)",
            ("loop", "group_size"),
        )
    asked = batch_size * accumulation * world
    unit = lcm(world, group_size or 1)
    total = global_batch or -(-asked // unit) * unit
    if total % unit:
        parts = [f"{world} processes"] * (world > 1) + [f"groups of {group_size} attempts"] * bool(group_size)
        below, above = total // unit * unit, -(-total // unit) * unit
        near = f"{below} or {above}" if below else f"at least {above}"
        raise SettingError(
            f"global_batch {total} cannot be shared out among {' and '.join(parts)}: take {near}", ("global_batch",)
        )
    share = total // world
    rows = next(n for n in range(min(batch_size, share), 0, -1) if share % n == 0)
    changed = [f"batch_size is {rows} instead of {batch_size}"] * (rows != batch_size)
    if global_batch is None and share // rows != accumulation:
        changed.append(f"gradient_accumulation is {share // rows} instead of {accumulation}")
    why = f"{global_batch} rows a step" if global_batch else f"whole groups of {group_size} attempts in a step"
    return Batch(rows, share // rows, world, group_size, f"{' and '.join(changed)}, for {why}" if changed else "")
