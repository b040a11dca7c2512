// Which numbers to ask which re-request server for, and when: a reply is one datagram, so a large hole
// becomes many requests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "event.hpp"
#include "frame/moldudp64.hpp"
#include "publish/counters.hpp"
#include "sequence/gap_set.hpp"
#include "sequence/hold.hpp"
#include "sequence/servers.hpp"
#include "sequence/settings.hpp"
#include "sequence/sorted_ring.hpp"
#include "sequence/token_bucket.hpp"

namespace fh::sequence {

// Asks for the lowest missing numbers first, up to max_outstanding at a time. `Send` is called as
// send(server, first, count).
class Requester {
  public:
    struct Request {
        std::uint64_t first, end;  // what it asks for, within one missing range
        std::size_t server;        // asked last
        Servers::Attempts attempts;
        std::int64_t first_sent_ns;
        std::int64_t asked_ns;     // when this server was asked first
        std::int64_t sent_ns;      // last
        std::int64_t deadline_ns;  // of the answer
        bool due;                  // timed out: waits to be sent again
    };

    Requester(const Settings& settings, GapSet& gaps, Counters& counters)
        : timeout_ns_(std::max<std::int64_t>(settings.timeout_ns, 1)),
          limit_(std::clamp<std::size_t>(settings.max_outstanding, 1, most_outstanding)),
          bucket_(settings.requests_per_s, limit_),
          gaps_(gaps),
          counters_(counters.recovery),
          servers_(settings.servers, settings.retries, counters.servers),
          requests_(limit_) {}

    // When pump() or expire() has something to do.
    std::int64_t wake_ns() const { return wake_ns_; }
    std::int64_t last_answer_ns() const { return last_answer_ns_; }
    Servers& servers() { return servers_; }

    // How far asking has gone since holes are open, of those steps that are asking's.
    Step step() const { return step_; }
    // No hole is open.
    void calm() { step_ = Step::other_line; }

    // Sends what may be sent. `next` is the number the feed waits for: it is delivered at once, all others
    // need room in the hold.
    template <class Send>
    void pump(std::int64_t now_ns, std::uint64_t next, const Hold& hold, Send send) {
        wake_ns_ = servers_.trial_deadline_ns();
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            if (requests_[i].due && !transmit(requests_[i], now_ns, true, send)) break;
        }
        ask_for_more(now_ns, next, hold, send);
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            if (!requests_[i].due) wake_ns_ = std::min(wake_ns_, requests_[i].deadline_ns);
        }
    }

    // Turns every overdue request to its next attempt or the next server. Returns one that all servers left
    // unanswered, for the caller to give up (and call again), else null.
    const Request* expire(std::int64_t now_ns) {
        counters_.timeouts += servers_.expire_trials(now_ns);
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            Request& request = requests_[i];
            if (request.due || request.deadline_ns > now_ns) continue;
            ++counters_.timeouts;
            servers_.silent(request.server, request.sent_ns, now_ns);
            request.due = true;
            wake_ns_ = now_ns;
            if (servers_.choose(request.attempts) != Servers::none) continue;
            given_up_ = request;
            erase(i);
            return &given_up_;
        }
        return nullptr;
    }

    // A data packet of the right session came from a server, with numbers that it was asked for, `useful` of
    // which were missing and found room.
    void answered(std::size_t server, std::uint64_t first, std::uint64_t end, std::uint64_t useful,
                  std::int64_t now_ns) {
        last_answer_ns_ = now_ns;
        if (servers_.answers_trial(server, first, end)) servers_.answered(server);
        const std::size_t begin = requests_.find(first);
        bool matches = false;
        for (std::size_t i = begin; i < requests_.size() && requests_[i].first < end;) {
            const Request& request = requests_[i];
            if (request.first < first || useful == 0) {  // asking again at once would bring the same
                ++i;
                continue;
            }
            matches = true;
            // Late, or lost and asked for again: which of the two is not to be known, nor does it matter.
            const bool in_time = server == request.server && now_ns <= request.asked_ns + timeout_ns_;
            in_time ? servers_.answered(server) : servers_.late(server);
            if (request.first == first) learn(request.end - request.first, end - first);
            erase(i);
        }
        if (!matches && now_ns > servers_.asked_ns(server) + timeout_ns_) servers_.late(server);
    }

    // A server is not to be trusted, or not there: what it was asked for goes to a better one at once, if
    // there is one.
    void lied(std::size_t server, std::int64_t now_ns) {
        servers_.lied(server, now_ns);
        move_from(server, now_ns);
    }
    void refused(std::size_t server, std::int64_t now_ns) {
        servers_.refused(server, now_ns);
        move_from(server, now_ns);
    }

    // Drops or shortens requests for numbers that are in by now.
    void prune() {
        std::size_t at = requests_.empty() ? 0 : gaps_.find(requests_.front().first);
        for (std::size_t i = 0; i < requests_.size();) {
            while (at < gaps_.size() && gaps_[at].end <= requests_[i].first) ++at;
            if (at == gaps_.size() || gaps_[at].first >= requests_[i].end)
                erase(i);
            else
                ++i;
        }
    }

    // Something changed that may allow a request: a new hole, a message that came, room.
    void stir() { wake_ns_ = std::numeric_limits<std::int64_t>::min(); }

    // All that was asked for belongs to a session that is over.
    void start_session() {
        requests_.clear();
        servers_.start_session();
        wake_ns_ = never_ns;
    }

  private:
    static Step step_of(const Request& request) {
        const auto asked = std::ranges::count_if(request.attempts, [](std::uint32_t n) { return n != 0; });
        if (asked > 1) return Step::next_server;
        return request.attempts[request.server] > 1 ? Step::retry : Step::request;
    }

    void move_from(std::size_t server, std::int64_t now_ns) {
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            Request& request = requests_[i];
            if (request.server != server || request.due || !servers_.has_better(request.attempts)) continue;
            ++counters_.timeouts;  // it will not be answered
            request.due = true;
            wake_ns_ = now_ns;
        }
    }

    template <class Send>
    void ask_for_more(std::int64_t now_ns, std::uint64_t next, const Hold& hold, Send send) {
        std::uint64_t room = hold.room();
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            const Request& request = requests_[i];
            if (request.first != next) room -= std::min(room, request.end - request.first);
        }
        for (std::size_t i = 0; i < gaps_.size() && requests_.size() < limit_;) {
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
            Request request{free.first, free.first + count, 0, {}, now_ns, 0, 0, 0, false};
            if (!transmit(request, now_ns, false, send)) return;
            requests_.insert(requests_.find(request.first), request);
            try_again(request, now_ns, send);
        }
    }

    // The first stretch of the range that no request covers; empty if none.
    SequenceRange unasked(const MissingRange& range) const {
        std::uint64_t first = range.first;
        std::size_t i = requests_.find(first);
        for (; i < requests_.size() && requests_[i].first <= first; ++i) first = requests_[i].end;
        if (first >= range.end) return {range.end, range.end};
        return {first, i < requests_.size() ? std::min(range.end, requests_[i].first) : range.end};
    }

    template <class Send>
    bool transmit(Request& request, std::int64_t now_ns, bool again, Send& send) {
        if (!take_token(now_ns)) return false;
        if (again) {  // only for what is still missing, exactly
            const MissingRange& range = gaps_[gaps_.find(request.first)];
            request.first = std::max(request.first, range.first);
            request.end = std::min(request.end, range.end);
            ++counters_.retries;
        }
        request.server = servers_.choose(request.attempts);
        if (request.attempts[request.server]++ == 0) request.asked_ns = now_ns;
        request.due = false;
        request.sent_ns = now_ns;
        request.deadline_ns = now_ns + timeout_ns_;
        step_ = std::max(step_, step_of(request));
        ask(request.server, request, now_ns, send);
        return true;
    }

    // A copy of a request shows whether a server that was left is good again; nothing waits for it.
    template <class Send>
    void try_again(const Request& request, std::int64_t now_ns, Send& send) {
        const std::size_t server = servers_.to_try(request.server, now_ns);
        if (server == Servers::none || !take_token(now_ns)) return;
        servers_.begin_trial(server, request.first, request.end, now_ns + timeout_ns_);
        wake_ns_ = std::min(wake_ns_, now_ns + timeout_ns_);
        ask(server, request, now_ns, send);
    }

    bool take_token(std::int64_t now_ns) {
        if (bucket_.take(now_ns)) return true;
        wake_ns_ = std::min(wake_ns_, bucket_.ready_ns());
        return false;
    }

    template <class Send>
    void ask(std::size_t server, const Request& request, std::int64_t now_ns, Send& send) {
        ++counters_.requests;
        gaps_.count_request(request.first);
        servers_.asked(server, request.first, request.end, now_ns);
        send(server, request.first, static_cast<std::uint16_t>(request.end - request.first));
    }

    // How many messages one reply brings: nothing known is the most that a request can ask for.
    void learn(std::uint64_t asked, std::uint64_t came) {
        if (came < asked)
            piece_ = came;
        else if (asked == piece_)
            piece_ = std::min<std::uint64_t>(frame::mold_max_count, piece_ + piece_ / 4 + 1);
    }

    void erase(std::size_t i) {
        requests_.erase(i);
        stir();
    }

    std::int64_t timeout_ns_;
    std::size_t limit_;
    TokenBucket bucket_;
    GapSet& gaps_;
    RecoveryCounters& counters_;
    Servers servers_;
    SortedRing<Request> requests_;
    Request given_up_{};
    Step step_ = Step::other_line;
    std::uint64_t piece_ = frame::mold_max_count;
    std::int64_t wake_ns_ = never_ns;
    std::int64_t last_answer_ns_ = std::numeric_limits<std::int64_t>::min();
};

}  // namespace fh::sequence
