// Follows one packet in so many through the receive thread and keeps what each hop took in shared memory. No
// system call, no allocation; the packets in between pay a comparison or two. It reads the clock that it is
// given: the stages themselves know of no time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "../message.hpp"
#include "hops.hpp"
#include "tick_clock.hpp"

namespace fh::latency {

// Clock: ticks(), utc_ns(), scale() (ns per tick, times 2^32).
template <class Clock>
class Meter {
  public:
    Meter(LatencyPage& page, std::uint32_t sample_every, Clock clock)
        : page_(page),
          clock_(std::move(clock)),
          every_(sample_every),
          left_(sample_every == 0 ? std::numeric_limits<std::uint64_t>::max() : sample_every) {
        page_.sample_every.store(sample_every, std::memory_order_relaxed);
        show_clock();
    }
    bool on() const { return every_ != 0; }
    Clock& clock() { return clock_; }

    // What readers need to turn ticks into nanoseconds; after each re-check of the clock.
    void show_clock() {
        page_.scale.store(clock_.scale(), std::memory_order_relaxed);
        if constexpr (requires { clock_.source(); }) {
            page_.clock.store(static_cast<std::uint32_t>(clock_.source()), std::memory_order_relaxed);
            page_.stamp_ns.store(clock_.stamp_ns(), std::memory_order_relaxed);
            page_.recalibrated.store(clock_.recalibrated(), std::memory_order_relaxed);
        }
    }

    // ---- in this order, for each turn of the loop

    // The source has handed over so many datagrams; the sampled one may be among them.
    void dequeued(std::size_t datagrams) {
        if (datagrams < left_) [[likely]]
            return;
        dequeued_ticks_ = clock_.ticks();
        dequeued_utc_ns_ = clock_.utc_ns();
    }
    // The turn of the next datagram of a line. If the sampled one delivers nothing of its own (the other
    // line's copy, a heartbeat, messages behind a hole) the one after it is tried: all hops are of the same
    // packets.
    void next(const Datagram& datagram) {
        if (--left_ == 0) [[unlikely]]
            begin(datagram);
    }

    // ---- on its way

    // Is there a sampled datagram that has not delivered yet, and does this message lie in it? Those that
    // were held lie elsewhere.
    bool following() const { return length_ != 0; }
    bool owns(const std::uint8_t* message) const {
        return reinterpret_cast<std::uintptr_t>(message) - begin_ < length_;
    }
    void sequenced(std::uint64_t last_sequence) {
        left_ = every_;
        length_ = 0;
        announce(last_sequence);
        sequenced_ticks_ = clock_.ticks();
    }
    void booked() { booked_ticks_ = clock_.ticks(); }
    // `recorded`: the last message gave a record, and booked() was called before it.
    void published(bool recorded) {
        const std::uint64_t ticks = clock_.ticks();
        if (!recorded) booked_ticks_ = ticks;
        account(ticks, recorded);
        if (recorded) sample().published_ticks.store(ticks, std::memory_order_release);
    }

  private:
    [[gnu::noinline]] void begin(const Datagram& datagram) {
        left_ = 1;
        begin_ = reinterpret_cast<std::uintptr_t>(datagram.data);
        length_ = datagram.length;
        kind_ = datagram.timestamp_kind;
        arrived_utc_ns_ = datagram.ts_recv_ns;
        begun_ticks_ = clock_.ticks();
    }

    Sample& sample() { return page_.samples[announced_ % sample_slots]; }

    // Before the records, so that a consumer that meets them knows.
    void announce(std::uint64_t last_sequence) {
        ++announced_;
        Sample& slot = sample();
        slot.index.store(0, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        slot.sequence.store(last_sequence, std::memory_order_relaxed);
        slot.dequeued_ticks.store(dequeued_ticks_, std::memory_order_relaxed);
        slot.receive_ns.store(receive_ns(), std::memory_order_relaxed);
        slot.published_ticks.store(0, std::memory_order_relaxed);
        slot.index.store(announced_, std::memory_order_release);
        page_.announced.store(announced_, std::memory_order_release);
    }

    // By the kernel, whose clock is read at the other end too, right or wrong; or by a card whose clock is
    // trusted.
    bool stamped() const {
        return without_doubt(kind_) == TimestampKind::kernel || kind_ == TimestampKind::hardware;
    }
    std::uint64_t receive_ns() const {
        if (!stamped() || dequeued_utc_ns_ < arrived_utc_ns_) return 0;
        return static_cast<std::uint64_t>(dequeued_utc_ns_ - arrived_utc_ns_);
    }

    // Hops are differences of times since the packet was dequeued, so that they add up to the last
    // nanosecond.
    [[gnu::noinline]] void account(std::uint64_t published_ticks, bool recorded) {
        const std::uint64_t version = page_.version.load(std::memory_order_relaxed);
        page_.version.store(version + 1, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        add_word(page_.hops.samples);
        add_word(page_.hops.kinds[static_cast<std::size_t>(without_doubt(kind_))]);
        if (stamped()) {
            if (dequeued_utc_ns_ < arrived_utc_ns_) add_word(page_.hops.backwards);
            hop(Hop::receive).add_shared(receive_ns());
        }
        std::uint64_t at_ns = 0;
        add(Hop::queue, begun_ticks_, at_ns);
        add(Hop::decode, sequenced_ticks_, at_ns);
        add(Hop::book, booked_ticks_, at_ns);
        if (recorded) add(Hop::publish, published_ticks, at_ns);
        hop(Hop::total).add_shared(receive_ns() + at_ns);
        page_.version.store(version + 2, std::memory_order_release);
    }
    void add(Hop which, std::uint64_t ticks, std::uint64_t& at_ns) {
        const std::uint64_t now_ns =
            ticks < dequeued_ticks_ ? 0 : to_ns(ticks - dequeued_ticks_, clock_.scale());
        if (now_ns < at_ns) add_word(page_.hops.backwards);
        const std::uint64_t before_ns = std::exchange(at_ns, std::max(at_ns, now_ns));
        hop(which).add_shared(at_ns - before_ns);
    }
    Histogram& hop(Hop which) { return page_.hops.hops[static_cast<std::size_t>(which)]; }
    static void add_word(std::uint64_t& word) { __atomic_store_n(&word, word + 1, __ATOMIC_RELAXED); }

    LatencyPage& page_;
    Clock clock_;
    std::uint64_t every_;
    std::uint64_t left_;        // datagrams until the one, itself included
    std::uintptr_t begin_ = 0;  // the sampled datagram; length 0: there is none
    std::size_t length_ = 0;
    TimestampKind kind_ = TimestampKind::none;
    std::int64_t arrived_utc_ns_ = 0;
    std::int64_t dequeued_utc_ns_ = 0;
    std::uint64_t dequeued_ticks_ = 0;
    std::uint64_t begun_ticks_ = 0;
    std::uint64_t sequenced_ticks_ = 0;
    std::uint64_t booked_ticks_ = 0;
    std::uint64_t announced_ = 0;
};

}  // namespace fh::latency
