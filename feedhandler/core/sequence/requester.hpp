// Which numbers to ask which re-request server for, and when: a reply is one datagram, so a large hole
// becomes many requests.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "frame/moldudp64.hpp"
#include "publish/counters.hpp"
#include "sequence/gap_set.hpp"
#include "sequence/hold.hpp"
#include "sequence/settings.hpp"
#include "sequence/token_bucket.hpp"

namespace fh::sequence {

inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

// Asks for the lowest missing numbers first, up to max_outstanding at a time. `Send` is called as
// send(server, first, count).
class Requester {
  public:
    static constexpr std::size_t max_requests = 64;

    struct Request {
        std::uint64_t first, end;  // what it asks for, within one missing range
        std::size_t server;
        std::uint64_t attempts;     // sent to this server
        std::size_t servers_tried;  // before this one
        std::int64_t first_sent_ns;
        std::int64_t deadline_ns;  // of the answer
        bool due;                  // timed out: waits to be sent again
    };

    Requester(const Settings& settings, GapSet& gaps, RecoveryCounters& counters)
        : servers_(settings.servers),
          timeout_ns_(std::max<std::int64_t>(settings.timeout_ns, 1)),
          retries_(settings.retries),
          limit_(std::clamp<std::size_t>(settings.max_outstanding, 1, max_requests)),
          bucket_(settings.requests_per_s, limit_),
          gaps_(gaps),
          counters_(counters) {}

    // When pump() or expire() has something to do.
    std::int64_t wake_ns() const { return wake_ns_; }
    std::int64_t last_answer_ns() const { return last_answer_ns_; }

    // Sends what may be sent. `next` is the number the feed waits for: it is delivered at once, all others
    // need room in the hold.
    template <class Send>
    void pump(std::int64_t now_ns, std::uint64_t next, const Hold& hold, Send send) {
        wake_ns_ = never_ns;
        for (std::size_t i = 0; i < active_; ++i) {
            Request& request = requests_[i];
            if (request.due && !transmit(request, now_ns, true, send)) break;
        }
        ask_for_more(now_ns, next, hold, send);
        for (std::size_t i = 0; i < active_; ++i) {
            if (!requests_[i].due) wake_ns_ = std::min(wake_ns_, requests_[i].deadline_ns);
        }
    }

    // Turns every overdue request to its next attempt or the next server. Returns one that all servers left
    // unanswered, for the caller to give up (and call again), else null.
    const Request* expire(std::int64_t now_ns) {
        for (std::size_t i = 0; i < active_; ++i) {
            Request& request = requests_[i];
            if (request.due || request.deadline_ns > now_ns) continue;
            ++counters_.timeouts;
            request.due = true;
            wake_ns_ = now_ns;
            if (request.attempts <= retries_) continue;
            request.attempts = 0;
            request.server = (request.server + 1) % servers_;
            if (++request.servers_tried == servers_) {
                given_up_ = request;
                erase(i);
                return &given_up_;
            }
        }
        return nullptr;
    }

    // A data packet of the right session came from a server, with `useful` messages that were missing and
    // found room.
    void answered(std::size_t server, std::uint64_t first, std::uint64_t end, std::uint64_t useful,
                  std::int64_t now_ns) {
        last_answer_ns_ = now_ns;
        if (useful == 0) return;  // asking again at once would bring the same
        for (std::size_t i = 0; i < active_; ++i) {
            const Request& request = requests_[i];
            if (request.first < first || request.first >= end) continue;
            preferred_ = server;
            if (request.first == first) learn(request.end - request.first, end - first);
            erase(i--);
        }
    }

    // Drops or shortens requests for numbers that are in by now.
    void prune() {
        for (std::size_t i = 0; i < active_; ++i) {
            Request& request = requests_[i];
            const std::size_t at = gaps_.find(request.first);
            if (at == gaps_.size() || gaps_[at].first >= request.end) erase(i--);
        }
    }

    // Something changed that may allow a request: a new hole, a message that came, room.
    void stir() { wake_ns_ = std::numeric_limits<std::int64_t>::min(); }
    void reset() {
        active_ = 0;
        wake_ns_ = never_ns;
    }

  private:
    template <class Send>
    void ask_for_more(std::int64_t now_ns, std::uint64_t next, const Hold& hold, Send send) {
        std::uint64_t room = hold.room();
        for (std::size_t i = 0; i < active_; ++i) {
            if (requests_[i].first != next) room -= std::min(room, requests_[i].end - requests_[i].first);
        }
        for (std::size_t i = 0; i < gaps_.size() && active_ < limit_;) {
            const MissingRange& range = gaps_[i];
            if (range.ask_ns > now_ns) {
                wake_ns_ = std::min(wake_ns_, range.ask_ns);
                return;
            }
            const SequenceRange free = unasked(range);
            if (free.first == free.end) {
                ++i;
                continue;
            }
            std::uint64_t count = std::min(free.size(), piece_);
            if (free.first != next) {
                count = std::min(count, room);
                if (count == 0 || !hold.is_free(free.first) || !hold.is_free(free.first + count - 1)) return;
                room -= count;
            }
            Request& request = requests_[active_];
            request = {free.first, free.first + count, preferred_, 0, 0, now_ns, 0, false};
            if (!transmit(request, now_ns, false, send)) return;
            ++active_;
        }
    }

    // The first stretch of the range that no request covers; empty if none.
    SequenceRange unasked(const MissingRange& range) const {
        std::uint64_t first = range.first;
        for (std::size_t i = 0; i < active_;) {
            const bool covers = requests_[i].first <= first && first < requests_[i].end;
            first = covers ? requests_[i].end : first;
            i = covers ? 0 : i + 1;
        }
        if (first >= range.end) return {range.end, range.end};
        std::uint64_t end = range.end;
        for (std::size_t i = 0; i < active_; ++i) {
            if (requests_[i].first > first) end = std::min(end, requests_[i].first);
        }
        return {first, end};
    }

    template <class Send>
    bool transmit(Request& request, std::int64_t now_ns, bool again, Send& send) {
        if (!bucket_.take(now_ns)) {
            wake_ns_ = std::min(wake_ns_, bucket_.ready_ns());
            return false;
        }
        if (again) {  // only for what is still missing, exactly
            const MissingRange& range = gaps_[gaps_.find(request.first)];
            request.first = std::max(request.first, range.first);
            request.end = std::min(request.end, range.end);
            ++counters_.retries;
        }
        ++counters_.requests;
        ++request.attempts;
        request.due = false;
        request.deadline_ns = now_ns + timeout_ns_;
        gaps_.count_request(request.first);
        send(request.server, request.first, static_cast<std::uint16_t>(request.end - request.first));
        return true;
    }

    // How many messages one reply brings: nothing known is the most that a request can ask for.
    void learn(std::uint64_t asked, std::uint64_t came) {
        if (came < asked)
            piece_ = came;
        else if (asked == piece_)
            piece_ = std::min<std::uint64_t>(frame::mold_max_count, piece_ + piece_ / 4 + 1);
    }

    void erase(std::size_t i) {
        for (--active_; i < active_; ++i) requests_[i] = requests_[i + 1];
        stir();
    }

    std::size_t servers_;
    std::int64_t timeout_ns_;
    std::uint64_t retries_;
    std::size_t limit_;
    TokenBucket bucket_;
    GapSet& gaps_;
    RecoveryCounters& counters_;
    std::array<Request, max_requests> requests_{};
    std::size_t active_ = 0;
    Request given_up_{};
    std::size_t preferred_ = 0;  // the last server that answered
    std::uint64_t piece_ = frame::mold_max_count;
    std::int64_t wake_ns_ = never_ns;
    std::int64_t last_answer_ns_ = std::numeric_limits<std::int64_t>::min();
};

}  // namespace fh::sequence
