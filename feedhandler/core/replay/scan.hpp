// The first reading of an input: its sessions with their first and last numbers, and where every message
// lies.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "frame/moldudp64.hpp"
#include "replay/input.hpp"
#include "replay/store.hpp"
#include "sequence/far_ahead.hpp"

namespace fh::replay {

struct Scan {
    std::uint64_t packets = 0;
    std::int64_t first_ns = 0;  // of the first packet
    std::int64_t last_ns = 0;
    InputEnd input_end;
    std::vector<InputSession> sessions;  // in order; empty when no packet was well formed
    // Packets by how many precede them, rising: those whose number was too far ahead to be believed. No
    // session has their numbers, so they are not to be played.
    std::vector<std::uint64_t> disbelieved;
};

// The midnights of an exchange in UTC ns, in order: of one day, or of all days of an input.
using Midnights = std::vector<std::int64_t>;

// Of the day that a time lies in; of the first one before that.
inline std::int64_t midnight_before(const Midnights& midnights, std::int64_t ns) {
    const auto later = std::ranges::upper_bound(midnights, ns);
    return later == midnights.begin() ? *later : *std::prev(later);
}

// A session of the input is over when its end was told, or when its day is and all lines were silent; then
// the first packet of another starts that one at number 1. Number 1 after a silence starts the session anew:
// the arbiter's rules. Other packets of other sessions are strays.
class Scanner {
  public:
    static constexpr std::uint64_t max_gap_messages = 10'000'000;
    static constexpr std::uint64_t highest_number = std::uint64_t{1} << 48;  // no session ever has so many

    static constexpr std::int64_t silence_ns = 3'000'000'000;  // after which lines are down

    Scanner(Input& input, Midnights midnights) : midnights_(std::move(midnights)), input_(input) {
        input.rewind();
        input.offer_replies(true);
    }

    // False at the end of the input.
    bool step(std::uint64_t packets) {
        InputPacket packet;
        for (std::uint64_t i = 0; i < packets; ++i) {
            if (!input_.next(packet)) return false;
            packet.line == reply_line ? on_reply(packet) : on_packet(packet);
        }
        return true;
    }

    // Leaves the input at its start.
    Scan finish() {
        scan_.input_end = input_.end();
        input_.offer_replies(false);
        input_.rewind();
        for (auto& session : scan_.sessions) session.store.seal();
        return std::move(scan_);
    }

  private:
    using Belief = sequence::FarAhead::Belief;
    struct Waiting {
        std::uint64_t packets_before;
        Run run;
    };

    void on_packet(const InputPacket& packet) {
        if (scan_.packets++ == 0) scan_.first_ns = packet.ts_ns;
        scan_.last_ns = std::max(scan_.last_ns, packet.ts_ns);
        const auto parsed = frame::parse_mold(packet.data, packet.length, messages_.get());
        if (parsed.kind == frame::MoldKind::malformed || parsed.sequence == 0) return;
        const std::size_t known = scan_.sessions.size();
        const bool same = known > 0 && is(scan_.sessions.back(), packet);
        const bool anew = same && starts_anew(parsed, packet);
        const bool rollover =
            anew || (!same && (ended_ || day_is_over(packet.ts_ns)) && !is_previous(packet));
        if (!same && !rollover && known > 0) return;
        const std::uint64_t next = known == 0 ? parsed.sequence : rollover ? 1 : scan_.sessions.back().end;
        const Belief belief = judge(parsed, packet, next);
        if (belief == Belief::not_yet) return;
        if (!same || anew) start(packet, rollover ? 1 : parsed.sequence);
        heard_ns_ = std::max(heard_ns_, packet.ts_ns);
        InputSession& session = scan_.sessions.back();
        if (parsed.kind == frame::MoldKind::data) {
            if (brought_ == 0) session.day_ns = packet.ts_ns;
            brought_ |= std::uint64_t{1} << packet.line % 64;
        }
        if (scan_.sessions.size() == 1) session.first = std::min(session.first, parsed.sequence);
        session.end = std::max(session.end, parsed.end());
        ended_ = ended_ || parsed.kind == frame::MoldKind::end_of_session;
        if (belief == Belief::confirmed) believe_waiting(session);
        session.store.add(run_of(parsed, packet));
    }

    // What a re-request server gave belongs to the session of the day, and starts none.
    void on_reply(const InputPacket& packet) {
        const auto parsed = frame::parse_mold(packet.data, packet.length, messages_.get());
        if (parsed.kind != frame::MoldKind::data || parsed.sequence == 0 || scan_.sessions.empty()) return;
        InputSession& session = scan_.sessions.back();
        if (!is(session, packet) || parsed.end() > highest_number) return;
        if (parsed.sequence > session.end && parsed.sequence - session.end > max_gap_messages) return;
        if (scan_.sessions.size() == 1) session.first = std::min(session.first, parsed.sequence);
        session.end = std::max(session.end, parsed.end());
        session.store.add(run_of(parsed, packet));
    }

    static Run run_of(const frame::MoldPacket& parsed, const InputPacket& packet) {
        const auto bytes = packet.length - static_cast<std::uint32_t>(frame::mold_header_bytes);
        return {parsed.sequence, packet.blocks, bytes, parsed.count, is_doubtful(packet.kind)};
    }

    // The arbiter's rule. Whoever plays the input keeps to what is decided here.
    Belief judge(const frame::MoldPacket& parsed, const InputPacket& packet, std::uint64_t next) {
        const bool possible = parsed.end() <= highest_number;
        const Belief belief = possible ? far_ahead_.judge(parsed, packet.data, next) : Belief::not_yet;
        if (belief == Belief::not_yet) {
            scan_.disbelieved.push_back(scan_.packets - 1);
            if (possible) waiting_ = {scan_.packets - 1, run_of(parsed, packet)};
        }
        return belief;
    }
    // What waited for its confirmation is true, unless it came before the session was taken to begin.
    void believe_waiting(InputSession& session) {
        if (waiting_.packets_before < session.packets_before) return;
        scan_.disbelieved.erase(std::ranges::lower_bound(scan_.disbelieved, waiting_.packets_before));
        session.store.add(waiting_.run);
    }

    bool silent(std::int64_t ns) const { return ns - heard_ns_ >= silence_ns; }
    bool day_is_over(std::int64_t ns) const {
        if (scan_.sessions.empty() || midnights_.empty() || !silent(ns)) return false;
        return midnight_before(midnights_, ns) > midnight_before(midnights_, scan_.sessions.back().day_ns);
    }
    bool starts_anew(const frame::MoldPacket& packet, const InputPacket& from) const {
        return packet.sequence == 1 && packet.kind != frame::MoldKind::end_of_session &&
               scan_.sessions.back().end > packet.end() && (brought_ >> from.line % 64 & 1) != 0 &&
               silent(from.ts_ns);
    }

    static bool is(const InputSession& session, const InputPacket& packet) {
        return std::memcmp(session.name.data(), packet.data, session.name.size()) == 0;
    }
    // Of the session before the one at hand: over for good.
    bool is_previous(const InputPacket& packet) const {
        for (std::size_t i = scan_.sessions.size(); i > 1; --i) {
            if (scan_.sessions[i - 2].name != scan_.sessions.back().name)
                return is(scan_.sessions[i - 2], packet);
        }
        return false;
    }

    void start(const InputPacket& packet, std::uint64_t first) {
        InputSession& session = scan_.sessions.emplace_back();
        session.day_ns = heard_ns_ = packet.ts_ns;
        brought_ = 0;
        std::memcpy(session.name.data(), packet.data, session.name.size());
        session.first = session.end = first;
        session.packets_before = scan_.packets - 1;
        ended_ = false;
        far_ahead_.forget();
    }

    std::unique_ptr<Message[]> messages_ =
        std::make_unique_for_overwrite<Message[]>(frame::mold_max_messages);
    Midnights midnights_;
    Input& input_;
    Scan scan_;
    std::int64_t heard_ns_ = 0;  // when the newest session was, last
    std::uint64_t brought_ = 0;  // which lines brought messages of it
    sequence::FarAhead far_ahead_{max_gap_messages};
    Waiting waiting_{};   // what far_ahead_ waits to see confirmed
    bool ended_ = false;  // the end of the newest session was told
};

}  // namespace fh::replay
