// One channel of a hot pair: its records in order, each with the number by which the pair arbitrates, as far
// as they are not delivered yet.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../event.hpp"
#include "../record/dbn.hpp"
#include "consumer.hpp"

namespace fh::publish {

// Place in the feed: numbers start again with each session. `session` counts the sessions that the pair saw.
struct FeedPlace {
    std::uint64_t session = 0;
    std::uint64_t sequence = 0;
    auto operator<=>(const FeedPlace&) const = default;
};

// 64-bit number with these low 32 bits that is nearest to `near`.
inline std::uint64_t widen_sequence(std::uint32_t low, std::uint64_t near) {
    const auto step = static_cast<std::int32_t>(low - static_cast<std::uint32_t>(near));
    if (step < 0 && near < static_cast<std::uint64_t>(-std::int64_t{step})) return low;
    return near + static_cast<std::uint64_t>(std::int64_t{step});
}

// The sessions of a pair in the order in which it saw them; both channels tell them by name.
class SessionNames {
  public:
    // A name that comes again at or behind `from` is the same session.
    std::uint64_t find(const std::string& name, std::uint64_t from) {
        for (std::size_t i = from; i < names_.size(); ++i)
            if (names_[i] == name) return i;
        names_.push_back(name);
        return names_.size() - 1;
    }

  private:
    std::vector<std::string> names_{""};  // before the first packet
};

struct PairRecord {
    RecordHeader header;
    FeedPlace place;
    std::uint32_t offset;  // of the body
    bool event;
    bool behind_hole;  // something may be missing in this channel just before it
};

inline std::uint8_t* flags_of(std::uint8_t schema, std::byte* body) {
    auto* bytes = reinterpret_cast<std::uint8_t*>(body);
    switch (static_cast<dbn::Schema>(schema)) {
        case dbn::Schema::mbo:
            return bytes + offsetof(dbn::Mbo, flags);
        case dbn::Schema::mbp_1:
        case dbn::Schema::mbp_10:
        case dbn::Schema::trades:
            return bytes + offsetof(dbn::Trade, flags);
        default:
            return nullptr;
    }
}

class PairSource {
  public:
    PairSource(const std::string& directory, std::uint32_t schema_mask,
               const std::vector<std::string>& symbols, SessionNames& sessions)
        : consumer_(directory, schema_mask | dbn::schema_bit(dbn::Schema::event), symbols),
          schema_mask_(schema_mask),
          sessions_(sessions) {}

    // Where the channel stood when it was attached to: what follows is in its ring.
    FeedPlace attach() {
        adopt_session();
        const std::uint64_t next = consumer_.channel().next_sequence();
        last_.sequence = next == 0 ? 0 : next - 1;
        if (const auto passed = consumer_.attached_behind())
            last_.sequence = std::max(last_.sequence, widen_sequence(*passed, last_.sequence));
        return last_;
    }

    // Reads on until there is a whole message that is not delivered yet, or nothing more. `ours`: the last
    // record delivered came from here, so that more of the same number may follow.
    void fill(const FeedPlace& delivered, bool ours) {
        drop_delivered(delivered, ours);
        for (int turns = 0; empty() && turns < 1024; ++turns) {
            if (!consumer_.available() && consumer_.channel().alive()) {
                if (session_guessed_) adopt_session();
                whole_ = true;
                return;
            }
            compact();
            const std::uint64_t restarts = consumer_.restarts();
            bool first = true;
            consumer_.poll([&](const RecordHeader& header, const std::byte* body) {
                if (std::exchange(first, false)) note_loss();
                add(header, body, delivered, ours);
            });
            whole_ = !consumer_.available();
            if (consumer_.restarts() != restarts) restarted();
            if (whole_) return;
        }
    }

    // A message is shown when all its records are here: one that was lapped half way comes from the other
    // channel. Not so a snapshot, whose millions of records have one number: it is never held as a whole.
    bool empty() const {
        if (head_ == records_.size()) return true;
        return !whole_ && !front().event && front().place == records_.back().place &&
               !is_snapshot(records_.back());
    }
    const PairRecord& front() const { return records_[head_]; }
    std::byte* body() { return bodies_.data() + front().offset; }
    void pop() { ++head_; }

    // Records that were overwritten before they were read, in the hole before the front.
    std::uint64_t take_lost() { return std::exchange(lost_in_hole_, 0); }

    // Looks at the channel. `ahead`: another channel has got further.
    void observe(std::int64_t now, std::uint64_t next, bool ahead) {
        if (!ahead || next != seen_next_) behind_since_ = 0;
        seen_next_ = next;
        if (ahead && behind_since_ == 0) behind_since_ = now;
    }
    // Does it beat, and follow the feed as the other does?
    bool trusted(std::int64_t now, std::int64_t takeover_ns) const {
        const ChannelReader& channel = consumer_.channel();
        return channel.alive(now) && now - channel.heartbeat_ns() <= takeover_ns &&
               !left_behind(now, takeover_ns);
    }
    // Another channel went on, and this one stood still for so long.
    bool left_behind(std::int64_t now, std::int64_t takeover_ns) const {
        return behind_since_ != 0 && now - behind_since_ > takeover_ns;
    }
    std::uint64_t seen_next() const { return seen_next_; }
    std::uint64_t session() const { return last_.session; }
    Consumer& consumer() { return consumer_; }
    const Consumer& consumer() const { return consumer_; }

  private:
    void drop_delivered(const FeedPlace& delivered, bool ours) {
        while (!empty() && !front().event && is_delivered(front().place, delivered, ours) &&
               !(ours && is_snapshot(front())))
            pop();
    }

    bool is_snapshot(const PairRecord& record) const {
        return is_snapshot(record.header, bodies_.data() + record.offset);
    }

    void compact() {
        if (head_ == 0) return;
        const std::size_t cut = head_ == records_.size() ? bodies_.size() : front().offset;
        records_.erase(records_.begin(), records_.begin() + static_cast<std::ptrdiff_t>(head_));
        bodies_.erase(bodies_.begin(), bodies_.begin() + static_cast<std::ptrdiff_t>(cut));
        for (PairRecord& record : records_) record.offset -= static_cast<std::uint32_t>(cut);
        head_ = 0;
    }

    static bool is_delivered(const FeedPlace& place, const FeedPlace& delivered, bool ours) {
        return place < delivered || (place == delivered && !ours);
    }

    static bool is_snapshot(const RecordHeader& header, const std::byte* body) {
        if (header.state == live_state) return false;
        const std::uint8_t* flags = flags_of(header.schema, const_cast<std::byte*>(body));
        return flags != nullptr && (*flags & dbn::f_snapshot) != 0;
    }

    void add(const RecordHeader& header, const std::byte* body, const FeedPlace& delivered, bool ours) {
        const bool event = header.schema >= dbn::schema_count;
        if (event) {
            on_event(body);
        } else {
            place(header);
            const bool snapshot = ours && is_snapshot(header, body);
            if (!snapshot && is_delivered(last_, delivered, ours)) {
                behind_hole_ = false;  // what is missing before it is delivered too
                lost_in_hole_ = 0;
                return;
            }
            pass_lost_ranges(delivered);
        }
        const std::size_t length = header.length - sizeof(RecordHeader);
        records_.push_back({header, last_, static_cast<std::uint32_t>(bodies_.size()), event,
                            !event && std::exchange(behind_hole_, false)});
        bodies_.insert(bodies_.end(), body, body + length);
    }

    void place(const RecordHeader& header) {
        const std::uint64_t sequence = widen_sequence(header.sequence, last_.sequence);
        // Number 0 is a rollover: books are cleared before the new session has its name.
        if (header.sequence == 0 && last_.sequence != 0 && sequence < last_.sequence) {
            ++last_.session;
            last_.sequence = 0;
            rolled_ = true;
        } else {
            last_.sequence = sequence;
        }
    }

    void on_event(const std::byte* body) {
        Event event;
        std::memcpy(&event, body, sizeof event);
        if (event.type == EventType::session_start) {
            const std::string name(event.session, strnlen(event.session, sizeof event.session));
            const std::uint64_t before = last_.session - (std::exchange(rolled_, false) ? 1 : 0);
            last_.session = sessions_.find(name, before);
            last_.sequence = event.first == 0 ? 0 : event.first - 1;
            session_guessed_ = false;
        } else if (event.type == EventType::gap_lost) {
            lost_ranges_.push_back({last_.session, event.last});
        }
    }

    // Messages lost for good: who stands before them must not jump over them while the other may bring them.
    void pass_lost_ranges(const FeedPlace& delivered) {
        for (std::size_t i = 0; i < lost_ranges_.size();) {
            if (last_ < lost_ranges_[i]) {
                ++i;
                continue;
            }
            if (delivered < lost_ranges_[i]) behind_hole_ = true;
            lost_ranges_.erase(lost_ranges_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }

    void note_loss() {
        const std::uint64_t lost = consumer_.lost_in_ring(schema_mask_ | event_bit);
        if (lost == seen_lost_) return;
        seen_lost_ = lost;
        const std::uint64_t ours = consumer_.lost_in_ring(schema_mask_);
        lost_in_hole_ += ours - seen_ours_;
        seen_ours_ = ours;
        lost_in_hole_ += records_.size() - head_;  // the first records of a message that will never be whole
        head_ = records_.size();
        behind_hole_ = true;
        session_guessed_ = true;  // its start may have been among what is lost
    }

    void restarted() {
        seen_lost_ = seen_ours_ = lost_in_hole_ = 0;
        lost_ranges_.clear();
        behind_hole_ = true;
        rolled_ = false;
    }

    // From the counters: what the ring has not told (yet).
    void adopt_session() {
        CounterSlot slot;
        if (!consumer_.channel().read_counters(slot)) return;
        session_guessed_ = true;
        const std::string name(slot.session, strnlen(slot.session, sizeof slot.session));
        if (!name.empty()) last_.session = sessions_.find(name, last_.session);
        // The counters follow an event at once, but not a session that starts between the two looks.
        if (seen_session_ == name) session_guessed_ = name.empty();
        seen_session_ = name;
    }

    static constexpr std::uint32_t event_bit = dbn::schema_bit(dbn::Schema::event);
    static constexpr std::uint8_t live_state = static_cast<std::uint8_t>(FeedState::live);

    Consumer consumer_;
    std::uint32_t schema_mask_;
    SessionNames& sessions_;
    FeedPlace last_;  // of the last record read
    std::string seen_session_;
    bool session_guessed_ = true;
    bool rolled_ = false;
    bool behind_hole_ = false;
    std::uint64_t lost_in_hole_ = 0;
    std::uint64_t seen_lost_ = 0;
    std::uint64_t seen_ours_ = 0;
    std::vector<FeedPlace> lost_ranges_;  // the last number of each
    std::vector<PairRecord> records_;
    std::vector<std::byte> bodies_;
    std::size_t head_ = 0;
    bool whole_ = true;  // the ring was read to its end: so is the last message
    std::uint64_t seen_next_ = 0;
    std::int64_t behind_since_ = 0;
};

}  // namespace fh::publish
