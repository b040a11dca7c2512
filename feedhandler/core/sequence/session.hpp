// Which MoldUDP64 session the feed follows.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "frame/moldudp64.hpp"

namespace fh::sequence {

// Ten opaque bytes, compared verbatim.
struct SessionId {
    char bytes[frame::mold_session_bytes] = {};

    static SessionId from_packet(const std::uint8_t* packet) {
        SessionId id;
        std::memcpy(id.bytes, packet, sizeof id.bytes);
        return id;
    }
    static SessionId from_text(const std::string& text) {
        SessionId id;
        std::memset(id.bytes, ' ', sizeof id.bytes);
        std::memcpy(id.bytes, text.data(), text.size() < sizeof id.bytes ? text.size() : sizeof id.bytes);
        return id;
    }
    bool is(const std::uint8_t* packet) const { return std::memcmp(bytes, packet, sizeof bytes) == 0; }
    bool operator==(const SessionId&) const = default;
};

// Adopts by rule only: a configured session is never left; else the first one seen, and after its end the
// next new one.
class Session {
  public:
    explicit Session(const std::string& configured)
        : fixed_(!configured.empty()), known_(fixed_), current_(SessionId::from_text(configured)) {}

    bool known() const { return known_; }
    bool is_current(const std::uint8_t* packet) const { return known_ && current_.is(packet); }
    bool is_previous(const std::uint8_t* packet) const { return has_previous_ && previous_.is(packet); }

    // May this packet's session take the place of the current one? The one before the current is over for
    // good: a stray old packet must not bring it back.
    bool may_adopt(const std::uint8_t* packet, bool ended) const {
        return !fixed_ && (!known_ || (ended && !current_.is(packet) && !is_previous(packet)));
    }
    void adopt(const std::uint8_t* packet) {
        has_previous_ = known_;
        previous_ = current_;
        current_ = SessionId::from_packet(packet);
        known_ = true;
    }
    const char* bytes() const { return current_.bytes; }

  private:
    bool fixed_;
    bool known_;
    bool has_previous_ = false;
    SessionId current_;
    SessionId previous_;
};

}  // namespace fh::sequence
