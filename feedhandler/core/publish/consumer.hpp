// A consumer of one channel: its records from the moment of attaching on, the feed's state, what was lost.
// One thread each. When the daemon dies the state is DEAD; when it is started again the consumer drains the
// old ring, moves to the new one by itself and reads it from its first record (`restarts` counts these moves;
// what the feed carried in between is not in `lost`, and the new daemon's state, STARTING or STALE, says that
// it was missed).
#pragma once

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../book/table_reader.hpp"
#include "../latency/consumer_meter.hpp"
#include "../record/dbn.hpp"
#include "channel_reader.hpp"
#include "ring_reader.hpp"
#include "symbols.hpp"

namespace fh::publish {

// How wait() spends its time: spin, then sleep longer and longer. The writer wakes nobody: that would cost it
// a system call.
struct WaitStrategy {
    std::int64_t spin_ns = 50'000;
    std::int64_t first_sleep_ns = 20'000;
    std::int64_t longest_sleep_ns = 500'000;
};

class Consumer {
  public:
    // `directory`: RUNTIME_DIR/NAME. `schema_mask`: dbn::schema_bit of each schema wanted. `symbols`: those
    // whose records are wanted; empty: all. Events pass, but for trading events of other symbols.
    Consumer(const std::string& directory, std::uint32_t schema_mask,
             const std::vector<std::string>& symbols = {}, const WaitStrategy& strategy = WaitStrategy{})
        : schema_mask_(schema_mask),
          strategy_(strategy),
          channel_(std::make_unique<ChannelReader>(directory)),
          wanted_(symbols) {
        ring_.emplace(channel_->ring());
        ring_->skip_to_tail([this](const RecordHeader& header, const std::byte*) {
            if (header.schema < dbn::schema_count) attached_behind_ = header.sequence;
        });
        register_consumer(directory);
        seen_state_ = state();
    }

    // handler(const RecordHeader&, const std::byte* body) for each record of the schemas wanted; returns how
    // many. Never waits.
    template <typename Handler>
    std::size_t poll(Handler&& handler, std::size_t max_bytes = RingReader::copy_bytes) {
        std::size_t records = 0;
        const auto filter = [&](const RecordHeader& header, const std::byte* body) {
            if ((schema_mask_ >> header.schema & 1) == 0) return;
            const bool event = header.schema == static_cast<std::uint8_t>(dbn::Schema::event);
            if (!event && !wanted_(symbols(), instrument_of(body))) return;
            if (event && is_trading(body) && !wanted_(symbols(), trading_instrument_of(body))) return;
            if (meter_ && !event) [[unlikely]]
                meter_->on_record(header.sequence);
            handler(header, body);
            ++records;
        };
        if (meter_) meter_->settle();
        if (ring_->poll(filter, max_bytes) == 0 && !channel_->alive()) reattach();
        return records;
    }

    // Until there is something to poll (true), or the state differs from what the last wait() returned with,
    // or the time is over.
    bool wait(std::int64_t timeout_ns) {
        const std::int64_t start = monotonic_now_ns();
        std::int64_t sleep_ns = strategy_.first_sleep_ns;
        for (;;) {
            for (int i = 0; i < 64; ++i) {
                if (ring_->available()) return true;
                pause();
            }
            if (!channel_->alive()) reattach();
            const std::int64_t now = monotonic_now_ns();
            const std::uint8_t state_now = state(now);
            const bool changed = std::exchange(seen_state_, state_now) != state_now;
            if (changed || now - start >= timeout_ns) return ring_->available();
            if (now - start < strategy_.spin_ns) continue;
            sleep_for(std::min(sleep_ns, timeout_ns - (now - start)));
            sleep_ns = std::min(2 * sleep_ns, strategy_.longest_sleep_ns);
        }
    }

    // A book, with the state of the feed that goes with it: act on it only in LIVE. The state is the same
    // before and after the look at the book, so that a book of a bad moment never carries a good state. At
    // most as many levels as the channel publishes.
    ReadResult book(std::uint32_t instrument_id, BookView& out, std::uint8_t& state_out) const {
        if (channel_->books() == nullptr) return ReadResult::no_such_instrument;
        for (;;) {
            const std::uint64_t before = channel_->state_word();
            const ReadResult result = read_book(channel_->books(), instrument_id, out);
            std::atomic_thread_fence(std::memory_order_acquire);
            state_out = state();
            if (channel_->state_word() != before) continue;
            out.bid_count = std::min(out.bid_count, channel_->page().depth);
            out.ask_count = std::min(out.ask_count, channel_->page().depth);
            return result;
        }
    }

    // By symbol ("AAPL").
    ReadResult book(std::string_view symbol, BookView& out, std::uint8_t& state_out) const {
        if (channel_->books() == nullptr) return ReadResult::no_such_instrument;
        const auto instrument_id = find_instrument(channel_->books(), symbol);
        return instrument_id ? book(*instrument_id, out, state_out) : ReadResult::no_such_instrument;
    }

    std::string symbol(std::uint32_t instrument_id) {  // "": not named (yet)
        const std::uint64_t symbol = symbols().symbol(instrument_id);
        return symbol == 0 ? std::string() : unpack_symbol(symbol);
    }
    SymbolDirectory& symbols() {
        if (!directory_.has_books()) directory_ = SymbolDirectory(channel_->books());
        return directory_;
    }

    std::uint8_t state(std::int64_t now = monotonic_now_ns()) const { return channel_->state(now); }
    std::uint8_t seen_state() const { return seen_state_; }  // when wait() last looked
    const ChannelReader& channel() const { return *channel_; }
    std::uint64_t epoch() const { return channel_->page().epoch; }
    std::uint64_t restarts() const { return restarts_; }
    bool available() const { return ring_->available(); }
    // Low 32 bits of the last number that was in the ring at the time of attaching, where that is known.
    std::optional<std::uint32_t> attached_behind() const { return attached_behind_; }
    std::uint64_t lag() const { return ring_->lag(); }  // bytes

    // Records of the schemas wanted that were overwritten before they were read: exact.
    std::uint64_t lost() const { return lost_before_ + lost_in_ring(schema_mask_); }
    // Of these schemas, in the ring of the daemon that runs now.
    std::uint64_t lost_in_ring(std::uint32_t mask) const {
        std::uint64_t lost = 0;
        for (std::size_t i = 0; i < ring_->lost().size(); ++i)
            if (mask >> i & 1) lost += ring_->lost()[i];
        return lost;
    }

    // From now on: how long records that were sampled by the daemon ([latency] sample_every) took until
    // poll() handed them out. Costs a load or two a record.
    void measure_latency() {
        if (!meter_) meter_ = std::make_unique<latency::ConsumerMeter>(channel_->page().latency);
    }
    // nullptr: it is not measured.
    const latency::ConsumerMeter* latency() {
        if (meter_) meter_->settle();
        return meter_.get();
    }

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    static void sleep_for(std::int64_t ns) {
        const timespec time{ns / 1'000'000'000, ns % 1'000'000'000};
        nanosleep(&time, nullptr);
    }

  private:
    static std::uint32_t instrument_of(const std::byte* body) {
        std::uint32_t instrument_id;
        std::memcpy(&instrument_id, body + offsetof(dbn::Header, instrument_id), sizeof instrument_id);
        return instrument_id;
    }

    // The daemon is gone: has another one come? At most one look a millisecond.
    void reattach() {
        const std::int64_t now = monotonic_now_ns();
        if (now < next_look_ns_ || ring_->available()) return;
        next_look_ns_ = now + 1'000'000;
        if (!channel_->replaced()) return;
        try {
            auto next = std::make_unique<ChannelReader>(channel_->directory());
            lost_before_ = lost();
            channel_ = std::move(next);
            ring_.emplace(channel_->ring());
            directory_ = SymbolDirectory();
            if (meter_) meter_->attach(channel_->page().latency);
            ++restarts_;
        } catch (const ChannelError&) {  // half made, or taken away: still dead, look again
        }
    }

    void register_consumer(const std::string& directory) {
        lock_ = FileDescriptor(::open((directory + "/consumers").c_str(), O_RDONLY | O_CLOEXEC));
        std::random_device random;
        const auto byte = static_cast<off_t>((std::uint64_t{random()} << 30 ^ random()) & 0x3fffffffffffffff);
        if (lock_.get() >= 0) try_lock(lock_.get(), F_RDLCK, byte, 1);
    }

    std::uint32_t schema_mask_;
    WaitStrategy strategy_;
    std::unique_ptr<ChannelReader> channel_;
    std::optional<RingReader> ring_;
    SymbolDirectory directory_;
    SymbolFilter wanted_;
    std::optional<std::uint32_t> attached_behind_;
    FileDescriptor lock_;
    std::unique_ptr<latency::ConsumerMeter> meter_;
    std::uint64_t lost_before_ = 0;
    std::uint64_t restarts_ = 0;
    std::int64_t next_look_ns_ = 0;
    std::uint8_t seen_state_ = state_dead;
};

}  // namespace fh::publish
