// A hot pair: two (or more) channels that carry the same feed, read as one stream. No election: the sequence
// number is the arbiter, as between the lines of one channel.
//
// The rules, in order. (1) A record whose number was delivered from another channel is dropped; a message
// that gives several records is never mixed from two. (2) A LIVE record that is not behind a hole of its own
// channel is delivered at once, the lowest number first: a channel that is LIVE misses nothing, so what it
// says next is next. (3) A record published while its channel was not LIVE, or behind a hole (overwritten
// before it was read, lost for good, a restart), waits for as long as another channel may still bring what is
// missing: one that is LIVE, whose heart beats, and that follows. `takeover_ns` bounds how long a channel may
// stand still.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "consumer.hpp"
#include "pair_source.hpp"

namespace fh::publish {

class PairConsumer {
  public:
    // More than the receive thread ever sleeps between two heartbeats; less than the 10 ms that a take-over
    // may last.
    static constexpr std::int64_t default_takeover_ns = 7'000'000;
    static constexpr std::int64_t stale_patience_ns = 100'000'000;

    // `directories`: RUNTIME_DIR/NAME of each channel, of the same feed with the same schemas and symbols.
    PairConsumer(const std::vector<std::string>& directories, std::uint32_t schema_mask,
                 const std::vector<std::string>& symbols = {}, const WaitStrategy& strategy = WaitStrategy{},
                 std::int64_t takeover_ns = default_takeover_ns)
        : schema_mask_(schema_mask), strategy_(strategy), takeover_ns_(takeover_ns) {
        for (const std::string& directory : directories)
            sources_.push_back(std::make_unique<PairSource>(directory, schema_mask, symbols, sessions_));
        if (sources_.empty()) throw ChannelError("a pair needs a channel");
        for (const auto& source : sources_)
            if (dataset(*source) != dataset(*sources_.front()))
                throw ChannelError(source->consumer().channel().directory() + ": carries " +
                                   dataset(*source) + "; the others of the pair carry " +
                                   dataset(*sources_.front()));
        attach();
        seen_state_ = state();
    }

    // handler(const RecordHeader&, const std::byte* body) for each record, once and in order; returns how
    // many. Never waits.
    template <typename Handler>
    std::size_t poll(Handler&& handler, std::size_t max_bytes = RingReader::copy_bytes,
                     std::int64_t now = monotonic_now_ns()) {
        observe(now);
        std::size_t records = 0;
        for (std::size_t bytes = 0; bytes < max_bytes;) {
            const std::size_t from = pick(now);
            if (from == none) break;
            bytes += sources_[from]->front().header.length;
            records += deliver(from, handler);
        }
        return records;
    }

    // As Consumer::wait: true when there is something to deliver.
    bool wait(std::int64_t timeout_ns) {
        const std::int64_t start = monotonic_now_ns();
        std::int64_t sleep_ns = strategy_.first_sleep_ns;
        for (;;) {
            for (int i = 0; i < 64 && !available(); ++i) Consumer::pause();
            const std::int64_t now = monotonic_now_ns();
            const std::uint8_t state_now = state(now);
            const bool changed = std::exchange(seen_state_, state_now) != state_now;
            const bool found = pick(now) != none;
            if (found || changed || now - start >= timeout_ns) return found;
            if (now - start < strategy_.spin_ns) continue;
            Consumer::sleep_for(std::min(sleep_ns, timeout_ns - (now - start)));
            sleep_ns = std::min(2 * sleep_ns, strategy_.longest_sleep_ns);
        }
    }

    // The best of the channels' states. A channel that stands still while another goes on counts as STALE.
    std::uint8_t state(std::int64_t now = monotonic_now_ns()) const {
        observe(now);
        return trusted_state(best(now), now);
    }
    std::uint8_t seen_state() const { return seen_state_; }

    // A book out of the channel that is LIVE and has got furthest, with its state.
    ReadResult book(std::uint32_t instrument_id, BookView& out, std::uint8_t& state_out) const {
        return any_book(instrument_id, out, state_out);
    }
    ReadResult book(std::string_view symbol, BookView& out, std::uint8_t& state_out) const {
        return any_book(symbol, out, state_out);
    }

    std::string symbol(std::uint32_t instrument_id) {
        for (const auto& source : sources_)
            if (std::string name = source->consumer().symbol(instrument_id); !name.empty()) return name;
        return {};
    }
    SymbolDirectory& symbols() { return sources_[best(monotonic_now_ns())]->consumer().symbols(); }

    // The channel that state() and book() speak of now.
    const ChannelReader& channel() const { return leader().channel(); }
    std::uint64_t epoch() const { return leader().epoch(); }

    // At most so many records were overwritten in one channel and not delivered from another: some of them
    // may have been delivered before. 0 means that nothing was lost.
    std::uint64_t lost() const { return lost_; }
    std::uint64_t restarts() const {
        std::uint64_t sum = 0;
        for (const auto& source : sources_) sum += source->consumer().restarts();
        return sum;
    }
    // Records delivered out of channel i, in the order of the constructor's argument.
    std::uint64_t delivered_from(std::size_t i) const { return shares_[i]; }
    std::size_t size() const { return sources_.size(); }

  private:
    static constexpr std::size_t none = ~std::size_t{0};
    static constexpr std::uint8_t live_state = static_cast<std::uint8_t>(FeedState::live);
    static constexpr std::uint8_t stale_state = static_cast<std::uint8_t>(FeedState::stale);

    // Each ring holds what follows the place where it was joined: begin where all of them do.
    void attach() {
        std::vector<PairSource*> order;
        for (const auto& source : sources_) order.push_back(source.get());
        // The older session first. Of the same day: one that is over, or the one with the higher number.
        std::stable_sort(order.begin(), order.end(), [](const PairSource* a, const PairSource* b) {
            const ChannelReader& one = a->consumer().channel();
            const ChannelReader& other = b->consumer().channel();
            if (one.trading_day() != other.trading_day()) return one.trading_day() < other.trading_day();
            const bool over = word_state(one.state_word()) == FeedState::ended;
            const bool other_over = word_state(other.state_word()) == FeedState::ended;
            if (over != other_over) return over;
            return one.next_sequence() > other.next_sequence();
        });
        for (PairSource* source : order) delivered_ = std::max(delivered_, source->attach());
        shares_.resize(sources_.size());
    }

    static std::string dataset(const PairSource& source) {
        const ChannelPage& page = source.consumer().channel().page();
        return {page.dataset, strnlen(page.dataset, sizeof page.dataset)};
    }

    bool available() const {
        return std::ranges::any_of(
            sources_, [](const auto& source) { return !source->empty() || source->consumer().available(); });
    }

    // Who has got how far? Also between two calls of poll: the state depends on it.
    void observe(std::int64_t now) const {
        FeedPlace furthest;
        for (const auto& source : sources_)
            if (source->consumer().channel().alive(now))
                furthest =
                    std::max(furthest, {source->session(), source->consumer().channel().next_sequence()});
        for (const auto& source : sources_) {
            const std::uint64_t next = source->consumer().channel().next_sequence();
            source->observe(now, next, FeedPlace{source->session(), next} < furthest);
        }
    }

    // The source whose front is to be delivered now.
    std::size_t pick(std::int64_t now) {
        for (std::size_t i = 0; i < sources_.size(); ++i) {
            sources_[i]->fill(delivered_, i == last_);
            if (!sources_[i]->empty() && sources_[i]->front().event) return i;
        }
        if (last_ != none && !sources_[last_]->empty() && sources_[last_]->front().place == delivered_)
            return last_;  // the rest of its message: others that have it whole have dropped it
        std::size_t sure = none;
        std::size_t unsure = none;
        for (std::size_t i = 0; i < sources_.size(); ++i) {
            if (sources_[i]->empty()) continue;
            std::size_t& best = is_sure(i) ? sure : unsure;
            if (best == none || before(i, best)) best = i;
        }
        if (sure != none || unsure == none) return sure;
        for (std::size_t i = 0; i < sources_.size(); ++i)
            if (i != unsure && may_bring(i, sources_[unsure]->front(), now)) return none;
        return unsure;
    }

    bool is_sure(std::size_t i) const {
        const PairRecord& front = sources_[i]->front();
        return front.header.state == live_state && !front.behind_hole;
    }
    bool before(std::size_t i, std::size_t j) const {
        const PairRecord& a = sources_[i]->front();
        const PairRecord& b = sources_[j]->front();
        if (a.place != b.place) return a.place < b.place;
        const bool a_live = a.header.state == live_state;
        const bool b_live = b.header.state == live_state;
        return a_live != b_live ? a_live : i == last_;
    }
    // May a LIVE copy of this record, or (in whatever state) what is missing before it, still come from
    // source i?
    bool may_bring(std::size_t i, const PairRecord& record, std::int64_t now) const {
        const PairSource& source = *sources_[i];
        if (!source.empty()) return false;  // then it is unsure itself, and behind the other
        // Its ring was read after its number: had it more below that number, it would stand here.
        if (FeedPlace{source.session(), source.seen_next()} > record.place) return false;
        const bool stale = record.header.state == stale_state;
        return source.trusted(now, stale ? std::max(takeover_ns_, stale_patience_ns) : takeover_ns_) &&
               (record.behind_hole || source.consumer().state(now) == live_state);
    }

    template <typename Handler>
    std::size_t deliver(std::size_t from, Handler& handler) {
        PairSource& source = *sources_[from];
        const PairRecord record = source.front();
        RecordHeader header = record.header;
        std::byte* body = source.body();
        source.pop();
        if (record.event) {
            if ((schema_mask_ & dbn::schema_bit(dbn::Schema::event)) == 0) return 0;
        } else {
            if (record.behind_hole) lost_ += source.take_lost();
            follow(record, header, body);
            delivered_ = record.place;
            last_ = from;
            ++shares_[from];
        }
        handler(static_cast<const RecordHeader&>(header), static_cast<const std::byte*>(body));
        return 1;
    }

    // Orders that nobody delivered are missing from every book that is built from the mbo records delivered:
    // they stay flagged until a snapshot or a new session, also when a channel that lost nothing comes back.
    void follow(const PairRecord& record, RecordHeader& header, std::byte* body) {
        std::uint8_t* flags = flags_of(header.schema, body);
        if (record.place.session != delivered_.session) orders_missing_ = false;
        if (header.state == stale_state) orders_missing_ = true;
        if (flags != nullptr && (*flags & dbn::f_snapshot) != 0) orders_missing_ = false;
        if (orders_missing_ && header.schema == static_cast<std::uint8_t>(dbn::Schema::mbo) &&
            header.state == live_state) {
            header.state = stale_state;
            *flags |= dbn::f_maybe_bad_book;
        }
    }

    // What a source is worth now: its own state, but no LIVE for one that stands still beside one that beats.
    std::uint8_t trusted_state(std::size_t i, std::int64_t now) const {
        const std::uint8_t own = sources_[i]->consumer().state(now);
        const bool claims = own == live_state || own == static_cast<std::uint8_t>(FeedState::ended);
        if (claims && sources_[i]->left_behind(now, takeover_ns_)) return stale_state;
        if (own != live_state || sources_[i]->trusted(now, takeover_ns_)) return own;
        for (std::size_t j = 0; j < sources_.size(); ++j)
            if (j != i && sources_[j]->trusted(now, takeover_ns_)) return stale_state;
        return own;
    }

    static int rank(std::uint8_t state) {
        switch (state) {
            case live_state:
                return 5;
            case static_cast<std::uint8_t>(FeedState::ended):
                return 4;
            case static_cast<std::uint8_t>(FeedState::recovering):
                return 3;
            case static_cast<std::uint8_t>(FeedState::starting):
                return 2;
            case state_dead:
                return 0;
            default:
                return 1;
        }
    }

    std::size_t best(std::int64_t now) const {
        std::size_t best = 0;
        for (std::size_t i = 1; i < sources_.size(); ++i) {
            const int mine = rank(trusted_state(i, now));
            const int other = rank(trusted_state(best, now));
            const auto place = [this](std::size_t k) {
                return FeedPlace{sources_[k]->session(), sources_[k]->consumer().channel().next_sequence()};
            };
            if (mine > other || (mine == other && place(i) > place(best))) best = i;
        }
        return best;
    }

    const Consumer& leader() const {
        const std::int64_t now = monotonic_now_ns();
        observe(now);
        return sources_[best(now)]->consumer();
    }

    template <typename Instrument>
    ReadResult any_book(Instrument instrument, BookView& out, std::uint8_t& state_out) const {
        const std::int64_t now = monotonic_now_ns();
        observe(now);
        const std::size_t i = best(now);
        const ReadResult result = sources_[i]->consumer().book(instrument, out, state_out);
        if (state_out == live_state) state_out = trusted_state(i, monotonic_now_ns());
        return result;
    }

    std::uint32_t schema_mask_;
    WaitStrategy strategy_;
    std::int64_t takeover_ns_;
    SessionNames sessions_;
    std::vector<std::unique_ptr<PairSource>> sources_;
    FeedPlace delivered_;
    std::size_t last_ = none;
    std::uint64_t lost_ = 0;
    std::vector<std::uint64_t> shares_;
    bool orders_missing_ = false;
    std::uint8_t seen_state_ = state_dead;
};

}  // namespace fh::publish
