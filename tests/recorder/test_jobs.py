"""What goes on between the polls of a stream."""

import os
import time

import pytest

from services.recorder.domain.layout import Body, Place, file_name, folder, table
from services.recorder.jobs import Placing

from .house import House

pytestmark = pytest.mark.usefixtures("as_the_recorder")


def left_over(house: House, first: int, partition: int = 0, age_s: float = 700.0) -> Place:
    """A file that a batch wrote, and rolled back."""
    head = house.head(f"d-{first}", 0, entity="anna")
    place = Place(f"{folder(head.endpoint, head.received_at)}/{file_name(partition, first, first)}")
    house.files.write(place, [table([head], Body({}, None, None))])
    at = time.time() - age_s
    os.utime(house.settings.inferences / "_pending" / place.path.replace("/", "~"), (at, at))
    return place


async def test_what_a_batch_left_is_removed_again_and_again_while_a_partition_stays(house: House) -> None:
    placing = Placing("inferences", house.upkeep, 0.0, sweep_s=0.0)
    seldom = Placing("inferences", house.upkeep, 0.0)
    partitions = {("inference.logged", 0): True}
    for first in (1, 2):
        place = left_over(house, first)
        await placing.tick(partitions)
        assert house.files.size(place) == 0
    young, others = left_over(house, 3, age_s=0.0), left_over(house, 4, partition=1)
    await placing.tick(partitions)
    assert house.files.size(young) and house.files.size(others)
    await seldom.tick(partitions)
    place = left_over(house, 5)
    await seldom.tick(partitions)
    assert house.files.size(place), "within ten minutes"
