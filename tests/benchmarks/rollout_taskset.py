"""The question of `rollout_rows.py` as a taskset of verifiers 0.4, with its calculator."""

import verifiers.v1 as vf
from rollout_rows import ANSWER, INSTRUCTIONS, QUESTION

__all__ = ["OneQuestion"]


class Calculator(vf.Toolset[vf.SharedToolsetConfig]):
    TOOL_PREFIX = "calc"

    @vf.tool
    def calculate(self, expression: str) -> str:
        """Evaluates arithmetic, such as 12 * 7."""
        a, b = expression.split("*")
        return str(int(a) * int(b))


class Right(vf.Task[vf.TaskData]):
    @vf.reward(weight=1.0)
    async def right(self, trace: vf.Trace) -> float:
        return float(ANSWER in (trace.last_reply or ""))


class Config(vf.TasksetConfig):
    tools: vf.SharedToolsetConfig = vf.SharedToolsetConfig()


class OneQuestion(vf.Taskset[Right, Config]):
    @classmethod
    def toolsets(cls, config: Config) -> list[vf.Toolset]:
        return [Calculator(config.tools)]

    def load(self) -> list[Right]:
        prompt = f"{INSTRUCTIONS}\n\n{QUESTION}"
        return [Right(vf.TaskData(idx=n, prompt=prompt), self.config.task) for n in range(100)]


if __name__ == "__main__":
    Calculator.run()
