// Books as a journal tells them: the packets of a session through the same arbiter and normalizer as live
// ones, on private memory. They are right as of the first number that the journal lacks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "book/book_set.hpp"
#include "decode/well_formed.hpp"
#include "journal/records.hpp"
#include "record/buffer_publisher.hpp"
#include "record/normalizer.hpp"
#include "sequence/arbiter.hpp"

namespace fh::journal {

class Image {
  public:
    Image(const std::string& session, const book::BookLimits& limits, std::int64_t midnight_ns)
        : session_(sequence::SessionId::from_text(session)),
          file_(book::books_file_size, book::Pages::small),
          normalizer_(publisher_, file_.data(), record_settings(limits, midnight_ns)),
          arbiter_(sequence_settings(session), *this, counters_) {}

    void begin_segment() { records_.begin_segment(); }
    // The next bytes of the segment. Throws std::invalid_argument when they are none.
    void read(std::span<const std::uint8_t> bytes) {
        records_.read(bytes, [this](const Datagram& datagram) { on_datagram(datagram); });
    }

    const sequence::SessionId& session() const { return session_; }
    // The first number that the books do not contain; 0 before the first packet of the session.
    std::uint64_t next_sequence() const { return arbiter_.next_sequence(); }
    book::BookSet& books() { return normalizer_.books(); }
    std::uint32_t orders() const { return normalizer_.books().live_orders(); }
    // The message with the number before next_sequence().
    std::span<const std::uint8_t> last_message() const { return last_message_; }
    std::uint64_t first_seen() const { return first_seen_; }  // lowest number that any packet brought

    // Why these books must not be used; empty: they may.
    std::string failure() const {
        if (began_again_) return "the numbers of the session begin again in it";
        if (next_sequence() < 2)
            return first_seen_ == 0 ? "it holds nothing of the session"
                                    : "it begins at number " + std::to_string(first_seen_);
        if (arbiter_.state() == FeedState::ended) return "the session has ended in it";
        if (normalizer_.counters().refused_orders != 0) return "its books found no room";
        return {};
    }

    // ---- called by the arbiter
    void on_messages(std::uint64_t first, std::span<const Message> messages, std::int64_t ts_recv_ns,
                     TimestampKind kind) {
        normalizer_.on_messages(first, messages, ts_recv_ns, kind);
        last_message_.assign(messages.back().data, messages.back().data + messages.back().length);
    }
    bool believes(std::span<const Message> messages) const {
        return decode::well_formed(messages, normalizer_.counters().unknown_messages != 0);
    }
    void on_clear(std::uint64_t, std::int64_t) {}  // nothing is ever given up
    // A live feed has begun anew there, by the same rules.
    void on_event(const Event& event) {
        if (event.type == EventType::session_start) began_again_ |= ++starts_ > 1;
    }
    void send_request(std::size_t, std::span<const std::uint8_t, 20>) {}

  private:
    // Lines may lie apart; beyond that a number 1 is another run of the session's numbers.
    static constexpr std::int64_t longest_skew_ns = 60'000'000'000;

    static record::NormalizerSettings record_settings(const book::BookLimits& limits,
                                                      std::int64_t midnight_ns) {
        record::NormalizerSettings out;
        out.limits = limits;
        out.midnight_ns = midnight_ns;
        return out;
    }
    static sequence::Settings sequence_settings(const std::string& session) {
        sequence::Settings out;
        out.lines = max_lines;
        out.session = session;
        out.first_sequence = 1;
        out.arbitration_ns = std::numeric_limits<std::int64_t>::max() / 4;  // what is missing may come later
        out.hold_messages = std::size_t{1} << 18;
        out.slice_messages = std::numeric_limits<std::size_t>::max();  // no timer delivers the rest
        return out;
    }

    void on_datagram(const Datagram& datagram) {
        now_ns_ = std::max(now_ns_, datagram.ts_recv_ns);  // the clock may have been set back
        if (datagram.length < frame::mold_header_bytes || !session_.is(datagram.data)) return;
        if (datagram.line >= max_lines) {
            arbiter_.on_reply(datagram.line - max_lines, datagram.data, datagram.length, datagram.ts_recv_ns,
                              datagram.timestamp_kind, now_ns_);
            return;
        }
        arbiter_.on_timer(now_ns_);
        look_at_number(datagram);
        arbiter_.on_packet(datagram.line, datagram.data, datagram.length, datagram.ts_recv_ns,
                           datagram.timestamp_kind, now_ns_);
    }

    void look_at_number(const Datagram& datagram) {
        const auto [sequence, count] = frame::load_mold_header(datagram.data);
        if (count == frame::mold_heartbeat) return;
        if (first_seen_ == 0 || sequence < first_seen_) first_seen_ = sequence;
        if (sequence != 1) return;
        const std::span<const std::uint8_t> blocks{datagram.data + frame::mold_header_bytes,
                                                   datagram.length - frame::mold_header_bytes};
        if (blocks.size() < 2 || blocks.size() - 2 < frame::load_be16(blocks.data())) return;
        const auto first = blocks.first(2u + frame::load_be16(blocks.data()));
        if (began_ns_ == 0) {
            began_ns_ = now_ns_;
            first_block_.assign(first.begin(), first.end());
        }
        began_again_ =
            began_again_ || now_ns_ - began_ns_ > longest_skew_ns || !std::ranges::equal(first, first_block_);
    }

    sequence::SessionId session_;
    RecordReader records_;
    record::NullPublisher publisher_;
    book::Reserved<std::byte> file_;
    record::Normalizer<record::NullPublisher> normalizer_;
    Counters counters_;
    sequence::Arbiter<Image> arbiter_;
    std::int64_t now_ns_ = 0;
    std::int64_t began_ns_ = 0;               // when number 1 came
    std::vector<std::uint8_t> first_block_;   // it, with its length
    std::vector<std::uint8_t> last_message_;  // of those applied
    unsigned starts_ = 0;                     // of the session
    bool began_again_ = false;
    std::uint64_t first_seen_ = 0;
};

}  // namespace fh::journal
