// The packets of an input as a lossy network would carry them, for sending them out: what runner.hpp plays in
// process.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "frame/moldudp64.hpp"
#include "receive/lossy.hpp"
#include "replay/input.hpp"
#include "replay/scan.hpp"

namespace fh::replay {

class PacketFeed {
  public:
    // `copy_to_all`: every packet of the input goes out on each line, else each on its own.
    PacketFeed(Input& input, const Scan& scan, std::size_t lines, bool copy_to_all,
               const receive::Faults& faults, std::uint64_t seed)
        : input_(input), scan_(scan), copy_to_all_(copy_to_all) {
        for (unsigned line = 0; line < lines; ++line) lossy_.emplace_back(faults, seed, line);
        has_packet_ = input_.next(packet_);
    }

    // UTC ns of the next packet; INT64_MAX behind the last.
    std::int64_t next_packet_ns() const {
        return has_packet_ ? packet_.ts_ns : std::numeric_limits<std::int64_t>::max();
    }
    // The next packet is the first of a session: open_session() must be called before it.
    bool at_new_session() const {
        return has_packet_ && next_session_ < scan_.sessions.size() &&
               played_ == scan_.sessions[next_session_].packets_before;
    }

    // Returns the index of the session.
    std::size_t open_session() { return next_session_++; }

    // Calls out(const Datagram&) for what becomes of the next packet. False when there is none.
    template <class Out>
    bool next(Out&& out) {
        if (!has_packet_) return false;
        ++played_;
        for (std::size_t i = 0; i < lossy_.size(); ++i) {
            const auto line = static_cast<std::uint16_t>(i);
            if (!copy_to_all_ && line != packet_.line) continue;
            lossy_[line].push({packet_.data, packet_.length, line, TimestampKind::none, packet_.ts_ns}, out);
            lossy_[line].recycle();
        }
        has_packet_ = input_.next(packet_);
        return true;
    }

    // What is still delayed, then the end of the session on every line, which no fault touches.
    template <class Out>
    void end_session(Out&& out) {
        if (next_session_ == 0) return;
        for (auto& line : lossy_) {
            line.flush(0, out);
            line.recycle();
        }
        const InputSession& session = scan_.sessions[next_session_ - 1];
        std::array<std::uint8_t, frame::mold_header_bytes> packet;
        frame::encode_mold_header(packet.data(), session.name.data(), session.end,
                                  frame::mold_end_of_session);
        for (std::size_t i = 0; i < lossy_.size(); ++i) {
            const auto line = static_cast<std::uint16_t>(i);
            out(Datagram{packet.data(), packet.size(), line, TimestampKind::none, 0});
        }
    }

    std::uint64_t packets_played() const { return played_; }
    const receive::FaultCounts& faults(std::size_t line) const { return lossy_[line].counts(); }

  private:
    Input& input_;
    const Scan& scan_;
    bool copy_to_all_;
    std::vector<receive::LossyLine> lossy_;
    InputPacket packet_{};
    bool has_packet_ = false;
    std::size_t next_session_ = 0;
    std::uint64_t played_ = 0;
};

}  // namespace fh::replay
