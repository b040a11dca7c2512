// One receive queue of a device: its socket, its frames and the two rings they go round by.
#pragma once

#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "receive/clock.hpp"
#include "receive/device_lines.hpp"
#include "receive/multicast.hpp"
#include "receive/timestamping.hpp"
#include "receive/xdp/filter.hpp"
#include "receive/xdp/refuse.hpp"
#include "receive/xdp/umem.hpp"

namespace fh::receive::xdp {

// A ring in memory shared with the kernel: one side produces, the other consumes. Both numbers run freely
// and wrap.
template <class T>
class SharedRing {
  public:
    SharedRing() = default;
    // Null when the kernel refuses; then errno says why.
    static SharedRing map(int socket, std::uint64_t page, const xdp_ring_offset& offsets,
                          std::uint32_t entries) {
        SharedRing out;
        const std::size_t bytes = offsets.desc + entries * sizeof(T);
        void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, socket,
                            static_cast<off_t>(page));
        if (memory == MAP_FAILED) return out;
        out.memory_ = {static_cast<std::uint8_t*>(memory), Unmap{bytes}};
        out.producer_ = out.template at<std::uint32_t>(offsets.producer);
        out.consumer_ = out.template at<std::uint32_t>(offsets.consumer);
        out.flags_ = out.template at<std::uint32_t>(offsets.flags);
        out.entries_ = out.template at<T>(offsets.desc);
        out.mask_ = entries - 1;
        return out;
    }
    explicit operator bool() const { return memory_ != nullptr; }

    T& operator[](std::uint32_t number) const { return entries_[number & mask_]; }
    std::uint32_t produced() const { return __atomic_load_n(producer_, __ATOMIC_ACQUIRE); }
    void produce(std::uint32_t up_to) const { __atomic_store_n(producer_, up_to, __ATOMIC_RELEASE); }
    void consume(std::uint32_t up_to) const { __atomic_store_n(consumer_, up_to, __ATOMIC_RELEASE); }
    bool needs_wakeup() const {
        return (__atomic_load_n(flags_, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0;
    }

  private:
    struct Unmap {
        std::size_t bytes = 0;
        void operator()(std::uint8_t* memory) const { munmap(memory, bytes); }
    };
    template <class U>
    U* at(std::uint64_t offset) const {
        return reinterpret_cast<U*>(memory_.get() + offset);
    }

    std::unique_ptr<std::uint8_t, Unmap> memory_;
    std::uint32_t* producer_ = nullptr;
    std::uint32_t* consumer_ = nullptr;
    std::uint32_t* flags_ = nullptr;
    T* entries_ = nullptr;
    std::uint32_t mask_ = 0;
};

struct QueueSettings {
    unsigned device = 0;  // index
    std::uint32_t queue = 0;
    std::uint32_t frames = 0;  // a power of two
    std::size_t frame_bytes = 0;
    std::uint16_t bind_flags = 0;  // XDP_COPY, XDP_ZEROCOPY or neither: what the driver can
    bool busy_poll = false;
};

// The kernel clears up after an ended process a little later than it ends: queue and locked memory may still
// be the predecessor's.
template <class Attempt>
bool patiently(int taken, Attempt attempt) {
    using Clock = std::chrono::steady_clock;
    for (const auto deadline = Clock::now() + std::chrono::seconds(1);;) {
        if (attempt()) return true;
        if (errno != taken || Clock::now() >= deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

// Whole seconds by which CLOCK_TAI is ahead of UTC here, 0 where nobody has told the kernel. `before`: what
// it was when it was looked at last, for comparisons that were interrupted.
inline std::int64_t tai_lead_ns(std::int64_t before) {
    constexpr std::int64_t second_ns = 1'000'000'000, interrupted_ns = 100'000'000;
    for (int tries = 0; tries < 3; ++tries) {
        const std::int64_t tai_ns = read_clock(CLOCK_TAI), utc_ns = read_clock(CLOCK_REALTIME);
        if (read_clock(CLOCK_TAI) - tai_ns < interrupted_ns)
            return (tai_ns - utc_ns + second_ns / 2) / second_ns * second_ns;
    }
    return before;
}

class Queue {
  public:
    Queue(const QueueSettings& settings, const std::string& what)
        : umem_(settings.frames, settings.frame_bytes, what),
          socket_(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)) {
        need(fd() >= 0, what, errno == EAFNOSUPPORT ? "a kernel without AF_XDP" : "AF_XDP socket");
        register_memory(what);
        make_rings(settings.frames, what);
        if (settings.busy_poll) ask_for_busy_poll();
        bind_to(settings, what);
        // All frames are the kernel's.
        for (; filled_ < settings.frames; ++filled_) fill_[filled_] = filled_ * umem_.frame_bytes();
        fill_.produce(filled_);
        refresh_stats();
    }

    int fd() const { return socket_.get(); }
    const Umem& umem() const { return umem_; }
    bool zero_copy() const { return zero_copy_; }
    bool busy_poll() const { return busy_poll_; }
    std::uint64_t drops() const { return drops_; }
    std::uint32_t napi_id() const { return napi_id_; }

    // What the last call handed out goes back to the kernel first.
    std::size_t receive(std::span<Datagram> out, const LineTable& lines, ReceiveCounters& counters) {
        give_back();
        std::uint32_t there = received_.produced() - next_;
        // Either the driver's work is done here and now, by us; or it found no frames, a moment before it was
        // given some, and waits to be told.
        if (there == 0 && (polls_ || fill_.needs_wakeup())) {
            wake();
            there = received_.produced() - next_;
        }
        const auto most = static_cast<std::uint32_t>(out.size());
        std::size_t count = 0;
        for (const std::uint32_t end = next_ + std::min(there, most); next_ != end; ++next_) {
            const xdp_desc& frame = received_[next_];
            std::uint8_t* data = umem_.data() + frame.addr;
            const FrameTimes times = take_times(data);
            if (!lines.take(data, frame.len, false, out[count], counters)) continue;
            if (times.mark == FrameTimes::written)
                set_receive_time(out[count], {times.tai_ns - tai_lead_ns_, times.device_ns, {}});
            ++count;
        }
        return count;
    }

    void refresh_stats() {
        xdp_statistics stats{};
        socklen_t length = sizeof(stats);
        // Without a free frame rx_dropped grows too; the number of times none was found says less: a driver
        // that copies nothing looks again and again.
        if (getsockopt(fd(), SOL_XDP, XDP_STATISTICS, &stats, &length) == 0)
            drops_ = stats.rx_dropped + stats.rx_ring_full;
        int id = 0;
        length = sizeof(id);
        if (getsockopt(fd(), SOL_SOCKET, SO_INCOMING_NAPI_ID, &id, &length) == 0)
            napi_id_ = static_cast<std::uint32_t>(id);
        polls_ = busy_poll_ && napi_id_ != 0;
        tai_lead_ns_ = tai_lead_ns(tai_lead_ns_);
    }

  private:
    // What the filter wrote before the frame; taken away, so that a frame without times has none.
    static FrameTimes take_times(std::uint8_t* frame) {
        FrameTimes out;
        std::uint8_t* const place = frame - sizeof(out);
        std::memcpy(&out, place, sizeof(out));
        if (out.mark == FrameTimes::written)
            std::memset(place + offsetof(FrameTimes, mark), 0, sizeof(out.mark));
        return out;
    }

    void register_memory(const std::string& what) const {
        xdp_umem_reg memory{};
        memory.addr = reinterpret_cast<std::uintptr_t>(umem_.data());
        memory.len = umem_.bytes();
        memory.chunk_size = static_cast<std::uint32_t>(umem_.frame_bytes());
        const bool ok = patiently(ENOBUFS, [&] { return set_option(fd(), SOL_XDP, XDP_UMEM_REG, memory); });
        const std::string size = std::to_string(umem_.bytes() >> 10) + " KiB for frames";
        need(ok, what,
             errno == ENOBUFS ? size +
                                    " are beyond RLIMIT_MEMLOCK: CAP_IPC_LOCK, a higher limit or fewer "
                                    "receive.xdp.frames"
                              : size);
    }

    // A ring for all frames can never be full. Nothing is sent, but without a completion ring there is no
    // socket.
    void make_rings(std::uint32_t frames, const std::string& what) {
        constexpr int completions = 64;
        const auto entries = static_cast<int>(frames);
        xdp_mmap_offsets offsets{};
        socklen_t length = sizeof(offsets);
        const bool ok = set_option(fd(), SOL_XDP, XDP_UMEM_FILL_RING, entries) &&
                        set_option(fd(), SOL_XDP, XDP_UMEM_COMPLETION_RING, completions) &&
                        set_option(fd(), SOL_XDP, XDP_RX_RING, entries) &&
                        getsockopt(fd(), SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) == 0;
        need(ok, what, "rings for " + std::to_string(frames) + " frames (receive.xdp.frames)");
        fill_ = SharedRing<std::uint64_t>::map(fd(), XDP_UMEM_PGOFF_FILL_RING, offsets.fr, frames);
        need(bool(fill_), what, "mapping the fill ring");
        received_ = SharedRing<xdp_desc>::map(fd(), XDP_PGOFF_RX_RING, offsets.rx, frames);
        need(bool(received_), what, "mapping the receive ring");
    }

    void ask_for_busy_poll() {
        busy_poll_ = set_option(fd(), SOL_SOCKET, SO_PREFER_BUSY_POLL, 1) &&
                     set_option(fd(), SOL_SOCKET, SO_BUSY_POLL, busy_poll_us) &&
                     set_option(fd(), SOL_SOCKET, SO_BUSY_POLL_BUDGET, 64);
    }

    void bind_to(const QueueSettings& settings, const std::string& what) {
        sockaddr_xdp address{};
        address.sxdp_family = AF_XDP;
        address.sxdp_ifindex = settings.device;
        address.sxdp_queue_id = settings.queue;
        address.sxdp_flags = static_cast<std::uint16_t>(settings.bind_flags | XDP_USE_NEED_WAKEUP);
        const bool ok = patiently(EBUSY, [&] {
            return ::bind(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
        });
        const std::string queue = "queue " + std::to_string(settings.queue);
        need(ok, what,
             errno == EBUSY                        ? queue + " has a socket of another process"
             : errno == EINVAL                     ? queue + " is not there (receive.xdp.queues)"
             : settings.bind_flags == XDP_ZEROCOPY ? queue + ": zero-copy (receive.xdp.zero_copy)"
                                                   : queue + ": bind");
        xdp_options granted{};
        socklen_t length = sizeof(granted);
        zero_copy_ = getsockopt(fd(), SOL_XDP, XDP_OPTIONS, &granted, &length) == 0 &&
                     (granted.flags & XDP_OPTIONS_ZEROCOPY) != 0;
    }

    void give_back() {
        if (taken_ == next_) return;
        const std::uint64_t whole_frames = ~std::uint64_t{umem_.frame_bytes() - 1};
        for (; taken_ != next_; ++taken_) fill_[filled_++] = received_[taken_].addr & whole_frames;
        received_.consume(taken_);
        fill_.produce(filled_);
        if (fill_.needs_wakeup()) wake();
    }

    void wake() const { recvfrom(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr); }

    Umem umem_;
    Descriptor socket_;
    SharedRing<std::uint64_t> fill_;  // of frames that the kernel may write to
    SharedRing<xdp_desc> received_;
    std::uint32_t filled_ = 0;  // frames ever given to the kernel
    std::uint32_t next_ = 0;    // of those received, the first not seen
    std::uint32_t taken_ = 0;   // of those received, the first not given back
    bool busy_poll_ = false;    // granted
    bool polls_ = false;        // and of use: there is something to poll
    bool zero_copy_ = false;
    std::uint32_t napi_id_ = 0;
    std::uint64_t drops_ = 0;
    std::int64_t tai_lead_ns_ = 0;  // of CLOCK_TAI over UTC
};

}  // namespace fh::receive::xdp
