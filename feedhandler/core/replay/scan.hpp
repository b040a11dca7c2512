// The first reading of an input: its sessions with their first and last numbers, and where every message
// lies.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "frame/moldudp64.hpp"
#include "replay/input.hpp"
#include "replay/store.hpp"

namespace fh::replay {

struct Scan {
    std::uint64_t packets = 0;
    std::int64_t first_ns = 0;  // of the first packet
    std::int64_t last_ns = 0;
    InputEnd input_end;
    std::vector<InputSession> sessions;  // in order; empty when no packet was well formed
};

// A session of the input is over when its end was told; then the first packet of another starts that one at
// number 1. Other packets of other sessions are strays, as the contract of a feed has it.
class Scanner {
  public:
    static constexpr std::uint64_t max_gap_messages = 10'000'000;
    static constexpr std::uint64_t highest_number = std::uint64_t{1} << 48;  // no session ever has so many

    explicit Scanner(Input& input) : input_(input) {
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
    void on_packet(const InputPacket& packet) {
        if (scan_.packets++ == 0) scan_.first_ns = packet.ts_ns;
        scan_.last_ns = std::max(scan_.last_ns, packet.ts_ns);
        const auto parsed = frame::parse_mold(packet.data, packet.length, messages_.get());
        if (parsed.kind == frame::MoldKind::malformed || parsed.sequence == 0) return;
        const std::size_t known = scan_.sessions.size();
        const bool same = known > 0 && is(scan_.sessions.back(), packet);
        const bool rollover = ended_ && !same && !(known > 1 && is(scan_.sessions[known - 2], packet));
        if (!same && !rollover && known > 0) return;
        if (!plausible(parsed, known == 0 ? parsed.sequence : rollover ? 1 : scan_.sessions.back().end))
            return;
        if (!same) start(packet, rollover ? 1 : parsed.sequence);
        InputSession& session = scan_.sessions.back();
        if (scan_.sessions.size() == 1) session.first = std::min(session.first, parsed.sequence);
        session.end = std::max(session.end, parsed.end());
        ended_ = ended_ || parsed.kind == frame::MoldKind::end_of_session;
        const auto bytes = packet.length - static_cast<std::uint32_t>(frame::mold_header_bytes);
        session.store.add({parsed.sequence, packet.blocks, bytes, parsed.count});
    }

    // What a re-request server gave belongs to the session of the day, and starts none.
    void on_reply(const InputPacket& packet) {
        const auto parsed = frame::parse_mold(packet.data, packet.length, messages_.get());
        if (parsed.kind != frame::MoldKind::data || parsed.sequence == 0 || scan_.sessions.empty()) return;
        InputSession& session = scan_.sessions.back();
        if (!is(session, packet) || !plausible(parsed, session.end)) return;
        if (scan_.sessions.size() == 1) session.first = std::min(session.first, parsed.sequence);
        session.end = std::max(session.end, parsed.end());
        const auto bytes = packet.length - static_cast<std::uint32_t>(frame::mold_header_bytes);
        session.store.add({parsed.sequence, packet.blocks, bytes, parsed.count});
    }

    // A number absurdly far ahead counts only when a second packet goes on from it: the arbiter's rule.
    bool plausible(const frame::MoldPacket& packet, std::uint64_t known) {
        if (packet.end() > highest_number) return false;
        if (packet.sequence <= known || packet.sequence - known <= max_gap_messages) return true;
        const bool confirmed =
            suspect_ != 0 && packet.sequence >= suspect_ && packet.sequence - suspect_ <= max_gap_messages;
        suspect_ = confirmed ? 0 : packet.end();
        return confirmed;
    }

    static bool is(const InputSession& session, const InputPacket& packet) {
        return std::memcmp(session.name.data(), packet.data, session.name.size()) == 0;
    }

    void start(const InputPacket& packet, std::uint64_t first) {
        InputSession& session = scan_.sessions.emplace_back();
        std::memcpy(session.name.data(), packet.data, session.name.size());
        session.first = session.end = first;
        session.packets_before = scan_.packets - 1;
        ended_ = false;
        suspect_ = 0;
    }

    std::unique_ptr<Message[]> messages_ =
        std::make_unique_for_overwrite<Message[]>(frame::mold_max_messages);
    Input& input_;
    Scan scan_;
    std::uint64_t suspect_ = 0;
    bool ended_ = false;  // the end of the newest session was told
};

}  // namespace fh::replay
