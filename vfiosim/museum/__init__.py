"""The museum of real bugs: each a room with its symptom, the shortest way into it, and a repair to find and to prove."""

from . import iommufd_rooms, kvm_rooms, vfio_rooms
from .room import Proof, Room
from .student_source import StudentFunction

ROOMS: dict[str, Room] = {room.name: room for room in (*kvm_rooms.ROOMS, *iommufd_rooms.ROOMS, *vfio_rooms.ROOMS)}

__all__ = ["ROOMS", "Proof", "Room", "StudentFunction"]
