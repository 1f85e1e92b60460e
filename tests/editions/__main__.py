"""Write the file of today's edition."""

from . import write

write()
