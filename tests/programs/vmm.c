// Programs that use VFIO as real ones do, one for each name that main knows. Each ends with 0, or tells the line that went wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define must(it) do { if (!(it)) { fprintf(stderr, "line %d: %s: %s\n", __LINE__, #it, strerror(errno)); exit(1); } } while (0)
#define fails(it, with) do { errno = 0; must((it) == -1 && errno == (with)); } while (0)

// The headers of a distribution may be older than iommufd.
enum { GET_INFO = 0x3b6b, GET_REGION = 0x3b6c, SET_IRQS = 0x3b6e, BIND = 0x3b76, ATTACH = 0x3b77, DETACH = 0x3b78 };
enum { DESTROY = 0x3b80, IOAS_ALLOC = 0x3b81, IOAS_MAP = 0x3b85, IOAS_UNMAP = 0x3b86 };
enum { FAULT_QUEUE_ALLOC = 0x3b8e, CREATE_VM = 0xae01 };
struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; };
struct attach { uint32_t argsz, flags, pt; };
struct detach { uint32_t argsz, flags; };
struct info { uint32_t argsz, flags, regions, irqs, cap, pad; };
struct region { uint32_t argsz, flags, index, cap; uint64_t size, offset; };
struct irqs { uint32_t argsz, flags, index, start, count; int32_t data; };
struct ioas { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t user, length, iova; };
struct unmap { uint32_t size, ioas; uint64_t iova, length; };

static int device(int number) {
  char path[64];
  snprintf(path, sizeof path, "/dev/vfio/devices/vfio%d", number);
  return open(path, O_RDWR | O_CLOEXEC);
}

static int bound(int dev, int iommufd) {
  struct bind it = {sizeof it, 0, iommufd, 0};
  return ioctl(dev, BIND, &it);
}

static uint32_t space(int dev, int iommufd) {
  struct ioas it = {sizeof it, 0, 0};
  must(ioctl(iommufd, IOAS_ALLOC, &it) == 0);
  struct attach at = {sizeof at, 0, it.id};
  must(ioctl(dev, ATTACH, &at) == 0);
  return it.id;
}

static int mapped(int iommufd, uint32_t ioas, void *memory, uint64_t length, uint64_t iova) {
  struct map it = {sizeof it, 7, ioas, 0, (uintptr_t)memory, length, iova};
  return ioctl(iommufd, IOAS_MAP, &it);
}

static int informed(int dev) {
  struct info it = {.argsz = sizeof it};
  return ioctl(dev, GET_INFO, &it);
}

static void ended(pid_t child, int status) {
  int found;
  must(waitpid(child, &found, 0) == child && found == status);
}

static void vmm(void) {  // brought up, used, torn down
  int iommufd = open("/dev/iommu", O_RDWR), dev = device(0), vm = open("/dev/kvm", O_RDWR);
  must(iommufd == 3 && dev == 4 && (vm = ioctl(vm, CREATE_VM, 0)) == 6);
  struct stat st;
  must(fstat(dev, &st) == 0 && S_ISCHR(st.st_mode) && stat("/dev/vfio/devices/vfio0", &st) == 0 && S_ISCHR(st.st_mode));
  fails(informed(dev), EINVAL);
  must(bound(dev, iommufd) == 0 && informed(dev) == 0);
  uint32_t ioas = space(dev, iommufd);
  size_t size = 1 << 20;
  char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(mapped(iommufd, ioas, memory, size, 0x10000) == 0);
  struct region config = {.argsz = sizeof config, .index = 7};
  must(ioctl(dev, GET_REGION, &config) == 0 && config.offset == 7ull << 40);
  uint16_t vendor = 0, command;
  must(pread(dev, &vendor, 2, config.offset) == 2 && vendor != 0);
  must(pread(dev, &command, 2, config.offset + 4) == 2);
  command |= 4;
  must(pwrite(dev, &command, 2, config.offset + 4) == 2);
  struct unmap all = {sizeof all, ioas, 0x10000, size};
  must(ioctl(iommufd, IOAS_UNMAP, &all) == 0);
  struct detach off = {sizeof off, 0};
  must(ioctl(dev, DETACH, &off) == 0);
  must(close(dev) == 0 && close(iommufd) == 0 && close(vm) == 0);
}

static void pass(void) {  // one process opens, another one uses
  int pair[2];
  must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  pid_t child = fork();
  char room[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  if (child == 0) {
    must(recvmsg(pair[1], &message, 0) == 1);
    int dev = *(int *)CMSG_DATA(CMSG_FIRSTHDR(&message)), iommufd = open("/dev/iommu", O_RDWR);
    must(bound(dev, iommufd) == 0 && informed(dev) == 0);
    exit(0);
  }
  int dev = device(0);
  *CMSG_FIRSTHDR(&message) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &dev, sizeof dev);
  must(sendmsg(pair[0], &message, 0) == 1 && close(dev) == 0);
  ended(child, 0);
  dev = device(0);
  must(bound(dev, open("/dev/iommu", O_RDWR)) == 0);
}

static void killed(void) {  // in the middle of a call: unbind waits until nobody has the device
  int dev = device(0), ready[2];
  must(bound(dev, open("/dev/iommu", O_RDWR)) == 0 && pipe(ready) == 0);
  pid_t child = fork();
  if (child == 0) {
    close(dev);
    int unbind = open("/sys/bus/pci/drivers/vfio-pci/unbind", O_WRONLY);
    must(unbind >= 0 && write(ready[1], "x", 1) == 1);
    must(write(unbind, "0000:01:00.0", 12) == 12);
    exit(0);
  }
  char byte;
  must(read(ready[0], &byte, 1) == 1);
  usleep(20000);
  must(kill(child, SIGKILL) == 0);
  ended(child, SIGKILL);
  must(informed(dev) == 0 && close(dev) == 0);
}

static int often = 5;

static void *thread(void *number) {
  int mine = (intptr_t)number, iommufd = open("/dev/iommu", O_RDWR);
  for (int turn = 0; turn < often; turn++) {
    int dev = device(mine);
    must(dev >= 0 && bound(dev, iommufd) == 0 && informed(dev) == 0 && close(dev) == 0);
  }
  close(iommufd);
  return 0;
}

static void threads(void) {
  pthread_t all[4];
  int numbers[4] = {0, 1, 2, 3};
  for (intptr_t each = 0; each < 4; each++) must(pthread_create(&all[each], 0, thread, (void *)(intptr_t)numbers[each]) == 0);
  for (int each = 0; each < 4; each++) must(pthread_join(all[each], 0) == 0);
}

static void maps(void) {
  int dev = device(0), iommufd = open("/dev/iommu", O_RDWR), page = 4096;
  must(bound(dev, iommufd) == 0);
  uint32_t ioas = space(dev, iommufd);
  char *memory = mmap(0, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (uint64_t each = 0; each < 1000; each++) must(mapped(iommufd, ioas, memory, page, 0x100000 + 2 * each * page) == 0);
  fails(mapped(iommufd, ioas, memory, page, 0x100000), EEXIST);
  struct unmap all = {sizeof all, ioas, 0, UINT64_MAX};
  must(ioctl(iommufd, IOAS_UNMAP, &all) == 0 && all.length == 1000u * page);
}

static void told(const char *path, const char *text) {
  int file = open(path, O_WRONLY);
  must(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) && close(file) == 0);
}

static void hotplug(void) {
  const char *it = "/sys/bus/pci/devices/0000:01:00.0";
  char remove[64], link[256] = {0};
  snprintf(remove, sizeof remove, "%s/remove", it);
  must(access(it, F_OK) == 0 && access("/dev/vfio/devices/vfio0", F_OK) == 0);
  told(remove, "1");
  fails(access(it, F_OK), ENOENT);
  fails(device(0), ENOENT);
  told("/sys/bus/pci/rescan", "1");
  must(access(it, F_OK) == 0);
  fails(device(0), ENOENT);  // nothing has said that vfio-pci should take it
  snprintf(remove, sizeof remove, "%s/driver_override", it);
  told(remove, "vfio-pci");
  told("/sys/bus/pci/drivers_probe", "0000:01:00.0");
  must(device(0) >= 0);
  snprintf(remove, sizeof remove, "%s/driver", it);
  must(readlink(remove, link, sizeof link - 1) > 0 && strcmp(strrchr(link, '/'), "/vfio-pci") == 0);
  int bind = open("/sys/bus/pci/drivers/vfio-pci/bind", O_WRONLY);
  fails(write(bind, "0000:99:00.0", 12), ENODEV);
  fails(write(bind, "0000:01:00.0", 12), EBUSY);
}

static void interrupts(void) {
  int dev = device(0), event = eventfd(0, 0);
  must(bound(dev, open("/dev/iommu", O_RDWR)) == 0);
  struct irqs give = {sizeof give, 1 << 2 | 1 << 5, 0, 0, 1, event};
  must(ioctl(dev, SET_IRQS, &give) == 0);
  struct irqs fire = {sizeof fire - 4, 1 << 0 | 1 << 5, 0, 0, 1, 0};
  uint64_t signals = 0;
  must(ioctl(dev, SET_IRQS, &fire) == 0 && read(event, &signals, 8) == 8 && signals == 1);
  give.data = open("/dev/null", O_RDWR);
  fails(ioctl(dev, SET_IRQS, &give), EINVAL);
  give.data = 999;
  fails(ioctl(dev, SET_IRQS, &give), EBADF);
}

static void pointers(void) {
  int dev = device(0), iommufd = open("/dev/iommu", O_RDWR);
  fails(ioctl(dev, BIND, 0), EFAULT);
  fails(ioctl(dev, BIND, (void *)-8), EFAULT);
  char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct bind *end = (void *)(pages + 4096 - sizeof *end);
  *end = (struct bind){sizeof *end, 0, iommufd, 0};
  must(mprotect(pages, 4096, PROT_READ) == 0);
  fails(ioctl(dev, BIND, end), EFAULT);  // the answer does not fit, and the bind is taken back
  must(mprotect(pages, 4096, PROT_READ | PROT_WRITE) == 0 && munmap(pages + 4096, 4096) == 0);
  must(ioctl(dev, BIND, end) == 0 && end->devid != 0);
  uint32_t ioas = space(dev, iommufd);
  fails(mapped(iommufd, ioas, pages, 8192, 0x10000), EFAULT);
  must(pread(dev, pages, 4, 7ull << 40) == 4);
  fails(pread(dev, pages + 4096, 4, 7ull << 40), EFAULT);
}

static void confined(void) {  // a child with a filter of its own
  pid_t child = fork();
  if (child == 0) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    fails(socket(AF_UNIX, SOCK_STREAM, 0), EPERM);
    must(bound(device(0), open("/dev/iommu", O_RDWR)) == 0);
    exit(0);
  }
  ended(child, 0);
}

static void forked(void) {  // after a bind: the device is released when the child has gone, too
  int dev = device(0), go[2];
  must(bound(dev, open("/dev/iommu", O_RDWR)) == 0 && pipe(go) == 0);
  char byte;
  pid_t child = fork();
  if (child == 0) {
    must(read(go[0], &byte, 1) == 1 && informed(dev) == 0);
    exit(0);
  }
  must(close(dev) == 0);
  int again = device(0);
  fails(bound(again, open("/dev/iommu", O_RDWR)), EINVAL);
  must(write(go[1], "x", 1) == 1);
  ended(child, 0);
  must(bound(again, open("/dev/iommu", O_RDWR)) == 0);
}

static void mapped_bar(void) {  // what is mapped keeps the device when its descriptor is closed
  int dev = device(0), iommufd = open("/dev/iommu", O_RDWR);
  must(bound(dev, iommufd) == 0);
  struct region bar = {.argsz = sizeof bar, .index = 0};
  must(ioctl(dev, GET_REGION, &bar) == 0 && bar.flags & 4 && bar.size >= 8192);
  char *one = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, dev, bar.offset);
  char *other = mmap(0, 4096, PROT_READ, MAP_SHARED, dev, bar.offset + 4096);
  must(one != MAP_FAILED && other != MAP_FAILED && other[9] == 0);
  one[4096 + 9] = 'v';
  must(other[9] == 'v' && munmap(other, 4096) == 0 && close(dev) == 0);
  int again = device(0);
  fails(bound(again, open("/dev/iommu", O_RDWR)), EINVAL);
  must(munmap(one, 8192) == 0 && bound(again, iommufd) == 0);
}

static void registers(void) {  // as an argument: where a namespace serves them, its server must not wait for itself
  int dev = device(0);
  must(bound(dev, open("/dev/iommu", O_RDWR)) == 0);
  char *bar = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, dev, 0);
  must(bar != MAP_FAILED);
  fails(ioctl(dev, GET_REGION, bar), EFAULT);
  pid_t child = fork();
  if (child == 0) {
    fails(ioctl(dev, GET_REGION, bar), EFAULT);
    exit(0);
  }
  ended(child, 0);
}

static volatile int ticks;
static void tick(int number) { ticks += number == SIGALRM; }

static void timer(void) {  // a signal every 3 ms; a call that it interrupts is begun again
  int dev = device(0);
  must(bound(dev, open("/dev/iommu", O_RDWR)) == 0);
  struct sigaction act = {.sa_handler = tick, .sa_flags = SA_RESTART};
  struct itimerval each = {{0, 3000}, {0, 3000}};
  must(sigaction(SIGALRM, &act, 0) == 0 && setitimer(ITIMER_REAL, &each, 0) == 0);
  int calls = 0;
  while (calls < 50 || ticks < 5) must(informed(dev) == 0 && ++calls);
  printf("%d\n", calls);
}

static void leak(void) {  // a child lives on with the device
  int dev = device(0), closed[2];
  must(pipe(closed) == 0);
  if (fork() == 0) {
    alarm(20);
    must(informed(dev) == -1 && close(closed[0]) == 0 && close(0) == 0 && close(1) == 0 && close(2) == 0);
    close(closed[1]);
    pause();
  }
  char byte;
  close(closed[1]);
  must(read(closed[0], &byte, 1) == 0);
}


static volatile int over;

static void *makes_numbers(void *unused) {
  while (!over) {
    int mine = eventfd(7, 0);
    uint64_t found = 0;
    usleep(30);
    must(read(mine, &found, 8) == 8 && found == 7 && close(mine) == 0);
  }
  return unused;
}

static void numbers(void) {  // a descriptor never takes the number that another thread has got meanwhile
  pthread_t other;
  must(pthread_create(&other, 0, makes_numbers, 0) == 0);
  for (int turn = 0; turn < 100; turn++) {
    int iommufd = open("/dev/iommu", O_RDWR);
    struct queue { uint32_t size, flags, id; int32_t fd; } it = {sizeof it, 0, 0, 0};
    struct stat st;
    must(ioctl(iommufd, FAULT_QUEUE_ALLOC, &it) == 0 && fstat(it.fd, &st) == 0 && close(it.fd) == 0 && close(iommufd) == 0);
  }
  over = 1;
  must(pthread_join(other, 0) == 0);
}

static void rate(void) {  // GET_INFO, so often
  int dev = device(0);
  must(bound(dev, open("/dev/iommu", O_RDWR)) == 0);
  for (int turn = 0; turn < often; turn++) must(informed(dev) == 0);
}

int main(int count, char **words) {
  static const struct { const char *name; void (*does)(void); } all[] = {
      {"vmm", vmm}, {"pass", pass}, {"killed", killed}, {"threads", threads}, {"maps", maps}, {"hotplug", hotplug},
      {"interrupts", interrupts}, {"pointers", pointers}, {"confined", confined}, {"forked", forked}, {"timer", timer},
      {"leak", leak}, {"rate", rate}, {"mapped", mapped_bar}, {"registers", registers}, {"numbers", numbers},
  };
  if (count > 2) often = atoi(words[2]);
  for (size_t each = 0; count > 1 && each < sizeof all / sizeof *all; each++)
    if (strcmp(words[1], all[each].name) == 0) return all[each].does(), 0;
  return 2;
}
