// Joins the stages: Arbiter -> Normalizer -> Publisher. Nothing else happens here: a packet goes in, the
// arbiter calls this sink in feed order, and what is for the outside (states, requests) goes on to the host.
// Live feed and replay are such hosts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "decode/well_formed.hpp"
#include "event.hpp"
#include "message.hpp"
#include "publish/counters.hpp"
#include "sequence/arbiter.hpp"

namespace fh {

// Normalizer: on_messages(first_sequence, messages, ts_recv_ns, kind), on_clear(sequence, ts_ns),
// set_state(FeedState), and
//             optionally on_lookahead(messages).
// Host:       on_event(event): shows states and events to the outside; a state must be visible there when it
// returns,
//             send_request(server, datagram): sends a re-request of 20 bytes,
//             and where there are snapshots start_snapshot(now_ns): asks for one, answered by the arbiter's
//             on_snapshot or on_snapshot_failed; snapshot_books(): the books of the one that is ready.
// Both are called on the receive thread only and must outlive the pipeline.
template <class Normalizer, class Host>
class Pipeline {
  public:
    using Arbiter = sequence::Arbiter<Pipeline>;

    Pipeline(const sequence::Settings& settings, Counters& counters, Normalizer& normalizer, Host& host)
        : normalizer_(normalizer), host_(host), arbiter_(settings, *this, counters) {}
    Pipeline(const Pipeline&) = delete;  // the arbiter holds a reference to its sink
    Pipeline& operator=(const Pipeline&) = delete;

    Arbiter& arbiter() { return arbiter_; }
    const Arbiter& arbiter() const { return arbiter_; }

    // Sink of the arbiter.
    void on_messages(std::uint64_t first_sequence, std::span<const Message> messages, std::int64_t ts_recv_ns,
                     TimestampKind kind) {
        normalizer_.on_messages(first_sequence, messages, ts_recv_ns, kind);
    }
    void on_lookahead(std::span<const Message> messages) requires
        requires(Normalizer& n, std::span<const Message> m) {
        n.on_lookahead(m);
    }
    { normalizer_.on_lookahead(messages); }
    void on_clear(std::uint64_t sequence, std::int64_t ts_ns) { normalizer_.on_clear(sequence, ts_ns); }
    void on_event(const Event& event) {
        host_.on_event(event);  // first: the state is visible before any record that follows it
        if (event.type == EventType::state) normalizer_.set_state(event.state);
    }
    void send_request(std::size_t server, std::span<const std::uint8_t, 20> datagram) {
        host_.send_request(server, datagram);
    }

    // Whether a server's reply can be true: MoldUDP64 has no checksum, and a wrong message is a wrong book.
    // Types that are unknown here are believed once the lines have brought such.
    bool believes(std::span<const Message> messages) const {
        return decode::well_formed(messages, normalizer_.counters().unknown_messages != 0);
    }

    void start_snapshot(std::int64_t now_ns) requires requires(Host& h) { h.start_snapshot(now_ns); }
    { host_.start_snapshot(now_ns); }
    bool on_splice(std::uint64_t first_to_apply, std::uint64_t covered, std::int64_t now_ns) {
        if constexpr (requires { host_.snapshot_books(); })
            return normalizer_.on_snapshot(host_.snapshot_books(), first_to_apply, covered, now_ns);
        else
            return true;
    }

  private:
    Normalizer& normalizer_;
    Host& host_;
    Arbiter arbiter_;
};

}  // namespace fh
