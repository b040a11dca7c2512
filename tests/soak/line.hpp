// One multicast line: packets of the stream on their way, then the faults of the phase.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <optional>
#include <string>

#include "frame/moldudp64.hpp"
#include "receive/lossy.hpp"
#include "stream.hpp"

namespace soak {

class Line {
  public:
    enum class Kind : std::uint8_t { data, heartbeat, end, foreign, absurd };

    Line(std::uint16_t index, std::uint64_t seed) : index_(index), seed_(seed) {
        lossy_.emplace(fh::receive::Faults{}, seed, index, room);
    }

    // What is on its way still arrives as it would have.
    template <class Out>
    void set_faults(const fh::receive::Faults& faults, bool dead, std::int64_t skew_ns, std::int64_t now_ns,
                    Out&& out) {
        flush(now_ns, out);
        dropped_ = dropped();
        lossy_.emplace(faults, seed_ * 1000 + ++phase_, index_, room);
        dead_ = dead;
        skew_ns_ = skew_ns;
    }

    void send(Kind kind, const Stream& stream, std::uint64_t first, std::uint16_t count,
              std::int64_t now_ns) {
        if (dead_) return;
        last_due_ns_ = std::max(last_due_ns_, now_ns + skew_ns_);
        packets_.push_back({last_due_ns_, &stream, first, count, kind});
    }
    std::int64_t next_due_ns() const {
        return packets_.empty() ? std::numeric_limits<std::int64_t>::max() : packets_.front().due_ns;
    }

    // The next packet arrives: out(const Datagram&) for what comes of it.
    template <class Out>
    void arrive(std::int64_t now_ns, Out&& out) {
        const InFlight packet = packets_.front();
        packets_.pop_front();
        const fh::Datagram datagram{buffer_.data(), encode(packet), index_, fh::TimestampKind::kernel,
                                    now_ns};
        lossy_->push(datagram, out);
        lossy_->recycle();
    }
    // What is delayed arrives now.
    template <class Out>
    void flush(std::int64_t now_ns, Out&& out) {
        lossy_->flush(now_ns, out);
        lossy_->recycle();
    }
    std::uint64_t dropped() const { return dropped_ + lossy_->counts().dropped + lossy_->counts().corrupted; }

  private:
    static constexpr std::size_t room = 2048;
    struct InFlight {
        std::int64_t due_ns;
        const Stream* stream;
        std::uint64_t first;
        std::uint16_t count;
        Kind kind;
    };

    std::uint32_t encode(const InFlight& packet) {
        const bool foreign = packet.kind == Kind::foreign;
        const std::uint64_t first = packet.kind == Kind::absurd ? packet.first << 32 : packet.first;
        const std::uint16_t count = packet.kind == Kind::end ? fh::frame::mold_end_of_session : packet.count;
        const char* session = foreign ? "ANOTHERDAY" : packet.stream->session().data();
        fh::frame::encode_mold_header(buffer_.data(), session, first, count);
        if (packet.count == 0) return fh::frame::mold_header_bytes;
        const auto blocks = packet.stream->blocks(packet.first, packet.count);
        std::memcpy(&buffer_[fh::frame::mold_header_bytes], blocks.data(), blocks.size());
        return static_cast<std::uint32_t>(fh::frame::mold_header_bytes + blocks.size());
    }

    std::uint16_t index_;
    std::uint64_t seed_;
    std::uint64_t phase_ = 0;
    std::optional<fh::receive::LossyLine> lossy_;
    bool dead_ = false;
    std::int64_t skew_ns_ = 0, last_due_ns_ = 0;
    std::deque<InFlight> packets_;
    std::uint64_t dropped_ = 0;
    std::array<std::uint8_t, room> buffer_;
};

}  // namespace soak
