// The exchange on the network: packets leave when they are due, counted from the first one, so that lateness
// never adds up.
#pragma once

#include <time.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "simulate/clock.hpp"
#include "simulate/exchange.hpp"
#include "simulate/line_sender.hpp"
#include "simulate/packer.hpp"
#include "simulate/store_writer.hpp"

namespace fh::simulate {

// Message n (from 0) is due at anchor + n / rate; with bursts of b, messages go b at a time and the mean rate
// stays.
class Pace {
  public:
    Pace(std::uint64_t messages_per_s, std::uint64_t burst) : rate_(messages_per_s), burst_(burst) {}
    std::int64_t due_ns(std::int64_t anchor_ns, std::uint64_t message) const {
        const std::uint64_t step = message / burst_ * burst_;
        // whole seconds and the rest apart: exact, and far from overflow
        return anchor_ns +
               static_cast<std::int64_t>(step / rate_ * second_ns + step % rate_ * second_ns / rate_);
    }

  private:
    std::uint64_t rate_, burst_;
};

struct BroadcastSettings {
    std::string session = "SIMULATED1";      // ten characters
    std::uint64_t messages_per_s = 10'000;   // up to 10^9
    std::uint64_t burst = 1;                 // messages
    std::int64_t lead_ns = 0;                // heartbeats before the first message
    std::int64_t linger_ns = 3'000'000'000;  // how long the end of session is repeated
    bool same_faults = false;                // on all lines, packet by packet
};

class Broadcast {
  public:
    // `store`: empty, or the memory of a message store. Everything referred to must outlive the broadcast.
    Broadcast(Exchange& exchange, const BroadcastSettings& settings, const std::vector<LineTarget>& targets,
              std::uint64_t seed, std::span<std::uint8_t> store)
        : settings_(settings),
          pace_(settings.messages_per_s, settings.burst),
          packer_(exchange, settings.session),
          sender_(targets, seed, settings.same_faults) {
        if (!store.empty()) store_.emplace(store);
        load();
    }

    // Sends what is due at `now_ns`, and says when to come again. Monotone nanoseconds of any epoch.
    std::int64_t poll(std::int64_t now_ns) {
        if (state_ == State::begin) begin(now_ns);
        if (state_ == State::sending) {
            if (send_due(now_ns))
                return loaded_ ? std::min(next_due_ns(), last_sent_ns_ + heartbeat_ns) : now_ns;
            if (!loaded_) end(now_ns, settings_.linger_ns);
        }
        if (state_ == State::ending && now_ns >= end_ns_) state_ = State::over;
        if (state_ == State::over) {
            over_.store(true, std::memory_order_release);
            return now_ns;
        }
        const std::int64_t interval = state_ == State::ending ? end_interval_ns : heartbeat_ns;
        if (now_ns - last_sent_ns_ >= interval) signal(now_ns);
        const std::int64_t signal_ns = last_sent_ns_ + interval;
        return std::min(signal_ns, state_ == State::ending ? end_ns_ : next_due_ns());
    }

    // Ends the session with what has been sent, within half a second; for poll's thread.
    void cut(std::int64_t now_ns) {
        if (state_ == State::begin) begin(now_ns);
        if (state_ == State::sending) end(now_ns, std::min<std::int64_t>(settings_.linger_ns, 500'000'000));
        end_ns_ = std::min(end_ns_, now_ns + 500'000'000);
    }

    // Polls with the machine's clock until all is over or `stop` was called from another thread.
    void run() {
        while (!over()) {
            const std::int64_t now_ns = monotonic_ns();
            if (stop_.load(std::memory_order_relaxed)) cut(now_ns);
            const std::int64_t next_ns = poll(now_ns);
            if (next_ns <= now_ns) continue;
            const std::int64_t wake_ns = std::min(next_ns, now_ns + 50'000'000);  // to see `stop`
            const timespec wake{wake_ns / 1'000'000'000, wake_ns % 1'000'000'000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, nullptr);
        }
    }

    // These four may be called from other threads while it runs.
    void stop() { stop_.store(true, std::memory_order_relaxed); }
    bool over() const { return over_.load(std::memory_order_acquire); }
    std::uint64_t messages() const { return messages_.load(std::memory_order_relaxed); }
    std::uint64_t packets() const { return packets_.load(std::memory_order_relaxed); }
    // Exact once it is over.
    const LineSender& sender() const { return sender_; }
    std::int64_t sending_ns() const { return sent_data_ns_ - anchor_ns_; }

  private:
    enum class State : std::uint8_t { begin, sending, ending, over };
    static constexpr std::int64_t heartbeat_ns = 1'000'000'000, end_interval_ns = 250'000'000;

    static std::int64_t monotonic_ns() {
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1'000'000'000 + now.tv_nsec;
    }

    void begin(std::int64_t now_ns) {
        state_ = State::sending;
        anchor_ns_ = sent_data_ns_ = now_ns + settings_.lead_ns;
        last_sent_ns_ = settings_.lead_ns > 0 ? now_ns - heartbeat_ns : now_ns;
    }

    std::int64_t next_due_ns() const { return pace_.due_ns(anchor_ns_, packet_.first_sequence - 1); }

    // At most one batch. False: nothing was due.
    bool send_due(std::int64_t now_ns) {
        std::size_t count = 0;
        while (loaded_ && count < LineSender::batch && next_due_ns() <= now_ns) {
            std::uint8_t* payload = payloads_[slot_].data();
            const std::span<const std::uint8_t> bytes(payload, packet_.length);
            if (store_)
                store_->append(packet_.first_sequence, packet_.count,
                               bytes.subspan(frame::mold_header_bytes));
            sender_.push(payload, packet_.length);
            next_sequence_ = packet_.first_sequence + packet_.count;
            slot_ = (slot_ + 1) % payloads_.size();
            load();
            ++count;
        }
        if (count == 0) return false;
        sender_.flush();
        last_sent_ns_ = sent_data_ns_ = now_ns;
        messages_.store(next_sequence_ - 1, std::memory_order_relaxed);
        packets_.store(packets() + count, std::memory_order_relaxed);
        return true;
    }

    void load() { loaded_ = packer_.next(payloads_[slot_].data(), packet_); }

    void end(std::int64_t now_ns, std::int64_t linger_ns) {
        state_ = State::ending;
        end_ns_ = now_ns + linger_ns;
        signal(now_ns);
    }

    // A heartbeat, or the end of the session in its place.
    void signal(std::int64_t now_ns) {
        sender_.release_delayed();
        std::array<std::uint8_t, frame::mold_header_bytes> header;
        frame::encode_mold_header(
            header.data(), settings_.session.data(), next_sequence_,
            state_ == State::ending ? frame::mold_end_of_session : frame::mold_heartbeat);
        sender_.push(header.data(), header.size());
        sender_.flush();
        sender_.release_delayed();
        last_sent_ns_ = now_ns;
    }

    BroadcastSettings settings_;
    Pace pace_;
    Packer<Exchange> packer_;
    LineSender sender_;
    std::optional<StoreWriter> store_;
    std::array<std::array<std::uint8_t, max_payload>, LineSender::batch + 1> payloads_;
    std::size_t slot_ = 0;
    Packet packet_{};  // the next to go, in payloads_[slot_]
    bool loaded_ = false;
    State state_ = State::begin;
    std::uint64_t next_sequence_ = 1;
    std::int64_t anchor_ns_ = 0, last_sent_ns_ = 0, sent_data_ns_ = 0, end_ns_ = 0;
    std::atomic<std::uint64_t> messages_ = 0, packets_ = 0;
    std::atomic<bool> stop_ = false, over_ = false;
};

}  // namespace fh::simulate
