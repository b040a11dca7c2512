// A normalizer that tells a meter when the messages of a sampled packet come to it, when the book is as after
// the last of them and when their records are visible.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "message.hpp"

namespace fh::latency {

template <class Normalizer, class Ring, class Meter>
class Metered : public Normalizer {
  public:
    template <class... Arguments>
    Metered(Meter& meter, Ring& ring, Arguments&&... arguments)
        : Normalizer(ring, std::forward<Arguments>(arguments)...), meter_(meter), ring_(ring) {}

    void on_messages(std::uint64_t first_sequence, std::span<const Message> messages, std::int64_t ts_recv_ns,
                     TimestampKind kind) {
        if (meter_.following()) [[unlikely]]
            return follow(first_sequence, messages, ts_recv_ns, kind);
        Normalizer::on_messages(first_sequence, messages, ts_recv_ns, kind);
    }

  private:
    [[gnu::noinline]] void follow(std::uint64_t first_sequence, std::span<const Message> messages,
                                  std::int64_t ts_recv_ns, TimestampKind kind) {
        const bool own = !messages.empty() && meter_.owns(messages.front().data);
        if (own) {
            const std::uint64_t last = first_sequence + messages.size() - 1;
            ring_.watch(
                static_cast<std::uint32_t>(last), [](void* meter) { static_cast<Meter*>(meter)->booked(); },
                &meter_);
            meter_.sequenced(last);
        }
        Normalizer::on_messages(first_sequence, messages, ts_recv_ns, kind);
        if (own) meter_.published(ring_.unwatch());
    }

    Meter& meter_;
    Ring& ring_;
};

}  // namespace fh::latency
