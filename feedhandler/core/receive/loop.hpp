// The receive thread's loop: packets in, timers, heartbeat; everything else hangs on the handler.
#pragma once

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "receive/clock.hpp"
#include "receive/request_sockets.hpp"
#include "receive/source.hpp"

namespace fh::receive {

// What the loop drives. All calls come from the receive thread; now_ns is UTC and never decreases. A handler
// may have on_poll(datagrams of the lines) too, called right behind the poll: there it may look at a clock.
template <class H>
concept PacketHandler = requires(H handler, const Datagram& datagram, std::int64_t time_ns) {
    handler.on_datagram(datagram, time_ns);
    { handler.look_ahead(std::span<const Datagram>{}) } -> std::same_as<std::size_t>;
    handler.on_timer(time_ns);
    { handler.next_deadline() } -> std::convertible_to<std::int64_t>;
    handler.end_turn(time_ns, time_ns);  // (now_ns, monotonic_ns)
};

template <Source S, PacketHandler H>
class ReceiveLoop {
  public:
    // While blocked the heartbeat must still beat, often enough for the other half of a hot pair to take over
    // within 10 ms: never sleep for longer.
    static constexpr std::int64_t longest_wait_ns = 2'000'000;

    ReceiveLoop(S& source, RequestSockets& requests, H& handler, bool spin)
        : source_(source),
          requests_(requests),
          handler_(handler),
          spin_(spin),
          batch_((source.line_count() + requests.server_count()) * UdpReceiver::batch) {
        for (const int fd : source.fds()) waited_.push_back({fd, POLLIN, 0});
        for (const int fd : requests.fds()) waited_.push_back({fd, POLLIN, 0});
    }

    void run(const std::atomic<bool>& stop) {
        while (!stop.load(std::memory_order_relaxed)) {
            if (turn() == 0 && !spin_) wait();
        }
    }

    // Returns how many datagrams were handled.
    std::size_t turn() {
        const std::span<Datagram> out(batch_);
        std::size_t count = source_.poll(out);
        if constexpr (requires { handler_.on_poll(count); }) handler_.on_poll(count);
        count += requests_.poll(out.subspan(count), clock_.now_ns());
        const std::int64_t now_ns = clock_.read();
        for (std::span<Datagram> rest = out.first(count); !rest.empty();) {
            const std::size_t announced = handler_.look_ahead(std::span<const Datagram>(rest));
            for (Datagram& datagram : rest.first(announced)) {
                if (datagram.timestamp_kind == TimestampKind::none) {
                    datagram.ts_recv_ns = now_ns;
                    datagram.timestamp_kind = TimestampKind::user;
                }
                handler_.on_datagram(datagram, now_ns);
            }
            rest = rest.subspan(announced);
        }
        if (now_ns >= handler_.next_deadline()) handler_.on_timer(now_ns);
        handler_.end_turn(now_ns, clock_.monotonic_ns());
        return count;
    }

    const FeedClock& clock() const { return clock_; }

  private:
    void wait() {
        const std::int64_t due_ns = handler_.next_deadline() - clock_.now_ns();
        const std::int64_t timeout_ns = std::clamp<std::int64_t>(due_ns, 0, longest_wait_ns);
        const timespec timeout{0, static_cast<long>(timeout_ns)};
        ppoll(waited_.data(), waited_.size(), &timeout, nullptr);
    }

    S& source_;
    RequestSockets& requests_;
    H& handler_;
    bool spin_;
    std::vector<Datagram> batch_;
    std::vector<pollfd> waited_;
    FeedClock clock_;
};

}  // namespace fh::receive
