"""The pytest fixture `conformance`, for those who write components.

    def test_it_keeps_to_the_contract(conformance):
        conformance("polite", word="thanks")

pytest loads this module wherever guerdon is installed, so it imports next to nothing until the fixture is called.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from guerdon.conformance import Conformance


class Conforms(Protocol):
    """The fixture's type: fails the test with the checks that failed, else returns all that was looked at.

    `tasks` are rows with `prompt`, `answer` and what else the reward asks for, perhaps `completion` and `expected`.
    """

    def __call__(
        self, name: str, /, *, tasks: Iterable[Mapping[str, Any]] | None = None, **settings: Any
    ) -> "list[Conformance]": ...


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Conforms:
    """Call it with a component's name and settings, as `guerdon plugins test` takes them."""

    def conforms(
        name: str, /, *, tasks: Iterable[Mapping[str, Any]] | None = None, **settings: Any
    ) -> "list[Conformance]":
        from guerdon.conformance import conformance
        from guerdon.errors import GuerdonError

        try:
            found = conformance(name, settings, tasks)
        except GuerdonError as error:
            pytest.fail(str(error), pytrace=False)
        for one in found:
            request.node.add_report_section("call", "conformance", f"{one.title}\n{one.text()}")
        failed = [f"{one.title} fails:\n{one.text('failed')}" for one in found if not one.ok]
        if failed:
            pytest.fail("\n".join(failed), pytrace=False)
        return found

    return conforms
