// What is known of each re-request server, and which one to ask: a bad one is left, and tried again later.
// (recovery/selection.py is the choice of a gap-fill server, another process, among its own upstreams.)
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "event.hpp"
#include "message.hpp"
#include "publish/counters.hpp"

namespace fh::sequence {

using ServerCounterSet = std::array<ServerCounters, max_servers>;

// Health is what a server did last. Apart from that it is asked, or left for a while:
//   silent   so many rounds in a row without an answer in time that a request moves on: 1 + retries of them
//   refused  at once (nobody listens there)
//   lying    at once (another session, a first number that it was not asked for, a damaged packet)
// An answer in time clears it all. A late one clears nothing: a server that always is late is left as if it
// were silent. The rest doubles each time; when it is over, one request is sent to it as well as to the
// server that answers, so that no repair waits for a trial. Where all are left they are asked all the same.
class Servers {
  public:
    static constexpr std::int64_t first_rest_ns = 1'000'000'000;
    static constexpr std::int64_t longest_rest_ns = 60'000'000'000;
    static constexpr std::uint64_t most_silences = 8;  // whatever `retries` says
    static constexpr std::size_t none = max_servers;

    using Attempts = std::array<std::uint32_t, max_servers>;  // requests sent, by server

    Servers(std::size_t count, std::uint64_t retries, ServerCounterSet& counters)
        : count_(count),
          tries_(std::min<std::uint64_t>(retries, ~std::uint32_t{0} - 1) + 1),
          counters_(counters) {}

    // A session begins: nothing was asked for yet, and health stays.
    void start_session() {
        for (Server& server : servers_) server.asked_first = server.asked_end = 0;
    }

    // ---- choice

    bool is_left(std::size_t server) const { return servers_[server].left; }

    // For a request that has `attempts` behind it: the first in order of preference that is not left and has
    // tries left; else, of those left, the one whose rest ends first. `none`: all have had their tries.
    std::size_t choose(const Attempts& attempts) const {
        std::size_t best = none;
        for (std::size_t i = 0; i < count_; ++i) {
            if (attempts[i] >= tries_) continue;
            if (!servers_[i].left) return i;
            if (best == none || servers_[i].rest_until_ns < servers_[best].rest_until_ns) best = i;
        }
        return best;
    }
    // Is there one not left that has tries left: need a request not wait for `server` any longer?
    bool has_better(const Attempts& attempts) const {
        const std::size_t server = choose(attempts);
        return server != none && !servers_[server].left;
    }
    // One to try again, beside the request that goes to `asked`; `none` if no rest is over.
    std::size_t to_try(std::size_t asked, std::int64_t now_ns) const {
        for (std::size_t i = 0; i < count_; ++i) {
            const Server& server = servers_[i];
            if (i != asked && server.left && server.rest_until_ns <= now_ns && server.trial_end == 0)
                return i;
        }
        return none;
    }

    // ---- what happened

    void asked(std::size_t server, std::uint64_t first, std::uint64_t end, std::int64_t now_ns) {
        Server& s = servers_[server];
        s.asked_first = s.asked_end == 0 ? first : std::min(s.asked_first, first);
        s.asked_end = std::max(s.asked_end, end);
        s.asked_ns = now_ns;
        ++counters_[server].requests;
    }
    // An answer may bring more than was asked for, but it begins with a number that was.
    bool was_asked(std::size_t server, std::uint64_t first) const {
        return first >= servers_[server].asked_first && first < servers_[server].asked_end;
    }
    std::int64_t asked_ns(std::size_t server) const { return servers_[server].asked_ns; }

    void begin_trial(std::size_t server, std::uint64_t first, std::uint64_t end, std::int64_t deadline_ns) {
        Server& s = servers_[server];
        s.trial_first = first;
        s.trial_end = end;
        s.trial_deadline_ns = deadline_ns;
    }
    // What comes for [first, end) is the answer to the trial.
    bool answers_trial(std::size_t server, std::uint64_t first, std::uint64_t end) const {
        return servers_[server].trial_first >= first && servers_[server].trial_first < end;
    }
    // The first deadline of a trial, INT64_MAX without one.
    std::int64_t trial_deadline_ns() const {
        std::int64_t out = std::numeric_limits<std::int64_t>::max();
        for (const Server& server : servers_)
            if (server.trial_end != 0) out = std::min(out, server.trial_deadline_ns);
        return out;
    }
    // Trials that nobody answered in time. Returns how many.
    unsigned expire_trials(std::int64_t now_ns) {
        unsigned out = 0;
        for (std::size_t i = 0; i < count_; ++i) {
            Server& server = servers_[i];
            if (server.trial_end == 0 || server.trial_deadline_ns > now_ns) continue;
            ++out;
            ++counters_[i].silent;
            server.health = Health::silent;
            leave(i, now_ns);
        }
        return out;
    }

    void answered(std::size_t server) {
        Server& s = servers_[server];
        ++counters_[server].answered;
        s.health = Health::answered;
        s.left = false;
        s.trial_end = 0;
        s.silences = 0;
        s.rests = 0;
    }
    void late(std::size_t server) {
        ++counters_[server].late;
        Health& health = servers_[server].health;
        if (health != Health::refused && health != Health::lying) health = Health::late;
    }
    // Silences of one moment count once: `sent_ns` is when the request left that was not answered.
    void silent(std::size_t server, std::int64_t sent_ns, std::int64_t now_ns) {
        Server& s = servers_[server];
        ++counters_[server].silent;
        if (sent_ns < s.silent_ns) return;
        s.silent_ns = now_ns;
        ++s.silences;
        if (!s.left) s.health = Health::silent;
        if (s.silences >= std::min(tries_, most_silences)) leave(server, now_ns);
    }
    void refused(std::size_t server, std::int64_t now_ns) {
        ++counters_[server].refused;
        servers_[server].health = Health::refused;
        leave(server, now_ns);
    }
    void lied(std::size_t server, std::int64_t now_ns) {
        ++counters_[server].lying;
        servers_[server].health = Health::lying;
        leave(server, now_ns);
    }

    // ---- for the outside

    // Calls told(server, health, previous, left, rest_until_ns) for each that changed since the last call.
    template <class Told>
    void tell_changes(Told told) {
        for (std::size_t i = 0; i < count_; ++i) {
            Server& s = servers_[i];
            if (s.health == s.told_health && s.left == s.told_left) continue;
            counters_[i].health = static_cast<std::uint64_t>(s.health);
            counters_[i].resting = s.left ? 1 : 0;
            if (s.left && !s.told_left) ++counters_[i].left;
            told(i, s.health, s.told_health, s.left ? s.rest_until_ns : 0);
            s.told_health = s.health;
            s.told_left = s.left;
        }
    }

  private:
    struct Server {
        Health health = Health::untried, told_health = Health::untried;
        bool left = false, told_left = false;
        std::uint64_t silences = 0;  // rounds in a row
        unsigned rests = 0;          // in a row
        std::int64_t silent_ns = std::numeric_limits<std::int64_t>::min();
        std::int64_t rest_until_ns = 0;
        std::int64_t asked_ns = 0;
        std::uint64_t asked_first = 0, asked_end = 0;  // it was asked for nothing outside, in this session
        std::uint64_t trial_first = 0, trial_end = 0;  // the request that tries it again; end 0: none
        std::int64_t trial_deadline_ns = 0;
    };

    // What goes wrong while it rests does not lengthen the rest: it was asked because all were left.
    void leave(std::size_t server, std::int64_t now_ns) {
        Server& s = servers_[server];
        s.trial_end = 0;
        if (s.left && now_ns < s.rest_until_ns) return;
        s.left = true;
        s.rest_until_ns = now_ns + std::min(first_rest_ns << std::min(s.rests, 6u), longest_rest_ns);
        ++s.rests;
    }

    std::size_t count_;
    std::uint64_t tries_;  // of a request at each server
    ServerCounterSet& counters_;
    std::array<Server, max_servers> servers_{};
};

}  // namespace fh::sequence
