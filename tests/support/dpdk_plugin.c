/* A stand-in for the DPDK plugin, of another version or with a device clock of its own: what the core makes of
 * it. It has no DPDK. VERSION, and FRAME (the bytes of one frame) are given when it is compiled. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct frame {
    const uint8_t *data;
    uint32_t length, flags;
    uint64_t ticks;
};
struct stats {
    uint64_t drops, buffer_bytes, ticks;
    int64_t monotonic_ns, realtime_ns;
    uint32_t has_ticks, queues;
};
struct api {
    uint32_t size, version;
    void *(*open)(const void *, char *, size_t);
    size_t (*poll)(void *, uint32_t, struct frame *, size_t);
    void (*stats)(void *, uint32_t, struct stats *);
    size_t (*take_log)(void *, char *, size_t);
    void (*close)(void *);
};

static const uint8_t bytes[] = {FRAME};

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
/* A clock of 3 ticks a nanosecond that starts at no round number. */
static uint64_t ticks(int64_t monotonic_ns) { return 12345u + 3u * (uint64_t)monotonic_ns; }

static void *open_ports(const void *settings, char *error, size_t size) {
    (void)settings, (void)error, (void)size;
    return malloc(1);
}
/* One frame a poll, with the flags that the variable DPDK_FLAGS says; it came 1 ms ago. */
static size_t poll_port(void *handle, uint32_t port, struct frame *out, size_t most) {
    (void)handle, (void)port;
    const char *flags = getenv("DPDK_FLAGS");
    if (most == 0 || flags == NULL) return 0;
    out[0] = (struct frame){bytes, sizeof(bytes), (uint32_t)atoi(flags),
                            ticks(now_ns(CLOCK_MONOTONIC) - 1000000)};
    return 1;
}
static void get_stats(void *handle, uint32_t port, struct stats *out) {
    (void)handle, (void)port;
    memset(out, 0, sizeof(*out));
    out->drops = 7;
    out->monotonic_ns = now_ns(CLOCK_MONOTONIC);
    out->realtime_ns = now_ns(CLOCK_REALTIME);
    out->ticks = ticks(out->monotonic_ns);
    out->has_ticks = 1;
}
static size_t take_log(void *handle, char *out, size_t size) {
    (void)handle, (void)out, (void)size;
    return 0;
}

const struct api *fh_dpdk_plugin(void) {
    static const struct api made = {sizeof(struct api), VERSION, open_ports, poll_port, get_stats, take_log, free};
    return &made;
}
