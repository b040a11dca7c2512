// An exchange with two lines and its servers, a feed handler and a checker, on virtual time: plays one
// schedule from beginning to end.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checker.hpp"
#include "handler.hpp"
#include "line.hpp"
#include "schedule.hpp"
#include "servers.hpp"
#include "stream.hpp"

namespace soak {

// What happened, to show that the soak was not idle.
struct Happened {
    std::uint64_t packets_dropped = 0, holes = 0, holes_lost = 0, requests = 0, useless_replies = 0;
    std::uint64_t snapshots = 0, snapshots_failed = 0, rollovers = 0, starts = 0, late_starts = 0;
    std::uint64_t recovered_line = 0, recovered_rewind = 0, recovered_snapshot = 0;
};

class World {
  public:
    World(const Schedule& schedule, Sabotage sabotage, CheckCounts& checks, Happened& happened)
        : schedule_(schedule),
          sabotage_(sabotage),
          happened_(happened),
          checker_(checks),
          random_(schedule.seed, 7004),
          servers_(schedule.seed),
          snapshots_(schedule.seed, schedule.settings.first_to_apply_offset),
          lines_{Line{0, schedule.seed}, Line{1, schedule.seed}} {}

    void play() {
        for (std::size_t i = 0; i < schedule_.sessions.size(); ++i) {
            const SessionPlan& plan = schedule_.sessions[i];
            fh::simulate::ExchangeSettings exchange;
            exchange.messages = plan.day;
            exchange.symbols = plan.symbols;
            exchange.seed = schedule_.seed * 8 + i;
            exchange.max_orders = 1u << 19;
            const std::string name = "SESSION--" + std::to_string(i + 1);
            streams_.push_back(std::make_unique<Stream>(exchange, plan.messages, name));
            session(plan, *streams_.back());
        }
        stop_handler();
    }

  private:
    static constexpr std::int64_t second_ns = 1'000'000'000;
    static constexpr std::int64_t end_repeat_ns = 250'000'000;
    static constexpr int most_end_repeats = 2400;  // ten minutes

    // ---- the exchange

    void session(const SessionPlan& plan, const Stream& stream) {
        stream_ = &stream;
        sent_end_ = 1;
        snapshots_.serve(stream);
        std::size_t start = 0;
        for (const Phase& phase : plan.phases) {
            enter(phase);
            const bool last = &phase == &plan.phases.back();
            const std::uint64_t end = last ? stream.end() : std::min(phase.end, stream.end());
            while (sent_end_ < end) {
                for (; start < plan.starts.size() && plan.starts[start] <= sent_end_; ++start)
                    start_handler();
                send_packet(end);
            }
        }
        for (; start < plan.starts.size(); ++start) start_handler();
        finish_session(plan);
    }

    void enter(const Phase& phase) {
        const std::int64_t until_ns = now_ns_ + phase.pause_ns;
        while (now_ns_ + second_ns <= until_ns) {
            advance_to(now_ns_ + second_ns);
            send_all(Line::Kind::heartbeat, sent_end_, 0);
        }
        phase_ = &phase;
        for (unsigned i = 0; i < lines; ++i)
            lines_[i].set_faults(phase.faults[i], phase.dead[i], phase.skew_ns[i], now_ns_,
                                 [this](const fh::Datagram& datagram) { deliver(datagram); });
    }

    void send_packet(std::uint64_t end) {
        advance_to(
            now_ns_ + 1 +
            static_cast<std::int64_t>(random_.exponential(static_cast<std::uint64_t>(phase_->gap_ns))));
        if (random_.below(65'536) < phase_->strays) stray();
        const std::uint64_t first = sent_end_;
        const std::uint16_t count = packet_of(first, end);
        sent_end_ = first + count;
        lines_[0].send(Line::Kind::data, *stream_, first, count, now_ns_);
        if (!phase_->recut) return lines_[1].send(Line::Kind::data, *stream_, first, count, now_ns_);
        for (std::uint64_t at = first; at < sent_end_;) {
            const std::uint16_t part = packet_of(at, sent_end_);
            lines_[1].send(Line::Kind::data, *stream_, at, part, now_ns_);
            at += part;
        }
    }
    std::uint16_t packet_of(std::uint64_t first, std::uint64_t end) {
        const std::uint64_t wanted = phase_->messages == 1 ? 1 : 1 + random_.below(2 * phase_->messages);
        return stream_->fitting(first, std::min(wanted, end - first), 1400);
    }

    // A packet of another session, or a number that nobody can believe.
    void stray() {
        const bool foreign = random_.below(2) == 0;
        const std::uint64_t number =
            foreign ? 1 + random_.next() % (stream_->end() - 1) : std::max<std::uint64_t>(1, sent_end_ - 1);
        lines_[random_.below(lines)].send(foreign ? Line::Kind::foreign : Line::Kind::absurd, *stream_,
                                          number, 1, now_ns_);
    }

    void send_all(Line::Kind kind, std::uint64_t first, std::uint16_t count) {
        for (Line& line : lines_) line.send(kind, *stream_, first, count, now_ns_);
    }

    // All is well again; the exchange says that the session is over until it is.
    void finish_session(const SessionPlan& plan) {
        static const Phase well;
        enter(well);
        for (int i = 0; i < most_end_repeats; ++i) {
            send_all(Line::Kind::end, sent_end_, 0);
            advance_to(now_ns_ + end_repeat_ns);
            if (checker_.state() == fh::FeedState::ended) break;
        }
        if (checker_.state() != fh::FeedState::ended) checker_.wrong("the session never ends");
        if (&plan == &schedule_.sessions.back()) return;
        ++happened_.rollovers;
        advance_to(now_ns_ + plan.pause_ns);
    }

    // ---- time

    void advance_to(std::int64_t ns) {
        unsigned at_one_instant = 0;
        for (;;) {
            const std::int64_t timer_ns = handler_ ? handler_->arbiter().next_deadline() : never_ns;
            const std::int64_t next_ns =
                std::min({lines_[0].next_due_ns(), lines_[1].next_due_ns(), servers_.next_due_ns(),
                          snapshots_.next_due_ns(), timer_ns});
            if (next_ns > ns) break;
            at_one_instant = next_ns > now_ns_ ? 0 : at_one_instant + 1;
            if (at_one_instant > 1'000'000) checker_.wrong("time stands still");
            now_ns_ = std::max(now_ns_, next_ns);
            happen(next_ns, timer_ns);
            if (handler_) settle();
        }
        now_ns_ = std::max(now_ns_, ns);
    }

    void happen(std::int64_t due_ns, std::int64_t timer_ns) {
        for (Line& line : lines_) {
            if (line.next_due_ns() == due_ns) return arrive(line);
        }
        if (servers_.next_due_ns() == due_ns) {
            const Reply reply = servers_.take();
            handler_->arbiter().on_reply(reply.server, reply.datagram.data(), reply.datagram.size(), now_ns_,
                                         fh::TimestampKind::kernel, now_ns_);
        } else if (snapshots_.next_due_ns() == due_ns) {
            if (snapshots_.turn(phase_->image, sent_end_, now_ns_)) load();
        } else if (timer_ns == due_ns) {
            handler_->arbiter().on_timer(now_ns_);
        }
    }

    void arrive(Line& line) {
        line.arrive(now_ns_, [this](const fh::Datagram& datagram) { deliver(datagram); });
    }
    void deliver(const fh::Datagram& datagram) {
        if (!handler_) return;
        auto& arbiter = handler_->arbiter();
        // Where a foreign session would be taken for the next one, or the first, and any number for the
        // first.
        const bool open = arbiter.state() == fh::FeedState::ended || arbiter.next_sequence() == 0;
        if (open && (is_foreign(datagram) || is_absurd(datagram))) return;
        arbiter.on_packet(datagram.line, datagram.data, datagram.length, datagram.ts_recv_ns,
                          datagram.timestamp_kind, now_ns_);
        note_revealed(datagram);
        settle();
    }
    static bool is_foreign(const fh::Datagram& datagram) {
        return datagram.length >= 7 && std::memcmp(datagram.data, "SESSION", 7) != 0;
    }
    static bool is_absurd(const fh::Datagram& datagram) {
        return datagram.length >= fh::frame::mold_header_bytes &&
               fh::frame::load_be64(datagram.data + 10) >> 32 != 0;
    }
    // The numbers that a well-formed packet of the handler's session tells, the believable ones.
    void note_revealed(const fh::Datagram& datagram) {
        if (!fh::frame::is_well_formed_mold(datagram.data, datagram.length)) return;
        if (std::memcmp(datagram.data, handler_->arbiter().session(), 10) != 0) return;
        const std::uint16_t count = fh::frame::load_be16(datagram.data + 18);
        const std::uint64_t end =
            fh::frame::load_be64(datagram.data + 10) + (count == fh::frame::mold_end_of_session ? 0 : count);
        if (end <= session_end()) revealed_ = std::max(revealed_, end);
    }
    std::uint64_t session_end() const { return streams_.back()->end(); }

    void settle() {
        checker_.settled(handler_->arbiter().next_sequence(), revealed_);
        handler_->end_turn();
    }

    // ---- the handler

    void start_handler() {
        stop_handler();
        ++happened_.starts;
        happened_.late_starts += sent_end_ > 1;
        revealed_ = 0;
        handler_ = std::make_unique<Handler>(schedule_.settings, checker_, schedule_.one_by_one, sabotage_,
                                             outside());
    }
    void stop_handler() {
        if (!handler_) return;
        const fh::Counters& counters = handler_->counters();
        happened_.holes += counters.gaps.total;
        happened_.requests += counters.recovery.requests;
        happened_.useless_replies += counters.recovery.useless_replies;
        happened_.recovered_line += counters.gaps.recovered_line;
        happened_.recovered_rewind += counters.gaps.recovered_rewind;
        happened_.recovered_snapshot += counters.gaps.recovered_snapshot;
        happened_.packets_dropped = lines_[0].dropped() + lines_[1].dropped();
        handler_.reset();
        servers_.forget();
        snapshots_.forget();
    }

    Outside outside() {
        return {[this](const char* session) { return stream_of(session); },
                [this](std::size_t server, const std::uint8_t* request) { answer(server, request); },
                [this] { snapshots_.on_request(now_ns_); }, [this](const fh::Event& event) { note(event); }};
    }
    const Stream* stream_of(const char* session) const {
        for (const auto& stream : streams_) {
            if (std::memcmp(stream->session().data(), session, 10) == 0) return stream.get();
        }
        checker_.wrong("a session that does not exist");
    }
    void answer(std::size_t server, const std::uint8_t* request) {
        const Stream& stream = *stream_of(reinterpret_cast<const char*>(request));
        const std::uint64_t sent_end = &stream == stream_ ? sent_end_ : stream.end();
        servers_.on_request(server, request, phase_->servers[server], stream, sent_end, now_ns_);
    }
    void load() {
        auto image = snapshots_.take();
        // It is of the exchange's session: the client refuses another.
        if (std::memcmp(handler_->arbiter().session(), stream_->session().data(), 10) != 0) image.reset();
        happened_.snapshots_failed += image == nullptr;
        handler_->on_image(std::move(image), now_ns_);
    }
    void note(const fh::Event& event) {
        if (event.type == fh::EventType::session_start) revealed_ = 0;
        if (event.type == fh::EventType::gap_lost) ++happened_.holes_lost;
        if (event.type == fh::EventType::snapshot_end && event.first != 0) ++happened_.snapshots;
    }

    const Schedule& schedule_;
    Sabotage sabotage_;
    Happened& happened_;
    Checker checker_;
    fh::Random random_;
    RewindServers servers_;
    SnapshotServer snapshots_;
    std::array<Line, lines> lines_;
    std::vector<std::unique_ptr<Stream>> streams_;
    std::unique_ptr<Handler> handler_;
    const Stream* stream_ = nullptr;  // of the exchange's session
    const Phase* phase_ = nullptr;
    std::uint64_t sent_end_ = 1;
    std::uint64_t revealed_ = 0;
    std::int64_t now_ns_ = 1'700'000'000'000'000'000;
};

}  // namespace soak
