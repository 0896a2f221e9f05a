"""Model cards: what is known of each model before it is loaded, and the two questions that are asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .family import Card, Route
from .registry import available_potentials, registered_families

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .base import Potential


class _Cards(Mapping[str, Card]):
    """The cards of all registered families, as they are at the moment: what is built in comes first."""

    def __getitem__(self, name: str) -> Card:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    @staticmethod
    def _all() -> dict[str, Card]:
        built_in = available_potentials()
        cards = [card for family in registered_families() for card in family.cards]
        return {card.name: card for card in sorted(cards, key=lambda card: card.name not in built_in)}


#: All cards by name, in the order of the table that the command line prints.
CARDS: Mapping[str, Card] = _Cards()


def card_of(model: str | Potential) -> Card | None:
    """The card of a model by its name, or of a potential that was loaded; None for one that is not published."""
    return CARDS.get(model if isinstance(model, str) else model.name)


def recommended_route(model: str | Potential) -> Route:
    """How force constants of a model are made unless the user says: by its card, by differentiation without one."""
    card = card_of(model)
    return card.route if card else "ad"


__all__ = [
    "CARDS",
    "Card",
    "Route",
    "card_of",
    "recommended_route",
]
