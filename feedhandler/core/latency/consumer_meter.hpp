// The last hop, measured where it ends: from a record's publishing until a consumer has it. The consumer's
// memory is its own, the channel's is read-only to it: it knows sampled packets by the number of their last
// message and keeps the histograms itself.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "hops.hpp"
#include "tick_clock.hpp"

namespace fh::latency {

class ConsumerMeter {
  public:
    explicit ConsumerMeter(const LatencyPage& page) { attach(page); }

    // From the next sample on; also when the daemon has been restarted.
    void attach(const LatencyPage& page) {
        page_ = &page;
        source_ = static_cast<TickSource>(page.clock.load(std::memory_order_relaxed));
        next_ = settled_ = page.announced.load(std::memory_order_acquire) + 1;
        expecting_ = false;
    }

    // Right before a record is handed out.
    void on_record(std::uint32_t sequence_low) {
        // One that is never met (numbers begin anew with a session) is given up when its place is taken.
        if (!(expecting_ && is_there(next_)) && !expect()) return;
        while (static_cast<std::int32_t>(sequence_low - expected_) >= 0) {
            if (next_ - settled_ == sample_slots) settle();
            if (next_ - settled_ == sample_slots) forget();
            seen_ticks_[next_ % sample_slots] = sequence_low == expected_ ? read_ticks(source_) : 0;
            ++next_;
            if (!expect()) return;
        }
    }

    // A record may be read before the writer has noted when it was published: look again afterwards.
    void settle() {
        for (; settled_ < next_; ++settled_) {
            const std::uint64_t seen = seen_ticks_[settled_ % sample_slots];
            if (seen == 0) continue;  // passed without a record that was wanted
            const Sample& slot = page_->samples[settled_ % sample_slots];
            const std::uint64_t published = slot.published_ticks.load(std::memory_order_acquire);
            const std::uint64_t dequeued = slot.dequeued_ticks.load(std::memory_order_relaxed);
            const std::uint64_t receive_ns = slot.receive_ns.load(std::memory_order_relaxed);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (!is_there(settled_)) {
                ++missed_;
                continue;
            }
            if (published == 0) return;  // any moment now
            consume_.add(elapsed_ns(published, seen));
            whole_.add(receive_ns + elapsed_ns(dequeued, seen));
        }
    }

    const Histogram& consume() const { return consume_; }  // published until handed out
    const Histogram& whole() const { return whole_; }      // stamp of network card or kernel until handed out
    std::uint64_t missed() const { return missed_; }  // samples that were overwritten before they were seen

  private:
    // Loads the next sample's number, if there is one.
    bool expect() {
        const std::uint64_t newest = page_->announced.load(std::memory_order_acquire);
        expecting_ = false;
        if (next_ > newest) return false;
        if (newest - next_ >= sample_slots - 1) {  // the oldest place is the next to be overwritten
            settle();
            while (settled_ < next_) forget();
            missed_ += newest - next_;
            next_ = settled_ = newest;
        }
        const Sample& slot = page_->samples[next_ % sample_slots];
        expected_ = static_cast<std::uint32_t>(slot.sequence.load(std::memory_order_relaxed));
        std::atomic_thread_fence(std::memory_order_acquire);
        expecting_ = is_there(next_);
        return expecting_;
    }

    bool is_there(std::uint64_t index) const {
        return page_->samples[index % sample_slots].index.load(std::memory_order_relaxed) == index;
    }

    void forget() {
        if (seen_ticks_[settled_ % sample_slots] != 0) ++missed_;
        ++settled_;
    }

    std::uint64_t elapsed_ns(std::uint64_t from, std::uint64_t to) const {
        const std::uint64_t scale = page_->scale.load(std::memory_order_relaxed);
        return to < from ? 0 : to_ns(to - from, scale);
    }

    const LatencyPage* page_ = nullptr;
    TickSource source_ = TickSource::monotonic;
    std::uint64_t next_ = 1;     // index of the sample that is expected next
    std::uint64_t settled_ = 1;  // all before it are in the histograms
    bool expecting_ = false;
    std::uint32_t expected_ = 0;  // low 32 bits of its number
    std::uint64_t missed_ = 0;
    std::array<std::uint64_t, sample_slots> seen_ticks_{};
    Histogram consume_;
    Histogram whole_;
};

}  // namespace fh::latency
