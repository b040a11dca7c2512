/* A stand-in for Onload's library, to be preloaded: it answers as the published interface says
 * (onload/extensions.h, onload/extensions_zc.h), over sockets of the kernel. It accelerates nothing, and shows
 * nothing about Onload itself; it shows that its caller keeps the contract, and stops a caller that does not.
 *
 * ONLOAD_STAND_IN               accelerated (default)
 *                               no_module: present, but no socket is accelerated
 *                               handed_over: accelerated until it joins a group
 *                               other_device: as when the line's device is no card of Onload's: everything
 *                               waits at the kernel's side; the socket is handed over when it joins only if
 *                               EF_MCAST_JOIN_HANDOVER is 1, by the environment or by stack_opt_set_int
 *                               stub: all answers of the library for programs that run without Onload
 * ONLOAD_STAND_IN_ZC            enosys: no receiving without a copy; lost: it ends after 100 datagrams
 * ONLOAD_STAND_IN_KERNEL_EVERY  n: every nth datagram waits at the kernel's side of the socket
 * ONLOAD_STAND_IN_KERNEL_EMPTY  set: that side says 0 when it is empty, not EAGAIN
 * ONLOAD_STAND_IN_HARDWARE_NS   n: the card's clock is so far ahead of CLOCK_REALTIME
 * ONLOAD_STAND_IN_LOG           file for a line a call that sets something up
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FDS = 1024, BUFFERS = 512, PIECE = 1824, MOST_PIECES = 40 };
enum { CONTINUE = 0, TERMINATE = 1, KEEP = 2 };
enum { FREE, LENT, KEPT };
typedef struct oo_zc_buf* handle;

struct stat_of_fd { int32_t stack_id; char* stack_name; int32_t endpoint_id, endpoint_state; };
struct piece {
    void* base;
    size_t length;
    handle buffer;
    unsigned flags;
    void* cookie;
};
struct receive_args {
    struct piece* pieces;
    struct msghdr header;
    int (*callback)(struct receive_args*, int);
    void* user;
    int flags;
};

static struct { int state, fd, next; uint8_t data[PIECE]; } pool[BUFFERS];
static int handed_over[MOST_FDS], waiting[MOST_FDS], log_fd = -1;
static unsigned long received[MOST_FDS];
static const char *mode = "accelerated", *zero_copy = "";
static unsigned long kernel_every;
static int kernel_empty, join_handover;
static const char* hardware_ns;
static char stack[16];

static void note(const char* format, ...) {
    if (log_fd < 0) return;
    char line[256];
    va_list words;
    va_start(words, format);
    int length = vsnprintf(line, sizeof line, format, words);
    va_end(words);
    if (write(log_fd, line, (size_t)length) < 0) abort();
}

static void broken(const char* what) {
    fprintf(stderr, "onload stand-in: contract broken: %s\n", what);
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char* text;
    if ((text = getenv("ONLOAD_STAND_IN"))) mode = text;
    if ((text = getenv("ONLOAD_STAND_IN_ZC"))) zero_copy = text;
    if ((text = getenv("ONLOAD_STAND_IN_KERNEL_EVERY"))) kernel_every = strtoul(text, NULL, 10);
    if ((text = getenv("ONLOAD_STAND_IN_LOG")))
        log_fd = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (!strcmp(mode, "other_device")) kernel_every = 1;
    join_handover = (text = getenv("EF_MCAST_JOIN_HANDOVER")) && !strcmp(text, "1");
    kernel_empty = getenv("ONLOAD_STAND_IN_KERNEL_EMPTY") != NULL;
    hardware_ns = getenv("ONLOAD_STAND_IN_HARDWARE_NS");
}

static int is(const char* name) { return strcmp(mode, name) == 0; }

static int accelerated(int fd) {
    int type = 0, domain = 0;
    socklen_t length = sizeof type;
    if (fd < 0 || fd >= MOST_FDS || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length)) return 0;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
    if (type != SOCK_DGRAM || domain != AF_INET) return 0;
    return is("accelerated") || (is("handed_over") && !handed_over[fd]) ||
           (is("other_device") && !(join_handover && handed_over[fd]));
}

/* ---- what is asked and set */

int onload_is_present(void) { return !is("stub"); }

int onload_fd_stat(int fd, struct stat_of_fd* out) {
    int yes = accelerated(fd);
    note("fd_stat %d\n", yes);
    if (yes && out) *out = (struct stat_of_fd){1, strdup(stack), fd, 0};
    return yes;
}

int onload_set_stackname(int who, int scope, const char* name) {
    note("set_stackname who=%d scope=%d name=%s\n", who, scope, name);
    if (is("stub")) return 0;
    if (strlen(name) > 8) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(stack, name);
    return 0;
}

int onload_stack_opt_set_int(const char* option, int64_t value) {
    note("stack_opt_set_int %s=%ld\n", option, (long)value);
    if (is("no_module")) return -EINVAL;
    if (!strcmp(option, "EF_MCAST_JOIN_HANDOVER")) join_handover = value == 1;
    return 0;
}

int onload_thread_set_spin(int type, int spin) {
    char thread[16];
    prctl(PR_GET_NAME, thread, 0, 0, 0);
    note("thread_set_spin type=%d spin=%d thread=%s\n", type, spin, thread);
    return 0;
}

/* ---- the sockets' own calls */

static void joins(int fd, int level, int name) {
    if (fd >= 0 && fd < MOST_FDS && level == IPPROTO_IP &&
        (name == IP_ADD_MEMBERSHIP || name == IP_ADD_SOURCE_MEMBERSHIP || name == MCAST_JOIN_SOURCE_GROUP))
        handed_over[fd] = 1;
}

/* Its filters know no senders: a group that is joined for one of them is joined for all. */
static int join_of_all(int fd, int name, const void* value) {
    struct ip_mreqn all = {{0}, {0}, 0};
    if (name == MCAST_JOIN_SOURCE_GROUP) {
        const struct group_source_req* one = value;
        all.imr_multiaddr = ((const struct sockaddr_in*)&one->gsr_group)->sin_addr;
        all.imr_ifindex = (int)one->gsr_interface;
    } else {
        const struct ip_mreq_source* one = value;
        all.imr_multiaddr = one->imr_multiaddr;
        all.imr_address = one->imr_interface;
    }
    return (int)syscall(SYS_setsockopt, fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &all, sizeof all);
}

int setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
    joins(fd, level, name);
    if (level == IPPROTO_IP && (name == MCAST_JOIN_SOURCE_GROUP || name == IP_ADD_SOURCE_MEMBERSHIP) &&
        accelerated(fd))
        return join_of_all(fd, name, value);
    return (int)syscall(SYS_setsockopt, fd, level, name, value, length);
}

int close(int fd) {
    for (int i = 0; i < BUFFERS; ++i)
        if (pool[i].state == KEPT && pool[i].fd == fd) broken("socket closed while its buffers are kept");
    if (fd >= 0 && fd < MOST_FDS) {
        handed_over[fd] = 0;
        received[fd] = 0;
    }
    return (int)syscall(SYS_close, fd);
}

/* The card's time takes the place of the kernel's message without one. */
static void put_hardware_time(struct msghdr* header) {
    if (!hardware_ns) return;
    for (struct cmsghdr* c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPING) continue;
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        long long ns = now.tv_sec * 1000000000LL + now.tv_nsec + atoll(hardware_ns);
        struct timespec time = {ns / 1000000000, ns % 1000000000};
        memcpy(CMSG_DATA(c) + 2 * sizeof time, &time, sizeof time);
    }
}

int recvmmsg(int fd, struct mmsghdr* headers, unsigned count, int flags, struct timespec* timeout) {
    int got = (int)syscall(SYS_recvmmsg, fd, headers, count, flags, timeout);
    for (int i = 0; i < got && accelerated(fd); ++i) put_hardware_time(&headers[i].msg_hdr);
    return got;
}

/* ---- receiving without a copy */

static int take_buffer(int fd) {
    for (int i = 0; i < BUFFERS; ++i)
        if (pool[i].state == FREE) {
            pool[i].state = LENT;
            pool[i].fd = fd;
            pool[i].next = -1;
            return i;
        }
    return -1;
}

/* A datagram's first buffer brings back the others. */
static void give_back(int i) {
    while (i >= 0) {
        int next = pool[i].next;
        memset(pool[i].data, 0xDD, PIECE);
        pool[i].state = FREE;
        i = next;
    }
}

/* Puts a datagram into buffers; returns how many, 0: there are none left. */
static unsigned fill(int fd, const uint8_t* data, size_t length, struct piece* pieces) {
    unsigned count = 0;
    int before = -1;
    do {
        int at = take_buffer(fd);
        if (at < 0) return 0;
        size_t part = length < PIECE ? length : PIECE;
        memcpy(pool[at].data, data, part);
        pieces[count++] = (struct piece){pool[at].data, part, (handle)(uintptr_t)(at + 1), 0, NULL};
        if (before >= 0) pool[before].next = at;
        before = at;
        data += part;
        length -= part;
    } while (length > 0);
    return count;
}

static int waits_at_kernel(int fd) {
    char byte;
    if (!kernel_every || (received[fd] + 1) % kernel_every) return 0;
    waiting[fd] = syscall(SYS_recvfrom, fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) >= 0;
    return waiting[fd];
}

int onload_zc_recv(int fd, struct receive_args* args) {
    static uint8_t datagram[65536];
    struct piece pieces[MOST_PIECES];
    const struct msghdr supplied = args->header;
    if (is("stub") || !strcmp(zero_copy, "enosys")) return -ENOSYS;
    if (!accelerated(fd)) return -ESOCKTNOSUPPORT;
    if (args->flags & ~(MSG_DONTWAIT | 0x40000000)) return -EINVAL;
    for (int called = 0;; called = 1) {
        if (!strcmp(zero_copy, "lost") && received[fd] == 100) return -ESOCKTNOSUPPORT;
        if (waits_at_kernel(fd)) return -ENOTEMPTY; /* also when the callback was called */
        struct iovec room = {datagram, sizeof datagram};
        args->header = supplied;
        args->header.msg_iov = &room;
        args->header.msg_iovlen = 1;
        ssize_t length = syscall(SYS_recvmsg, fd, &args->header, MSG_DONTWAIT);
        if (length < 0) return errno == EAGAIN && called ? 0 : -errno;
        ++received[fd];
        put_hardware_time(&args->header);
        args->pieces = pieces;
        args->header.msg_iov = NULL; /* not to be used */
        args->header.msg_iovlen = fill(fd, datagram, (size_t)length, pieces);
        if (!args->header.msg_iovlen) broken("buffers are kept for ever");
        int first = (int)(uintptr_t)pieces[0].buffer - 1;
        int answer = args->callback(args, 1 /* ONLOAD_ZC_MSG_SHARED, as any multicast */);
        if (answer & ~(TERMINATE | KEEP)) broken("answer of the callback");
        if (answer & KEEP)
            pool[first].state = KEPT;
        else
            give_back(first);
        memset(pieces, 0xDD, sizeof pieces);
        if (answer & TERMINATE) return 0;
    }
}

int onload_zc_release_buffers(int fd, handle* buffers, int count) {
    for (int i = 0; i < count; ++i) {
        int at = (int)(uintptr_t)buffers[i] - 1;
        if (at < 0 || at >= BUFFERS || pool[at].state != KEPT) broken("released what is not kept");
        if (pool[at].fd != fd) broken("released at another socket");
        give_back(at);
    }
    return 0;
}

int onload_recvmsg_kernel(int fd, struct msghdr* header, int flags) {
    if (!waiting[fd]) {
        errno = EAGAIN;
        return kernel_empty ? 0 : -1;
    }
    waiting[fd] = 0;
    ++received[fd];
    return (int)syscall(SYS_recvmsg, fd, header, flags);
}
