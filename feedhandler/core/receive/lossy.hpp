// Faults on a line: loss (in bursts), duplicates, reordering, damage. Seeded: the same packets and seed give
// the same faults on every machine, and switching one fault on does not move the others (each draws from a
// stream of its own).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "frame/byte_order.hpp"
#include "frame/moldudp64.hpp"
#include "message.hpp"
#include "random.hpp"
#include "receive/source.hpp"

namespace fh::receive {

struct Faults {
    double drop = 0;  // share of the packets lost, 0..1
    double drop_burst =
        1;  // mean length of a loss burst, packets; never less than independent losses give: 1 / (1 - drop)
    double duplicate = 0;  // probability that a second, intact copy follows
    double reorder = 0;    // probability of being delayed by 1..max_reorder_distance packets
    double corrupt = 0;    // probability of damage that the parse check of MoldUDP64 sees
    bool any() const { return drop > 0 || duplicate > 0 || reorder > 0 || corrupt > 0; }
};

// What was done to one line, in packets unless named otherwise.
struct FaultCounts {
    std::uint64_t offered = 0;  // packets that came in
    std::uint64_t delivered =
        0;  // packets that went out: offered - dropped + duplicated (less what is still delayed)
    std::uint64_t dropped = 0;
    std::uint64_t duplicated = 0;
    std::uint64_t reordered = 0;         // overtaken by at least one other packet
    std::uint64_t corrupted = 0;         // each arrives, and must be counted as malformed
    std::uint64_t offered_messages = 0;  // message numbers in the packets offered
    std::uint64_t lost_messages =
        0;  // message numbers of them that the line did not bring: dropped, or damaged without a copy
};

inline constexpr unsigned max_reorder_distance = 8;  // packets

// The faults of one line. `push` takes one packet and calls `out(const Datagram&)` for each that comes out.
// No allocation after construction. Packets that came out stay valid until `recycle`.
class LossyLine {
  public:
    LossyLine(const Faults& faults, std::uint64_t seed, unsigned line,
              std::size_t max_payload = max_udp_payload)
        : drop_(faults.drop, faults.drop_burst),
          duplicate_(threshold(faults.duplicate)),
          reorder_(threshold(faults.reorder)),
          corrupt_(threshold(faults.corrupt)),
          drop_random_(seed, line * 8u + 1),
          duplicate_random_(seed, line * 8u + 2),
          reorder_random_(seed, line * 8u + 3),
          corrupt_random_(seed, line * 8u + 4),
          max_payload_(max_payload),
          memory_(std::make_unique_for_overwrite<std::uint8_t[]>(max_payload * slot_count)) {
        for (std::uint16_t i = 0; i < slot_count; ++i)
            free_[free_count_++] = static_cast<std::uint16_t>(slot_count - 1 - i);
        bad_ = drop_random_.chance(drop_.share);
    }

    // Keeps the ranges of numbers that the line did not bring, up to `capacity` ranges (neighbours merge);
    // allocates now.
    void log_losses(std::size_t capacity) { losses_.reserve(capacity); }
    std::span<const SequenceRange> losses() const { return losses_; }
    bool losses_complete() const { return losses_complete_; }

    const FaultCounts& counts() const { return counts_; }
    // False: call `recycle` (after using up what came out) before the next push.
    bool has_room() const { return free_count_ > 0; }
    bool holds_packets() const { return held_count_ > 0; }

    template <class Out>
    void push(const Datagram& packet, Out&& out) {
        const SequenceRange numbers = frame::numbers_of(packet.data, packet.length);
        ++counts_.offered;
        counts_.offered_messages += numbers.size();
        const bool dropped = draw_drop();
        const bool copied = duplicate_random_.chance(duplicate_);
        const bool fits = packet.length <= max_payload_ && has_room();
        const std::uint32_t delay = draw_delay() * fits;
        const bool damaged = corrupt_random_.chance(corrupt_) && fits;
        if (dropped) {
            ++counts_.dropped;
            lose(numbers);
        } else {
            if (damaged && !copied) lose(numbers);
            forward(packet, damaged, delay, out);
            if (copied) {
                ++counts_.duplicated;
                emit(packet, out);
            }
        }
        release_due(packet.ts_recv_ns, out);
    }

    // Lets everything go that is still delayed: at the end of the input, and when the line falls silent.
    template <class Out>
    void flush(std::int64_t ts_recv_ns, Out&& out) {
        while (held_count_ > 0) release(0, ts_recv_ns, out);
    }

    // The packets that came out so far are no longer needed.
    void recycle() {
        while (used_count_ > 0) free_[free_count_++] = used_[--used_count_];
    }

  private:
    // Two states, good and bad (Gilbert): a burst has mean length 1 / leave, the stationary share of bad is
    // `drop`.
    struct DropModel {
        std::uint64_t share, enter, leave;
        DropModel(double drop, double burst) : share(threshold(drop)) {
            const double shortest = drop < 1 ? 1 / (1 - drop) : 1;
            const double mean = burst > shortest ? burst : shortest;
            leave = drop < 1 ? threshold(1 / mean) : 0;
            enter = drop < 1 ? threshold(drop / (mean * (1 - drop))) : threshold(1);
        }
    };
    struct Held {
        Datagram packet;
        std::uint16_t slot;
        std::uint8_t remaining;  // packets still to come before it is let go
        bool passed;
    };
    static constexpr std::size_t slot_count = 64;  // delayed ones, and those that came out since `recycle`

    bool draw_drop() {
        const bool dropped = bad_;
        bad_ = drop_random_.chance(bad_ ? (1ull << 63) - drop_.leave : drop_.enter);
        return dropped;
    }

    std::uint32_t draw_delay() {
        const bool delayed = reorder_random_.chance(reorder_);
        const std::uint32_t distance = 1 + reorder_random_.below(max_reorder_distance);
        return delayed ? distance : 0;
    }

    void lose(SequenceRange numbers) {
        if (numbers.size() == 0) return;
        counts_.lost_messages += numbers.size();
        if (!losses_.empty() && losses_.back().end == numbers.first) {
            losses_.back().end = numbers.end;
        } else if (losses_.size() < losses_.capacity()) {
            losses_.push_back(numbers);
        } else {
            losses_complete_ = false;
        }
    }

    template <class Out>
    void forward(const Datagram& packet, bool damaged, std::uint32_t delay, Out&& out) {
        if (!damaged && delay == 0) return emit(packet, out);
        const std::uint16_t slot = free_[--free_count_];
        Datagram copy = packet;
        std::uint8_t* bytes = &memory_[slot * max_payload_];
        std::memcpy(bytes, packet.data, packet.length);
        copy.data = bytes;
        if (damaged) {
            ++counts_.corrupted;
            copy.length = damage(bytes, packet.length);
        }
        if (delay > 0 && held_count_ < held_.size()) {
            // One more: the countdown below runs for this packet too.
            held_[held_count_++] = {copy, slot, static_cast<std::uint8_t>(delay + 1), false};
            return;
        }
        used_[used_count_++] = slot;
        emit(copy, out);
    }

    template <class Out>
    void emit(const Datagram& packet, Out&& out) {
        ++counts_.delivered;
        for (std::size_t i = 0; i < held_count_; ++i) held_[i].passed = true;
        out(packet);
    }

    template <class Out>
    void release_due(std::int64_t ts_recv_ns, Out&& out) {
        for (std::size_t i = 0; i < held_count_; ++i) --held_[i].remaining;
        for (std::size_t i = 0; i < held_count_;) {
            if (held_[i].remaining == 0) {
                release(i, ts_recv_ns, out);
            } else {
                ++i;
            }
        }
    }

    template <class Out>
    void release(std::size_t index, std::int64_t ts_recv_ns, Out&& out) {
        Held held = held_[index];
        for (std::size_t i = index + 1; i < held_count_; ++i) held_[i - 1] = held_[i];
        --held_count_;
        used_[used_count_++] = held.slot;
        counts_.reordered += held.passed;
        held.packet.ts_recv_ns = ts_recv_ns;  // it arrives when it arrives
        emit(held.packet, out);
    }

    // Cuts the packet short, alters a block's length, or cuts the header; returns the new length. What comes
    // out never parses.
    std::uint32_t damage(std::uint8_t* bytes, std::uint32_t length) {
        const std::uint32_t kind = corrupt_random_.below(3);
        const std::uint64_t dice = corrupt_random_.next();
        const bool has_blocks =
            length > frame::mold_header_bytes && frame::is_well_formed_mold(bytes, length);
        if (has_blocks && kind == 0)
            return frame::mold_header_bytes +
                   static_cast<std::uint32_t>(dice % (length - frame::mold_header_bytes));
        if (has_blocks && kind == 1) {
            std::size_t at = frame::mold_header_bytes;
            for (auto block = static_cast<unsigned>(dice % frame::load_mold_header(bytes).count); block > 0;
                 --block)
                at += 2u + frame::load_be16(bytes + at);
            const std::uint16_t original = frame::load_be16(bytes + at);
            frame::store_be16(bytes + at, static_cast<std::uint16_t>(original ^ (1u << ((dice >> 32) % 16))));
            if (!frame::is_well_formed_mold(bytes, length)) return length;
            frame::store_be16(bytes + at, original);  // by chance the blocks still ended at the end
        }
        if (length < frame::mold_header_bytes) return length;  // came in broken
        return static_cast<std::uint32_t>(1 + dice % (frame::mold_header_bytes - 1));
    }

    DropModel drop_;
    std::uint64_t duplicate_, reorder_, corrupt_;
    Random drop_random_, duplicate_random_, reorder_random_, corrupt_random_;
    bool bad_ = false;
    FaultCounts counts_;
    std::size_t max_payload_;
    std::unique_ptr<std::uint8_t[]> memory_;
    std::array<std::uint16_t, slot_count> free_{}, used_{};
    std::size_t free_count_ = 0, used_count_ = 0;
    std::array<Held, max_reorder_distance + 1> held_{};
    std::size_t held_count_ = 0;
    std::vector<SequenceRange> losses_;
    bool losses_complete_ = true;
};

// Wraps a source: each line gets faults of its own.
template <Source S>
class LossySource {
  public:
    // One entry of `faults` per line of the source.
    LossySource(S& source, std::span<const Faults> faults, std::uint64_t seed) : source_(source) {
        for (unsigned line = 0; line < faults.size(); ++line) lines_.emplace_back(faults[line], seed, line);
    }

    std::size_t poll(std::span<Datagram> out) {
        if (pending_begin_ == pending_end_) {  // else some of what was lent out still waits to be handed over
            for (LossyLine& line : lines_) line.recycle();
        }
        std::size_t count = 0;
        while (true) {
            while (pending_begin_ < pending_end_ && count < out.size())
                out[count++] = pending_[pending_begin_++];
            if (count == out.size()) return count;
            pending_begin_ = pending_end_ = 0;
            if (input_begin_ == input_end_ && !more_input(count > 0)) return count;
            if (input_begin_ < input_end_ && !push_input()) return count;
        }
    }

    // The source has ended: the following polls also give what is still delayed, arriving at `ts_recv_ns`.
    void finish(std::int64_t ts_recv_ns) {
        finished_ = true;
        finish_ns_ = ts_recv_ns;
    }

    auto fds() { return source_.fds(); }
    std::size_t line_count() const { return source_.line_count(); }
    SourceStats stats(std::size_t line) const { return source_.stats(line); }
    const ReceiveCounters& counters() const { return source_.counters(); }
    void refresh_stats() { source_.refresh_stats(); }
    const LossyLine& line(std::size_t index) const { return lines_[index]; }

  private:
    // False: nothing more for now. Polling the source ends the life of what it gave before, so not while that
    // is in `out`.
    bool more_input(bool lent) {
        if (lent) return false;
        input_begin_ = 0;
        input_end_ = source_.poll(input_);
        if (input_end_ > 0) return true;
        if (!finished_) return false;
        for (LossyLine& line : lines_) {
            if (!line.holds_packets()) continue;
            line.flush(finish_ns_, [this](const Datagram& packet) { pending_[pending_end_++] = packet; });
            return true;
        }
        return false;
    }

    bool push_input() {
        const Datagram& packet = input_[input_begin_];
        if (packet.line >= lines_.size()) {  // replies of re-request servers come by lines of their own
            pending_[pending_end_++] = packet;
        } else {
            if (!lines_[packet.line].has_room()) return false;
            lines_[packet.line].push(packet,
                                     [this](const Datagram& passed) { pending_[pending_end_++] = passed; });
        }
        ++input_begin_;
        return true;
    }

    S& source_;
    std::vector<LossyLine> lines_;
    std::array<Datagram, 64> input_{};
    std::size_t input_begin_ = 0, input_end_ = 0;
    std::array<Datagram, max_reorder_distance + 4> pending_{};
    std::size_t pending_begin_ = 0, pending_end_ = 0;
    bool finished_ = false;
    std::int64_t finish_ns_ = 0;
};

}  // namespace fh::receive
