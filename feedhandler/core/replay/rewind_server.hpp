// The re-request server of the simulated exchange, in process and on virtual time: it holds every message of
// the input, answers a request with one datagram of as many messages as fit, and loses requests and replies
// as told.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <span>
#include <vector>

#include "frame/moldudp64.hpp"
#include "random.hpp"
#include "replay/input.hpp"
#include "replay/store.hpp"

namespace fh::replay {

class RewindServer {
  public:
    static constexpr std::int64_t round_trip_ns = 100'000;

    struct Reply {
        std::int64_t due_ns;
        std::vector<std::uint8_t> datagram;
        bool doubtful;  // as the times of what it repeats
    };

    RewindServer(double drop, std::uint64_t seed) : drop_(threshold(drop)), random_(seed, random_stream) {}

    // From now on `session` is what it answers for; it must outlive the server.
    void serve(const InputSession& session) { session_ = &session; }

    // Silence is the answer to what it does not hold (specified nowhere; what known servers do).
    void on_request(std::span<const std::uint8_t, 20> request, std::int64_t now_ns) {
        const bool request_lost = random_.chance(drop_);
        const bool reply_lost = random_.chance(drop_);
        if (request_lost || reply_lost || session_ == nullptr) return;
        if (std::memcmp(session_->name.data(), request.data(), session_->name.size()) != 0) return;
        const auto [first, wanted] = frame::load_mold_header(request.data());
        std::vector<std::uint8_t> datagram(frame::mold_header_bytes);
        const auto copied =
            session_->store.copy(first, std::min(wanted, frame::mold_max_count), mtu_payload, datagram);
        if (copied.count == 0) return;
        frame::encode_mold_header(datagram.data(), session_->name.data(), first, copied.count);
        replies_.push_back({now_ns + round_trip_ns, std::move(datagram), copied.doubtful});
    }

    // When the next reply arrives; `never` without one.
    std::int64_t next_due_ns(std::int64_t never) const {
        return replies_.empty() ? never : replies_.front().due_ns;
    }
    Reply take() {
        Reply reply = std::move(replies_.front());
        replies_.pop_front();
        return reply;
    }

  private:
    static constexpr std::uint64_t random_stream = 1'000'000;  // apart from those of the lines

    const InputSession* session_ = nullptr;
    std::uint64_t drop_;
    Random random_;
    std::deque<Reply> replies_;  // in order of due_ns, since the round trip is constant
};

}  // namespace fh::replay
