"""The envelope around `data`: seven keys, from distributions and project webhooks alike.

https://docs.voucherify.io/api-reference/introduction-to-webhooks
"""

from __future__ import annotations

from .base import Tolerant
from .fields import Id, Moment, Object, Part, Text, Time


class Origin(Tolerant):
    """`source`: the distribution (`distr_…`) or project webhook (`wh_…`) that sent it."""

    id = Text()
    object = Text()
    target_url = Text()


class Fact(Tolerant):
    """`event`: what happened. Its `id` is the event's identity, its `type` the name that rules match."""

    id = Id()
    type = Id()
    created_at = Moment()
    entity_id = Text()
    group_id = Text()
    event_source = Object()


class Envelope(Tolerant):
    """The envelope. `type` is free text in a distribution, may be empty there, and names the event elsewhere.

    `project_id` is where the event's id and its `once` places are unique. `data` has a schema by the event's type, so
    it is checked after this.
    """

    id = Text()
    project_id = Id()
    created_at = Time()
    type = Text()
    source = Part(Origin(), decides=True)
    event = Part(Fact(), decides=True)


class Named(Tolerant):
    """An envelope that names its event in `type`, as a project webhook without `event` does."""

    type = Id()
