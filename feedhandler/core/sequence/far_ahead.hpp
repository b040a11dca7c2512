// One damaged or forged header must not open a hole of astronomic size: which numbers are believed.
#pragma once

#include <cstdint>

#include "frame/moldudp64.hpp"
#include "sequence/session.hpp"

namespace fh::sequence {

// A number absurdly far ahead waits for a second packet of its session that goes on from it.
class FarAhead {
  public:
    enum class Belief : std::uint8_t {
        yes,
        not_yet,
        confirmed
    };  // confirmed: the one that waited is true too

    // `max_gap_messages` is how far ahead a packet may be to be believed alone; 0 = as far as it likes.
    explicit FarAhead(std::uint64_t max_gap_messages) : max_gap_messages_(max_gap_messages) {}

    // All numbers below `known` exist.
    Belief judge(const frame::MoldPacket& packet, const std::uint8_t* payload, std::uint64_t known) {
        if (is_near(packet.sequence, known)) [[likely]]
            return Belief::yes;
        const bool confirmed = waiting_end_ != 0 && session_.is(payload) && packet.sequence >= waiting_end_ &&
                               is_near(packet.sequence, waiting_end_);
        waiting_end_ = confirmed ? 0 : packet.end();
        session_ = SessionId::from_packet(payload);
        return confirmed ? Belief::confirmed : Belief::not_yet;
    }
    void forget() { waiting_end_ = 0; }

  private:
    bool is_near(std::uint64_t sequence, std::uint64_t known) const {
        return max_gap_messages_ == 0 || sequence <= known || sequence - known <= max_gap_messages_;
    }

    std::uint64_t max_gap_messages_;
    std::uint64_t waiting_end_ = 0;  // of the packet that waits; 0 without one
    SessionId session_;              // its session
};

}  // namespace fh::sequence
