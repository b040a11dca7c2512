// Plays an input through the whole pipeline in one process, on virtual time: lossy lines, arbiter, books,
// records, and a simulated exchange behind them that answers re-requests and ends the session. Same input,
// settings and seed: the same records, whatever the machine's speed.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "frame/moldudp64.hpp"
#include "pipeline.hpp"
#include "receive/lossy.hpp"
#include "record/normalizer.hpp"
#include "replay/input.hpp"
#include "replay/record_buffers.hpp"
#include "replay/rewind_server.hpp"
#include "replay/scan.hpp"
#include "replay/snapshot_server.hpp"

namespace fh::replay {

struct RunnerSettings {
    std::size_t lines = 2;         // offered to the arbiter
    bool copy_to_all = true;       // every packet of the input is offered on each line; else on its own
    receive::Faults faults;        // of each line
    bool rewind = true;            // is there a re-request server
    bool snapshot = false;         // is there a snapshot server
    Midnights midnights{0};        // of the trading day, or of the days that sessions begin on; not empty
    double drop_rewind = 0;        // probability for a request, and for a reply
    std::uint64_t attempts = 100;  // how often a request is sent before its messages are given up
    std::uint64_t seed = 0;
    TimestampKind timestamp_kind = TimestampKind::kernel;  // of what the exchange itself sends
};

class Runner {
  public:
    using Normalizer = record::Normalizer<RecordBuffers>;

    // All references must outlive the runner.
    Runner(Input& input, const Scan& scan, const RunnerSettings& settings, Counters& counters,
           Normalizer& normalizer, const RecordBuffers& records)
        : input_(input),
          scan_(scan),
          settings_(settings),
          records_(records),
          normalizer_(normalizer),
          server_(settings.drop_rewind, settings.seed),
          pipeline_(arbiter_settings(settings, scan), counters, normalizer, *this) {
        for (unsigned line = 0; line < settings.lines; ++line)
            lossy_.emplace_back(settings.faults, settings.seed, line);
        clock_ns_ = scan.first_ns;
        has_packet_ = input_.next(packet_);
    }

    // Plays on until `packets` were played, the next one is later than `until_ns`, or `bytes` of records wait
    // to be taken. False when everything was played and the last session is over.
    bool step(std::uint64_t packets, std::int64_t until_ns, std::size_t bytes) {
        for (std::uint64_t i = 0; i < packets && has_packet_; ++i) {
            if (packet_.ts_ns > until_ns || ((i & 63) == 0 && records_.bytes() >= bytes)) return true;
            play();
            has_packet_ = input_.next(packet_);
        }
        if (!has_packet_ && !over_) {
            if (next_session_ < scan_.sessions.size()) start_session();  // it had no packet
            end_session();
            over_ = true;
        }
        return !over_;
    }

    std::uint64_t packets_played() const { return played_; }
    // UTC ns of the next packet; INT64_MAX behind the last.
    std::int64_t next_packet_ns() const { return has_packet_ ? packet_.ts_ns : never; }
    // UTC ns of the virtual clock: at the end, no record was received later.
    std::int64_t clock_ns() const { return clock_ns_; }
    // Packets played so far whose number was too far ahead to be believed: not offered.
    std::uint64_t disbelieved_packets() const { return disbelieved_; }
    const receive::FaultCounts& faults(std::size_t line) const { return lossy_[line].counts(); }
    const auto& arbiter() const { return pipeline_.arbiter(); }

    // The host of the pipeline.
    void on_event(const Event&) {}
    void send_request(std::size_t /*server*/, std::span<const std::uint8_t, 20> datagram) {
        server_.on_request(datagram, clock_ns_);
    }
    void start_snapshot(std::int64_t now_ns) { snapshots_.on_request(sent_end_, now_ns); }
    book::BookSet& snapshot_books() { return snapshots_.books(); }

  private:
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
    static constexpr std::int64_t end_repeat_ns = 1'000'000'000;  // as exchanges do
    static constexpr int most_end_repeats = 1'000'000;

    static std::uint64_t most_messages(const Scan& scan) {
        std::uint64_t most = 0;
        for (const auto& session : scan.sessions) most = std::max(most, session.end - session.first);
        return most;
    }

    static sequence::Settings arbiter_settings(const RunnerSettings& settings, const Scan& scan) {
        sequence::Settings out;
        out.lines = settings.lines;
        out.servers = settings.rewind ? 1 : 0;
        out.snapshot = settings.snapshot;
        out.first_sequence = scan.sessions.empty() ? 0 : scan.sessions.front().first;
        out.timeout_ns = 10 * RewindServer::round_trip_ns;
        out.retries = settings.attempts - 1;
        out.max_outstanding = 16;
        out.requests_per_s = 0;
        out.believe_servers = true;
        out.hold_messages = std::clamp<std::size_t>(most_messages(scan), 1024, 1'000'000);
        // What is to be believed, and when a session begins, was decided by the scan.
        out.max_gap_messages = 0;
        out.rollover_after_end = out.restart_after_silence = false;
        return out;
    }

    void play() {
        if (next_session_ < scan_.sessions.size() && played_ == scan_.sessions[next_session_].packets_before)
            start_session();
        // Not offered: copies of one packet on two lines would confirm each other.
        const bool believed =
            disbelieved_ == scan_.disbelieved.size() || scan_.disbelieved[disbelieved_] != played_;
        ++played_;
        // Time moves on even where timestamps stand still or go back: by what a packet takes at 100 Gbit/s.
        advance_to(std::max(packet_.ts_ns, clock_ns_ + (packet_.length + 66) * 2 / 25));
        if (!believed) [[unlikely]] {
            ++disbelieved_;
            return;
        }
        note_sent();
        const Datagram datagram{packet_.data, packet_.length, packet_.line, packet_.kind, packet_.ts_ns};
        if (!settings_.copy_to_all) {
            offer(datagram);
            return;
        }
        for (std::size_t i = 0; i < settings_.lines; ++i) {
            const auto line = static_cast<std::uint16_t>(i);
            Datagram copy = datagram;
            copy.line = line;
            offer(copy);
        }
    }

    // How far the exchange has come, by the packets of its session.
    void note_sent() {
        if (!settings_.snapshot || next_session_ == 0 || packet_.length < frame::mold_header_bytes) return;
        const InputSession& session = scan_.sessions[next_session_ - 1];
        if (std::memcmp(session.name.data(), packet_.data, session.name.size()) != 0) return;
        sent_end_ = std::max(sent_end_, std::min(session.end, frame::load_mold_header(packet_.data).end()));
    }

    void offer(const Datagram& datagram) {
        if (!faulty_) {
            deliver(datagram);
            return;
        }
        auto& line = lossy_[datagram.line];
        line.push(datagram, [this](const Datagram& out) { deliver(out); });
        line.recycle();
    }

    void deliver(const Datagram& datagram) {
        pipeline_.arbiter().on_packet(datagram.line, datagram.data, datagram.length, datagram.ts_recv_ns,
                                      datagram.timestamp_kind, clock_ns_);
    }

    // Replies and timers that are due by then, in order of time.
    void advance_to(std::int64_t ns) {
        auto& arbiter = pipeline_.arbiter();
        for (;;) {
            const std::int64_t reply_ns = server_.next_due_ns(never);
            const std::int64_t snapshot_ns = snapshots_.next_due_ns();
            const std::int64_t next_ns = std::min({reply_ns, snapshot_ns, arbiter.next_deadline()});
            if (next_ns > ns) [[likely]]
                break;
            clock_ns_ = std::max(clock_ns_, next_ns);
            if (reply_ns == next_ns) {
                const RewindServer::Reply reply = server_.take();
                const TimestampKind own = settings_.timestamp_kind;  // the clock is that of the input's times
                arbiter.on_reply(0, reply.datagram.data(), reply.datagram.size(), clock_ns_,
                                 reply.doubtful ? in_doubt(own) : own, clock_ns_);
            } else if (snapshot_ns == next_ns) {
                const auto number = snapshots_.take();
                number ? arbiter.on_snapshot(*number, clock_ns_) : arbiter.on_snapshot_failed(clock_ns_);
            } else {
                arbiter.on_timer(clock_ns_);
            }
        }
        clock_ns_ = std::max(clock_ns_, ns);
    }

    // The exchange opens with a heartbeat that no fault touches: no stray packet is taken for the session.
    void start_session() {
        if (next_session_ > 0) end_session();
        const InputSession& session = scan_.sessions[next_session_++];
        const std::int64_t midnight_ns = midnight_before(settings_.midnights, session.day_ns);
        normalizer_.set_midnight(midnight_ns);
        server_.serve(session);
        snapshots_.serve(session, midnight_ns);
        sent_end_ = session.first;
        if (next_session_ > 1) pipeline_.arbiter().let_session_go();  // it may begin anew under its name
        tell(session, session.first, frame::mold_heartbeat);
    }

    // The exchange ends the session on every line, and goes on saying so until every hole is filled or given
    // up.
    void end_session() {
        if (next_session_ == 0) return;
        for (auto& line : lossy_) line.flush(clock_ns_, [this](const Datagram& out) { deliver(out); });
        for (auto& line : lossy_) line.recycle();
        const InputSession& session = scan_.sessions[next_session_ - 1];
        sent_end_ = session.end;
        for (int i = 0; i < most_end_repeats; ++i) {
            tell(session, session.end, frame::mold_end_of_session);
            if (pipeline_.arbiter().state() == FeedState::ended) return;
            advance_to(clock_ns_ + end_repeat_ns);
        }
    }

    void tell(const InputSession& session, std::uint64_t sequence, std::uint16_t what) {
        std::array<std::uint8_t, frame::mold_header_bytes> packet;
        frame::encode_mold_header(packet.data(), session.name.data(), sequence, what);
        for (std::size_t i = 0; i < settings_.lines; ++i) {
            const auto line = static_cast<std::uint16_t>(i);
            deliver({packet.data(), static_cast<std::uint32_t>(packet.size()), line, settings_.timestamp_kind,
                     clock_ns_});
        }
    }

    Input& input_;
    const Scan& scan_;
    RunnerSettings settings_;
    const RecordBuffers& records_;
    Normalizer& normalizer_;
    RewindServer server_;
    SnapshotServer snapshots_;
    std::uint64_t sent_end_ = 0;  // the exchange has sent all numbers of the session below
    Pipeline<Normalizer, Runner> pipeline_;
    std::vector<receive::LossyLine> lossy_;
    bool faulty_ = settings_.faults.any();
    InputPacket packet_{};
    bool has_packet_ = false;
    bool over_ = false;
    std::size_t next_session_ = 0;
    std::uint64_t played_ = 0;
    std::size_t disbelieved_ = 0;
    std::int64_t clock_ns_ = 0;
};

}  // namespace fh::replay
