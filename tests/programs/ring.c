// Reads the vendor of a device through io_uring, at once and by a thread of the kernel. Ends with the errno of what fails.
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *part(int ring, size_t size, uint64_t which) {
  return mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, which);
}

int main(void) {
  int dev = open("/dev/vfio/devices/vfio0", O_RDWR);
  struct { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; } bind = {sizeof bind, 0, open("/dev/iommu", O_RDWR), 0};
  struct io_uring_params asked = {0};
  int ring = syscall(SYS_io_uring_setup, 1, &asked);
  if (ring < 0 || ioctl(dev, 0x3b76, &bind)) return errno;
  char *from = part(ring, asked.sq_off.array + 4, IORING_OFF_SQ_RING);
  char *to = part(ring, asked.cq_off.cqes + asked.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
  struct io_uring_sqe *entry = part(ring, sizeof *entry, IORING_OFF_SQES);
  for (unsigned turn = 0; turn < 2; turn++) {
    unsigned short vendor = 0;
    *entry = (struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = dev, .addr = (uintptr_t)&vendor, .len = 2, .off = 7ull << 40};
    entry->flags = turn ? IOSQE_ASYNC : 0;
    *(unsigned *)(from + asked.sq_off.array) = 0;
    __atomic_store_n((unsigned *)(from + asked.sq_off.tail), turn + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1) return errno;
    struct io_uring_cqe *done = (void *)(to + asked.cq_off.cqes);
    if (done[turn & (asked.cq_entries - 1)].res != 2 || vendor != 0x1234) return 1;
    __atomic_store_n((unsigned *)(to + asked.cq_off.head), turn + 1, __ATOMIC_RELEASE);
  }
  return 0;
}
