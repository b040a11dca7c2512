// Packets of any number of lines, and of re-request servers, in; every message once and in order out, or
// reported lost.
//
// Sink (called on the same thread, in feed order):
//   void on_messages(std::uint64_t first_sequence, std::span<const Message>, std::int64_t ts_recv_ns,
//   TimestampKind); void on_clear(std::uint64_t sequence, std::int64_t ts_ns);   all books empty: numbers up
//   to `sequence` were lost, 0 = rollover void on_event(const Event&); void send_request(std::size_t server,
//   std::span<const std::uint8_t, 20> datagram); void on_lookahead(std::span<const Message>);   optional:
//   messages that on_messages will bring at once, in several calls
//   bool believes(std::span<const Message>) const;   optional: can a server's reply be true
//   void start_snapshot(std::int64_t now_ns);   with settings.snapshot: load one
//   bool on_splice(std::uint64_t first_to_apply, std::uint64_t covered, std::int64_t now_ns);   the books
//   become those of the loaded one; false: not all of them yet, to be called again (covered = 0)
//
// Order of events. A hole: gap_open, state RECOVERING, its request. Filled: gap_closed, then the messages
// (its last ones and those behind it), then the state. Given up: gap_lost, state STALE; on_clear when the
// feed reaches the lost numbers. End: session_end, state ENDED. Rollover: on_clear(0), session_start, the
// state. Last, after what caused it: server and escalation.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "event.hpp"
#include "frame/moldudp64.hpp"
#include "message.hpp"
#include "publish/counters.hpp"
#include "sequence/escalation.hpp"
#include "sequence/far_ahead.hpp"
#include "sequence/gap_history.hpp"
#include "sequence/gap_set.hpp"
#include "sequence/hold.hpp"
#include "sequence/lines.hpp"
#include "sequence/requester.hpp"
#include "sequence/session.hpp"
#include "sequence/settings.hpp"

namespace fh::sequence {

// Allocates in its constructor only. `now_ns` is UTC and never goes back.
template <class Sink>
class Arbiter {
  public:
    Arbiter(const Settings& settings, Sink& sink, Counters& counters)
        : settings_(settings),
          sink_(sink),
          counters_(counters),
          session_(settings.session),
          messages_(std::make_unique_for_overwrite<Message[]>(frame::mold_max_messages)),
          hold_(settings.hold_messages, settings.hold_bytes),
          lines_(settings_, counters, 2 * hold_.slots()),
          gaps_(std::clamp<std::size_t>(settings.hold_messages, 64, 1 << 16), counters.gaps, history_),
          requester_(settings, gaps_, counters) {}
    Arbiter(const Arbiter&) = delete;
    Arbiter& operator=(const Arbiter&) = delete;

    // Of datagrams that are there already: tells the sink what the first of them will bring if they are just
    // what is next, so that it can ask memory for it all at once. Returns how many they are, at least one.
    // Changes nothing, promises nothing: each still comes through on_packet.
    template <class Datagram>
    std::size_t look_ahead(std::span<const Datagram> datagrams) {
        std::uint64_t next = in_order_;
        if (datagrams.size() == 1 || next == no_number) return datagrams.size();
        std::size_t messages = 0;
        std::size_t seen = 0;
        for (; seen < datagrams.size(); ++seen) {
            const Datagram& datagram = datagrams[seen];
            if (datagram.length < frame::mold_header_bytes) continue;
            const frame::MoldHeader header = frame::load_mold_header(datagram.data);
            if (header.sequence != next || header.is_empty()) continue;  // another line's copy, mostly
            if (header.count > lookahead_messages - messages) break;
            if (!session_.is_current(datagram.data)) continue;
            const frame::MoldPacket packet =
                frame::parse_mold(datagram.data, datagram.length, batch_.data() + messages);
            if (packet.kind != frame::MoldKind::data) continue;
            messages += packet.count;
            next = packet.end();
        }
        if constexpr (requires { sink_.on_lookahead(std::span<const Message>{}); }) {
            if (messages != 0) sink_.on_lookahead(std::span<const Message>{batch_.data(), messages});
        }
        return std::max<std::size_t>(seen, 1);
    }

    // A datagram of a multicast line.
    void on_packet(std::size_t line, const std::uint8_t* payload, std::size_t length, std::int64_t ts_recv_ns,
                   TimestampKind kind, std::int64_t now_ns) {
        LineCounters& counters = counters_.lines[line];
        ++counters.packets;
        counters.bytes += length;
        const frame::MoldPacket packet = frame::parse_mold(payload, length, messages_.get());
        if (packet.kind == frame::MoldKind::malformed) [[unlikely]] {
            ++counters.malformed;
            return;
        }
        if (packet.sequence == in_order_ && packet.count != 0 && session_.is_current(payload)) [[likely]] {
            heard(line, now_ns);
            lines_.mark(line, packet.sequence, packet.end());
            counters.messages += packet.count;
            counters.won += packet.count;
            in_order_ = next_ = highest_ = packet.end();
            sink_.on_messages(packet.sequence, {messages_.get(), packet.count}, ts_recv_ns, kind);
            return;
        }
        on_unusual_packet(line, packet, payload, {ts_recv_ns, kind}, now_ns);
    }

    // A datagram that came from a re-request server: fills holes, reveals none. Nothing of it is used when
    // its session or its number is not what the server was asked for: false.
    bool on_reply(std::size_t server, const std::uint8_t* payload, std::size_t length,
                  std::int64_t ts_recv_ns, TimestampKind kind, std::int64_t now_ns) {
        ++counters_.recovery.replies;
        const frame::MoldPacket packet = frame::parse_mold(payload, length, messages_.get());
        std::uint64_t useful = 0;
        const bool lie = is_lie(server, packet, payload);
        if (lie) {
            requester_.lied(server, now_ns);
            settle(now_ns);
        } else if (packet.kind == frame::MoldKind::data && next_ != 0 && session_.is_current(payload)) {
            useful = fill(packet, {ts_recv_ns, kind}, Source::server, now_ns);
            requester_.answered(server, packet.sequence, packet.end(), useful, now_ns);
            settle(now_ns);
        }
        if (useful == 0) ++counters_.recovery.useless_replies;
        return !lie;
    }
    // The host of a re-request server said that nobody listens there.
    void on_refused(std::size_t server, std::int64_t now_ns) {
        if (next_ == 0) return;
        requester_.refused(server, now_ns);
        settle(now_ns);
    }

    // Call at next_deadline() or later, as often as you like: cheap when nothing is due.
    void on_timer(std::int64_t now_ns) {
        if (now_ns < next_deadline()) return;
        lines_.check(now_ns, [&](std::size_t line) {
            emit(EventType::line_down, now_ns, 0, 0, static_cast<std::uint8_t>(line));
        });
        if (next_ == 0) return;
        if (std::exchange(slicing_, false)) drain(now_ns);
        while (const Requester::Request* request = requester_.expire(now_ns))
            give_up_unanswered(*request, now_ns);
        if (settings_.servers == 0) give_up_holes_asked_before(now_ns, now_ns);
        settle(now_ns);
    }
    // UTC ns; the earliest time at which on_timer has work.
    std::int64_t next_deadline() const { return std::min(lines_.deadline_ns(), recovery_deadline_ns_); }

    // The session's day is over and its lines are silent, or whoever knows what comes says so: the next
    // session may begin, or this one anew at number 1, although no end was told. Until the session is heard
    // again.
    void let_session_go() { let_go_ = true; }

    // The answers to the sink's start_snapshot: a snapshot of everything before the message that its last
    // packet named is ready; or an image of everything before `first_to_apply`, whatever its source; or there
    // is none.
    void on_snapshot(std::uint64_t number, std::int64_t now_ns) {
        on_image(number + settings_.first_to_apply_offset, now_ns);
    }
    void on_image(std::uint64_t first_to_apply, std::int64_t now_ns) {
        if (!holding_ || splice_ != 0) return;
        if (restarting_ && first_to_apply < next_ && gaps_.can_open()) go_back(first_to_apply, now_ns);
        splice_ = first_to_apply;
        splice_deadline_ns_ = now_ns + settings_.splice_timeout_ns;
        settle(now_ns);
    }
    void on_snapshot_failed(std::int64_t now_ns) {
        if (!holding_ || splicing_) return;
        drop_snapshot(now_ns);
        settle(now_ns);
    }

    // Is every line silent?
    bool lines_down() const { return lines_.all_down(); }
    FeedState state() const { return state_; }
    std::uint64_t next_sequence() const { return next_; }      // 0 before the first packet
    std::uint64_t known_sequence() const { return highest_; }  // all numbers below exist; 0 likewise
    const char* session() const {
        return next_ == 0 ? no_session_ : session_.bytes();
    }  // ten bytes; NULs before the first packet
    const GapHistory& history() const { return history_; }
    std::uint64_t held() const { return hold_.held(); }
    bool loading() const { return holding_; }        // a snapshot is wanted, or ready and not yet spliced in
    bool restarting() const { return restarting_; }  // and it is the first of a restart
    // What the lines brought of this number meanwhile; none: they did not, or not yet.
    std::optional<Message> held_message(std::uint64_t number) const {
        if (!holding_ || number < next_ || number >= highest_ || highest_ - next_ > hold_.slots()) return {};
        if (hold_.is_free(number)) return {};
        return hold_.message(number);
    }

    // Brings the lines' `missing` up to date; the other counters always are.
    void refresh_counters() { lines_.refresh_counters(next_); }

  private:
    void heard(std::size_t line, std::int64_t now_ns) {
        if (!lines_.heard(line, now_ns)) [[likely]]
            return;
        let_go_ = false;
        emit(EventType::line_up, now_ns, 0, 0, static_cast<std::uint8_t>(line));
    }

    // ---- packets that are not simply the next one

    [[gnu::noinline]] void on_unusual_packet(std::size_t line, const frame::MoldPacket& packet,
                                             const std::uint8_t* payload, const Receipt& receipt,
                                             std::int64_t now_ns) {
        LineCounters& counters = counters_.lines[line];
        if (packet.sequence == 0) {  // numbers start at 1
            ++counters.malformed;
            return;
        }
        const bool current = session_.is_current(payload);
        const bool anew = packet.sequence == 1 && current && starts_anew(line, packet);
        if (current && !anew && packet.count != 0 && packet.end() <= next_)
            [[likely]] {  // the slower line's copy of what is in
            heard(line, now_ns);
            lines_.mark(line, packet.sequence, packet.end());
            counters.messages += packet.count;
            counters.late += packet.count;
            return;
        }
        const bool over = (state_ == FeedState::ended && settings_.rollover_after_end) || let_go_;
        const bool rollover = anew || (!current && session_.may_adopt(payload, over));
        if (!current && !rollover) {
            ++counters.foreign_session;
            return;
        }
        if (!plausible(packet, payload, rollover)) {
            ++counters.malformed;
            return;
        }
        heard(line, now_ns);
        if (rollover || next_ == 0) start_session(packet, payload, now_ns);
        const std::uint64_t before = known_end();
        if (packet.kind == frame::MoldKind::data) {
            sequence_data(line, packet, receipt, now_ns);
        } else {
            if (packet.sequence > highest_) reveal(packet.sequence, now_ns);
            if (packet.kind == frame::MoldKind::end_of_session && packet.sequence >= known_end())
                end_known_ = true;
        }
        // Numbers beyond the end of the session: it was not the end.
        if (known_end() > before && packet.kind != frame::MoldKind::end_of_session) {
            end_known_ = false;
            escalation_.was_not_the_end();
        }
        settle(now_ns);
    }

    std::uint64_t known_end() const { return std::max(highest_, refused_end_); }

    // Number 1 of a session of which more is in: a late copy, unless the exchange has begun anew under the
    // same name. Then all lines were silent, and the one that brings it had brought messages before: a line
    // that only lags had not.
    bool starts_anew(std::size_t line, const frame::MoldPacket& packet) const {
        if (next_ <= packet.end() || packet.kind == frame::MoldKind::end_of_session) return false;
        if (let_go_) return true;
        return settings_.restart_after_silence && lines_.has_brought(line) && lines_down();
    }

    bool plausible(const frame::MoldPacket& packet, const std::uint8_t* payload, bool rollover) {
        const std::uint64_t known = next_ == 0 ? packet.sequence : rollover ? 1 : known_end();
        return far_ahead_.judge(packet, payload, known) != FarAhead::Belief::not_yet;
    }

    void start_session(const frame::MoldPacket& packet, const std::uint8_t* payload, std::int64_t now_ns) {
        const bool rollover = next_ != 0;
        if (!session_.is_current(payload)) session_.adopt(payload);
        if (rollover) {
            abandon(now_ns);
            lines_.leave_session(next_);
            sink_.on_clear(0, now_ns);
        }
        restarting_ = settings_.restart && !rollover && packet.sequence != 1;
        const bool from_beginning = rollover || (settings_.start == Start::beginning && !restarting_);
        next_ = !rollover && settings_.first_sequence != 0 ? settings_.first_sequence
                : from_beginning                           ? 1
                                                           : packet.sequence;
        highest_ = next_;
        refused_end_ = 0;
        far_ahead_.forget();
        stale_ = !from_beginning && next_ != 1;
        // A replay's exchange begins with its first number: its snapshots know no more.
        if (settings_.snapshot && settings_.first_sequence != 0) stale_ = false;
        late_start_ = stale_ && (settings_.snapshot || restarting_);
        holding_ = restarting_;
        slicing_ = splicing_ = false;
        splice_ = 0;
        lost_passed_ = 0;
        escalation_ = {};
        requester_.start_session();
        end_known_ = let_go_ = false;
        head_end_ = !rollover && settings_.start == Start::beginning ? std::max(next_, packet.sequence) : 0;
        lines_.start_session(next_);
        emit(EventType::session_start, now_ns, next_, 0);
        if (packet.sequence <= next_ || stale_) change_state(now_ns);
        if (restarting_) ask_for_image(now_ns);
    }

    // What a session that is left without an end still owed is lost; what is held of it goes before.
    void abandon(std::int64_t now_ns) {
        while (splicing_) {
            slicing_ = false;
            splice_books(0, now_ns);
        }
        if (holding_) drop_snapshot(now_ns);
        while (slicing_ || (!gaps_.empty() && gaps_.can_lose())) {
            if (std::exchange(slicing_, false))
                drain(now_ns);
            else
                give_up({gaps_[0].first, gaps_[0].end}, now_ns);
        }
        requester_.prune();
    }

    void sequence_data(std::size_t line, const frame::MoldPacket& packet, const Receipt& receipt,
                       std::int64_t now_ns) {
        const std::uint64_t base = std::min(packet.end(), highest_);
        std::uint64_t refused = 0;
        std::uint64_t fresh =
            packet.sequence < base ? fill(packet, receipt, Source::line, now_ns, &refused) : 0;
        if (packet.end() > highest_) {
            if (take_newest(packet, receipt, now_ns))
                fresh += packet.end() - std::max(packet.sequence, base);
            else
                refused += packet.end() - std::max(packet.sequence, base);
        }
        LineCounters& counters = counters_.lines[line];
        counters.messages += packet.count - refused;
        counters.won += fresh;
        counters.late += packet.count - refused - fresh;
        if (refused == 0) [[likely]]
            lines_.mark(line, packet.sequence, packet.end());
        else
            mark_kept(line, packet);
    }

    // The part of the packet beyond all known numbers: delivered, or held behind the hole that it may reveal.
    // False: no room, and nothing changed but that the numbers are known to exist.
    bool take_newest(const frame::MoldPacket& packet, const Receipt& receipt, std::int64_t now_ns) {
        const std::uint64_t first = std::max(packet.sequence, highest_);
        const std::span<const Message> messages = slice(packet, {first, packet.end()});
        if (next_ == highest_ && first == highest_ && !holding_) {
            next_ = highest_ = packet.end();
            sink_.on_messages(first, messages, receipt.ts_recv_ns, receipt.kind);
            return true;
        }
        if ((first > highest_ && !gaps_.can_open()) || !hold_.store(first, messages, receipt)) {
            refused_end_ = std::max(refused_end_, packet.end());
            return false;
        }
        if (first > highest_) open_hole(first, now_ns);
        highest_ = packet.end();
        return true;
    }

    // Fills the packet's numbers that were missing; returns how many. Room in the hold may be short for those
    // not next in turn.
    std::uint64_t fill(const frame::MoldPacket& packet, const Receipt& receipt, Source source,
                       std::int64_t now_ns, std::uint64_t* refused = nullptr) {
        std::uint64_t filled = 0;
        std::uint64_t from = std::max(packet.sequence, next_);
        while (from < packet.end()) {
            const std::size_t i = gaps_.find(from);
            if (i == gaps_.size() || gaps_[i].first >= packet.end()) break;
            const SequenceRange part{std::max(from, gaps_[i].first), std::min(packet.end(), gaps_[i].end)};
            from = part.end;
            const bool next = part.first == next_ && !holding_;
            if (!next &&
                (!has_room_to_split(i, part) || !hold_.store(part.first, slice(packet, part), receipt))) {
                if (refused != nullptr) *refused += part.size();
                continue;
            }
            filled += part.size();
            report(gaps_.fill(i, part, source, now_ns), now_ns);
            if (next) {
                next_ = part.end;
                sink_.on_messages(part.first, slice(packet, part), receipt.ts_recv_ns, receipt.kind);
                drain(now_ns);
                from = std::max(from, next_);
            }
        }
        return filled;
    }

    bool has_room_to_split(std::size_t i, SequenceRange part) const {
        return gaps_.can_split() || part.first == gaps_[i].first || part.end == gaps_[i].end;
    }

    std::span<const Message> slice(const frame::MoldPacket& packet, SequenceRange part) const {
        return {messages_.get() + (part.first - packet.sequence), static_cast<std::size_t>(part.size())};
    }

    // What the hold refused counts as not brought by the line.
    void mark_kept(std::size_t line, const frame::MoldPacket& packet) {
        const std::uint64_t end = std::min(packet.end(), highest_);
        for (std::uint64_t at = packet.sequence; at < end;) {
            const std::size_t i = gaps_.find(at);
            const std::uint64_t stop = i == gaps_.size() ? end : std::clamp(gaps_[i].first, at, end);
            if (at < stop) lines_.mark(line, at, stop);
            at = i == gaps_.size() ? end : std::max(stop, gaps_[i].end);
        }
    }

    // An answer to what was asked in the session before is none.
    bool is_lie(std::size_t server, const frame::MoldPacket& packet, const std::uint8_t* payload) {
        if (next_ == 0) return false;
        // Without servers it is a journal's reply: nobody asked for it here, and others are no concern.
        if (settings_.servers == 0) return packet.kind == frame::MoldKind::data && !believes(packet);
        if (packet.kind == frame::MoldKind::malformed) return true;
        if (!session_.is_current(payload)) return !session_.is_previous(payload);
        return packet.kind == frame::MoldKind::data &&
               (!requester_.servers().was_asked(server, packet.sequence) || !believes(packet));
    }
    bool believes(const frame::MoldPacket& packet) const {
        const std::span<const Message> messages{messages_.get(), packet.count};
        if constexpr (requires { sink_.believes(messages); })
            return settings_.believe_servers || sink_.believes(messages);
        return true;
    }

    // ---- holes

    // All numbers below `end` are known to exist.
    void reveal(std::uint64_t end, std::int64_t now_ns) {
        if (!gaps_.can_open()) {
            refused_end_ = std::max(refused_end_, end);
            return;
        }
        open_hole(end, now_ns);
        highest_ = end;
    }

    void open_hole(std::uint64_t end, std::int64_t now_ns) {
        gaps_.open({highest_, end}, now_ns, now_ns + settings_.arbitration_ns);
        const FeedState after = state_ == FeedState::stale || late_start_ ? state_ : waiting_state();
        emit(EventType::gap_open, now_ns, highest_, end - 1, no_line, after);
        set_state(after, now_ns);
        requester_.stir();
    }

    void report(const HoleChange& change, std::int64_t now_ns) {
        requester_.stir();
        if (change.closed) emit(EventType::gap_closed, now_ns, change.hole.first, change.hole.end - 1);
    }

    // A request that no server answered. If none answered anything meanwhile, they are all gone: waiting for
    // a round of retries for every hole would only let the hold overflow.
    void give_up_unanswered(const Requester::Request& request, std::int64_t now_ns) {
        if (requester_.last_answer_ns() > request.first_sent_ns)
            give_up({request.first, request.end}, now_ns);
        else
            give_up_holes_asked_before(request.first_sent_ns, now_ns);
        requester_.prune();
    }

    void give_up_holes_asked_before(std::int64_t asked_ns, std::int64_t now_ns) {
        while (!gaps_.empty() && gaps_[0].ask_ns <= asked_ns && gaps_.can_lose()) {
            give_up({gaps_[0].first, gaps_[0].end}, now_ns);
        }
    }

    void give_up(SequenceRange range, std::int64_t now_ns) {
        while (gaps_.can_lose()) {
            const std::size_t i = gaps_.find(range.first);
            if (i == gaps_.size() || gaps_[i].first >= range.end) break;
            const SequenceRange part{std::max(range.first, gaps_[i].first),
                                     std::min(range.end, gaps_[i].end)};
            if (!has_room_to_split(i, part)) break;
            gaps_.lose(i, part, now_ns);
            emit(EventType::gap_lost, now_ns, part.first, part.end - 1, no_line, lost_state());
            stale_ = true;
            set_state(lost_state(), now_ns);
            range.first = part.end;
        }
        drain(now_ns);
    }

    // ---- delivery

    // Everything that is next in turn: held messages, and the places of lost ones; a slice in one call. While
    // a snapshot is being loaded nothing is, and once it is loaded what precedes it.
    void drain(std::int64_t now_ns) {
        requester_.stir();  // there may be room now for what could not be asked for
        const std::uint64_t limit = holding_ ? splice_ : no_number;
        for (std::size_t left = settings_.slice_messages; !slicing_;) {
            const SequenceRange* lost = gaps_.next_lost();
            if (next_ >= limit) return;
            if (lost != nullptr && lost->first == next_) {
                if (lost->end > limit) return;
                lost_passed_ += lost->size();
                next_ = lost->end;
                gaps_.pass_lost();
                sink_.on_clear(next_ - 1, now_ns);
                continue;
            }
            std::uint64_t end = gaps_.empty() ? highest_ : gaps_[0].first;
            if (lost != nullptr) end = std::min(end, lost->first);
            end = std::min(end, limit);
            if (next_ == end) return;
            while (next_ != end && left != 0) {
                const std::size_t count = std::min<std::uint64_t>({end - next_, left, batch_.size()});
                deliver_held(count);
                left -= count;
            }
            slicing_ = next_ != end;
        }
    }

    void deliver_held(std::size_t count) {
        const std::uint64_t first = next_;
        for (std::size_t i = 0; i < count; ++i) batch_[i] = hold_.message(first + i);
        if constexpr (requires { sink_.on_lookahead(std::span<const Message>{}); }) {
            sink_.on_lookahead(std::span<const Message>{batch_.data(), count});
        }
        for (std::size_t i = 0; i < count;) {  // as many in one call as came at one time
            const Receipt receipt = hold_.receipt(first + i);
            const std::size_t from = i;
            while (i < count && hold_.receipt(first + i) == receipt) hold_.release(first + i++);
            next_ = first + i;
            sink_.on_messages(first + from, {batch_.data() + from, i - from}, receipt.ts_recv_ns,
                              receipt.kind);
        }
    }

    // After anything that may have changed holes or numbers.
    void settle(std::int64_t now_ns) {
        for (;;) {
            if (settings_.servers == 0 && settings_.arbitration_ns <= 0)
                give_up_holes_asked_before(now_ns, now_ns);
            if (settings_.snapshot || holding_) escalate(now_ns);
            if (next_ != highest_ || refused_end_ <= highest_) break;
            reveal(refused_end_, now_ns);
        }
        change_state(now_ns);
        in_order_ = next_ == highest_ && !end_known_ && !holding_ ? next_ : no_number;
        request_missing(now_ns);
        tell_recovery(now_ns);
    }

    void request_missing(std::int64_t now_ns) {
        recovery_deadline_ns_ = slicing_ ? now_ns : snapshot_deadline_ns(now_ns);
        if (settings_.servers == 0) {
            if (!gaps_.empty()) recovery_deadline_ns_ = std::min(recovery_deadline_ns_, gaps_[0].ask_ns);
            return;
        }
        if (requester_.wake_ns() <= now_ns) {
            requester_.prune();
            requester_.pump(now_ns, holding_ ? no_number : next_, hold_,
                            [this](std::size_t server, std::uint64_t first, std::uint16_t count) {
                                std::array<std::uint8_t, frame::mold_header_bytes> datagram;
                                frame::encode_mold_header(datagram.data(), session_.bytes(), first, count);
                                sink_.send_request(server, datagram);
                            });
        }
        recovery_deadline_ns_ = std::min(recovery_deadline_ns_, requester_.wake_ns());
    }

    // What changed about the servers, and the step the feed is at.
    void tell_recovery(std::int64_t now_ns) {
        requester_.servers().tell_changes(
            [&](std::size_t server, Health health, Health previous, std::int64_t left_until_ns) {
                tell(EventType::server, now_ns, static_cast<std::uint64_t>(left_until_ns), 0,
                     static_cast<std::uint8_t>(server), static_cast<std::uint8_t>(health),
                     static_cast<std::uint8_t>(previous));
            });
        if (gaps_.empty()) {
            requester_.calm();
            escalation_.calm();
        }
        set_step(Escalation::step_of({holding_, stale_, !gaps_.empty(), requester_.step()}), now_ns);
    }

    // That the other line is waited for, and why it ends, is told by the hole's own events.
    void set_step(Step step, std::int64_t now_ns) {
        if (step == step_) return;
        const Step previous = std::exchange(step_, step);
        if (step != Step::none) ++step_counter(step);
        if (step >= Step::request || previous >= Step::request)
            tell(EventType::escalation, now_ns, next_, missing(), no_line, static_cast<std::uint8_t>(step),
                 static_cast<std::uint8_t>(previous));
    }
    std::uint64_t& step_counter(Step step) {
        return reinterpret_cast<std::uint64_t*>(&counters_.escalation)[static_cast<std::size_t>(step) - 1];
    }

    // ---- snapshots

    void escalate(std::int64_t now_ns) {
        if (holding_) return try_splice(now_ns);
        if (!gaps_.empty() && settings_.servers != 0 && !stale_ && escalation_.hopeless(now_ns, progress())) {
            set_step(Step::hopeless, now_ns);
            give_up_holes_asked_before(now_ns, now_ns);
            requester_.prune();
        }
        if (!stale_ || slicing_) return;  // what waits first: the hold needs room
        escalation_.want(now_ns);
        if (!escalation_.due(now_ns) || (end_known_ && escalation_.exhausted())) return;
        holding_ = true;  // from before the login: the snapshot cannot be older than what is held
        ask_for_image(now_ns);
    }

    void ask_for_image(std::int64_t now_ns) {
        emit(EventType::snapshot_begin, now_ns, next_, 0);
        if constexpr (requires { sink_.start_snapshot(now_ns); }) sink_.start_snapshot(now_ns);
    }

    // Nothing was delivered yet, and the feed begins at a lower number: what lies between is a hole.
    void go_back(std::uint64_t first, std::int64_t now_ns) {
        gaps_.open({first, next_}, now_ns, now_ns);
        emit(EventType::gap_open, now_ns, first, next_ - 1);
        head_end_ = std::exchange(next_, first);
        requester_.stir();
    }

    // Once all that precedes the snapshot is in or known to be missing.
    void try_splice(std::int64_t now_ns) {
        if (slicing_) return;
        if (splicing_) return splice_books(0, now_ns);
        if (splice_ > highest_ && splice_ <= known_end()) reveal(splice_, now_ns);  // the hold was full
        if (splice_ == 0 || (splice_ > highest_ && now_ns < splice_deadline_ns_)) return;
        if (splice_ < next_ || splice_ > highest_) return drop_snapshot(now_ns);
        give_up({next_, splice_}, now_ns);
        requester_.prune();
        if (slicing_) return;
        if (next_ != splice_) return drop_snapshot(now_ns);  // the loss goes on behind it
        const std::uint64_t covered = std::exchange(lost_passed_, 0);
        counters_.gaps.unrecovered -= covered;
        counters_.gaps.recovered_snapshot += covered;
        splicing_ = true;
        splice_books(covered, now_ns);
    }

    // The books become those of the snapshot, a slice in one call: until they all have, nothing is delivered.
    void splice_books(std::uint64_t covered, std::int64_t now_ns) {
        if constexpr (requires {
                          { sink_.on_splice(splice_, covered, now_ns) } -> std::same_as<bool>;
                      })
            slicing_ = !sink_.on_splice(splice_, covered, now_ns);
        else if constexpr (requires { sink_.on_splice(splice_, covered, now_ns); })
            sink_.on_splice(splice_, covered, now_ns);
        if (slicing_) return;
        splicing_ = false;
        holding_ = late_start_ = restarting_ = false;
        head_end_ = 0;
        stale_ = gaps_.next_lost() != nullptr;
        escalation_.repaired();
        emit(EventType::snapshot_end, now_ns, std::exchange(splice_, 0), 0);
        drain(now_ns);
    }

    // What was held goes on to the books as they are, and another snapshot is tried later.
    void drop_snapshot(std::int64_t now_ns) {
        holding_ = false;
        splice_ = 0;
        ++counters_.escalation.snapshot_failed;
        const bool restarted = std::exchange(restarting_, false);
        late_start_ = late_start_ && settings_.snapshot;
        emit(EventType::snapshot_end, now_ns, 0, 0);
        if (restarted && settings_.start == Start::beginning && gaps_.can_open()) {
            stale_ = late_start_ = false;
            go_back(1, now_ns);
        } else {
            escalation_.failed(now_ns, end_known_);
        }
        drain(now_ns);
    }

    std::uint64_t missing() const {
        const GapCounters& gaps = counters_.gaps;
        return gaps.messages - gaps.recovered_line - gaps.recovered_rewind - gaps.recovered_snapshot -
               gaps.unrecovered;
    }
    Escalation::Progress progress() const {
        const std::uint64_t refused = known_end() - highest_;
        const GapCounters& gaps = counters_.gaps;
        return {missing() + refused, gaps.recovered_line + gaps.recovered_rewind, known_end(),
                hold_.held() + refused, settings_.hold_messages};
    }
    bool repairing() const { return settings_.snapshot && stale_ && !escalation_.exhausted(); }
    std::int64_t snapshot_deadline_ns(std::int64_t now_ns) const {
        if (holding_) return splice_ != 0 ? splice_deadline_ns_ : never_ns;
        if (!settings_.snapshot) return never_ns;
        if (stale_) return end_known_ && escalation_.exhausted() ? never_ns : escalation_.next_ns();
        return gaps_.empty() || settings_.servers == 0 ? never_ns : now_ns + Escalation::sample_ns;
    }

    // ---- state

    void change_state(std::int64_t now_ns) {
        if (end_known_ && next_ == highest_ && !holding_ && !repairing()) {
            if (state_ == FeedState::ended) return;
            emit(EventType::session_end, now_ns, next_, 0, no_line, FeedState::ended);
            set_state(FeedState::ended, now_ns);
        } else if (stale_) {
            set_state(lost_state(), now_ns);
        } else if (next_ == highest_) {
            set_state(FeedState::live, now_ns);
        } else if (!slicing_) {
            set_state(waiting_state(), now_ns);
        }
    }

    // With messages lost, or never seen: until a snapshot comes.
    FeedState lost_state() const { return late_start_ ? FeedState::starting : FeedState::stale; }
    // With a hole open: the first one of a start at the beginning, or any other.
    FeedState waiting_state() const {
        return next_ < head_end_ ? FeedState::starting : FeedState::recovering;
    }

    void set_state(FeedState state, std::int64_t now_ns) {
        if (state == state_) return;
        const FeedState previous = state_;
        state_ = state;
        emit(EventType::state, now_ns, 0, 0, no_line, state, previous);
    }

    static constexpr std::uint8_t no_line = 255;
    void emit(EventType type, std::int64_t now_ns, std::uint64_t first, std::uint64_t last,
              std::uint8_t line = no_line) {
        emit(type, now_ns, first, last, line, state_);
    }
    // `after`: the state that the event leads to, told by an event of its own right behind it.
    void emit(EventType type, std::int64_t now_ns, std::uint64_t first, std::uint64_t last, std::uint8_t line,
              FeedState after) {
        emit(type, now_ns, first, last, line, after, state_);
    }
    void emit(EventType type, std::int64_t now_ns, std::uint64_t first, std::uint64_t last, std::uint8_t line,
              FeedState after, FeedState previous) {
        Event event{now_ns, first, last, type, after, previous, line, {}, 0, 0, {}};
        std::copy_n(session(), frame::mold_session_bytes, event.session);
        sink_.on_event(event);
    }
    // Of recovery: changes no state.
    void tell(EventType type, std::int64_t now_ns, std::uint64_t first, std::uint64_t last, std::uint8_t line,
              std::uint8_t now, std::uint8_t before) {
        Event event{now_ns, first, last, type, state_, state_, line, {}, now, before, {}};
        std::copy_n(session(), frame::mold_session_bytes, event.session);
        sink_.on_event(event);
    }

    static constexpr std::uint64_t no_number = ~std::uint64_t{0};  // no data packet begins there: parse_mold
    static constexpr char no_session_[frame::mold_session_bytes] = {};

    // the packet that is next in turn touches only these
    std::uint64_t in_order_ = no_number;  // next_ while nothing is missing and no end is known
    std::uint64_t next_ = 0;              // the feed waits for this number; 0 before the first packet
    std::uint64_t highest_ = 0;  // all below are in, missing or given up: one past the highest number taken
    Settings settings_;
    Sink& sink_;
    Counters& counters_;
    Session session_;
    std::unique_ptr<Message[]> messages_;  // of the packet at hand

    FeedState state_ = FeedState::starting;
    bool stale_ = false;        // messages were lost, or never seen, in this session
    bool late_start_ = false;   // the books were never right in this session: a snapshot makes them so
    bool holding_ = false;      // a snapshot is being loaded: messages wait for it
    bool restarting_ = false;   // it is the first image of a restart: nothing was delivered yet
    bool slicing_ = false;      // the rest of what is next in turn goes on with the next call of on_timer
    bool splicing_ = false;     // the books are becoming those of the snapshot: some are, some are not yet
    std::uint64_t splice_ = 0;  // first number to apply of the snapshot that is ready
    std::int64_t splice_deadline_ns_ = 0;
    std::uint64_t lost_passed_ = 0;  // lost messages that the books had to do without, since they were right
    Escalation escalation_;
    Step step_ = Step::none;
    bool end_known_ = false;      // highest_ is the end of the session
    bool let_go_ = false;         // another may begin without it
    std::uint64_t head_end_ = 0;  // start at the beginning: what lies before the first packet, until it is in
    std::uint64_t refused_end_ = 0;  // above highest_: numbers known to exist that found no room
    FarAhead far_ahead_{settings_.max_gap_messages};
    std::int64_t recovery_deadline_ns_ = never_ns;

    GapHistory history_;
    Hold hold_;
    Lines lines_;
    GapSet gaps_;
    Requester requester_;
    std::array<Message, 256> batch_{};  // held messages on their way out; announced ones
};

}  // namespace fh::sequence
