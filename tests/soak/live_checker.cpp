// Beside a running daemon: attaches as a consumer, reads books whenever they change and all of them again and
// again, and compares each read in LIVE with the model's history at the number that the book tells.
//   live_checker CHANNEL_DIRECTORY BINARYFILE [--alter N]
// BINARYFILE: the lossless stream. "ready" on stdout once attached; a JSON object when the session has ended
// or the daemon died. --alter: the first order entered from message N on has a share more, to see it found.
#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "model.hpp"
#include "publish/consumer.hpp"

namespace {

using namespace soak;

// The ten best levels of both sides in one number.
class Digest {
  public:
    void level(std::int64_t price, std::uint64_t size, std::uint32_t orders) {
        mix(static_cast<std::uint64_t>(price));
        mix(size);
        mix(orders);
    }
    void end_of_side() { mix(~std::uint64_t{0}); }
    std::uint64_t value() const { return value_; }

  private:
    void mix(std::uint64_t word) {
        value_ = (value_ ^ word) * 0x9E3779B97F4A7C15;
        value_ ^= value_ >> 29;
    }
    std::uint64_t value_ = 0xCBF29CE484222325;
};

template <class Side>
void add_side(Digest& digest, const Side& side) {
    unsigned rank = 0;
    for (const auto& [price, level] : side) {
        if (rank++ == 10) break;
        digest.level(std::int64_t{price} * 100'000, level.size, level.orders);
    }
    digest.end_of_side();
}
std::uint64_t digest_of(const ModelBook& book) {
    Digest digest;
    add_side(digest, book.bids);
    add_side(digest, book.asks);
    return digest.value();
}
std::uint64_t digest_of(const fh::BookView& view) {
    Digest digest;
    for (std::uint32_t i = 0; i < view.bid_count; ++i)
        digest.level(view.bids[i].price, view.bids[i].size, view.bids[i].orders);
    digest.end_of_side();
    for (std::uint32_t i = 0; i < view.ask_count; ++i)
        digest.level(view.asks[i].price, view.asks[i].size, view.asks[i].orders);
    digest.end_of_side();
    return digest.value();
}

// Every book as it was after each message that changed it.
class History {
  public:
    struct Change {
        std::uint64_t number;
        std::uint64_t digest;
    };

    History(const char* path, std::uint64_t alter) : changes_(Model::instruments) {
        std::ifstream file(path, std::ios::binary);
        std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
        Model model;
        for (std::size_t at = 0; at + 2 <= bytes.size();) {
            const std::size_t length = static_cast<std::size_t>(bytes[at] << 8 | bytes[at + 1]);
            if (length == 0 || at + 2 + length > bytes.size()) break;
            std::uint8_t* message = &bytes[at + 2];
            if (alter != 0 && model.next() >= alter && message[0] == 'A') {
                ++message[23];  // shares, the lowest byte
                alter = 0;
            }
            const std::uint64_t number = model.next();
            const std::uint16_t instrument = model.apply(number, {message, length});
            const ModelBook& book = model.book(instrument);
            if (book.changed == number) changes_[instrument].push_back({number, digest_of(book)});
            at += 2 + length;
        }
        end_ = model.next();
    }

    std::uint64_t end() const { return end_; }
    const std::vector<Change>& of(std::uint32_t instrument) const { return changes_[instrument]; }

  private:
    std::vector<std::vector<Change>> changes_;
    std::uint64_t end_ = 1;
};

class Watch {
  public:
    Watch(const char* directory, const History& history)
        : history_(history), consumer_(directory, fh::dbn::schema_bit(fh::dbn::Schema::mbo)) {
        for (std::uint32_t i = 0; i < Model::instruments; ++i) {
            if (!history.of(i).empty()) instruments_.push_back(i);
        }
    }

    void run() {
        for (std::size_t sweep = 0;; sweep += per_turn) {
            const bool over = consumer_.state() == static_cast<std::uint8_t>(fh::FeedState::ended) ||
                              consumer_.state() == fh::state_dead;
            const std::size_t records = consumer_.poll(
                [this](const fh::RecordHeader& header, const std::byte* body) { on_record(header, body); });
            if (over && records == 0) return;
            for (std::size_t i = 0; i < per_turn && !instruments_.empty(); ++i)
                check(instruments_[(sweep + i) % instruments_.size()]);
        }
    }

    // The session is over: the books are those of its end.
    void check_end() {
        for (const std::uint32_t instrument : instruments_) {
            fh::BookView view;
            std::uint8_t state;
            const bool read = consumer_.book(instrument, view, state) == fh::ReadResult::ok;
            ++books_at_end_;
            if (!read || digest_of(view) != history_.of(instrument).back().digest)
                wrong(book(instrument) + " at the end");
        }
    }

    int tell() const {
        std::printf("{\"reads\": %" PRIu64 ", \"live_reads\": %" PRIu64 ", \"torn\": %" PRIu64
                    ", \"records\": %" PRIu64 ", \"lost_records\": %" PRIu64 ", \"books_at_end\": %" PRIu64
                    ", \"wrong\": [",
                    reads_, live_reads_, torn_, records_, consumer_.lost(), books_at_end_);
        for (std::size_t i = 0; i < wrong_.size(); ++i)
            std::printf("%s\"%s\"", i == 0 ? "" : ", ", wrong_[i].c_str());
        std::printf("]}\n");
        return wrong_.empty() ? 0 : 1;
    }

  private:
    static constexpr std::size_t per_turn = 16;
    static constexpr std::size_t most_told = 20;

    void on_record(const fh::RecordHeader& header, const std::byte* body) {
        fh::dbn::Mbo record;
        std::memcpy(&record, body, sizeof record);
        ++records_;
        const bool flagged = (record.flags & fh::dbn::f_maybe_bad_book) != 0;
        if (flagged == (header.state == static_cast<std::uint8_t>(fh::FeedState::live)))
            wrong("the flag of the mbo record of message " + std::to_string(record.sequence));
        check(record.hd.instrument_id);
    }

    void check(std::uint32_t instrument) {
        const std::uint64_t next = consumer_.channel().next_sequence();
        fh::BookView view;
        std::uint8_t state;
        const fh::ReadResult result = consumer_.book(instrument, view, state);
        ++reads_;
        if (state != static_cast<std::uint8_t>(fh::FeedState::live)) return;
        if (result == fh::ReadResult::torn) {  // told as such: nobody acts on it
            ++torn_;
            return;
        }
        ++live_reads_;
        if (result != fh::ReadResult::ok) view = {};
        const auto& changes = history_.of(instrument);
        const auto later = std::upper_bound(
            changes.begin(), changes.end(), view.sequence,
            [](std::uint64_t number, const History::Change& change) { return number < change.number; });
        const std::uint64_t expected =
            later == changes.begin() ? digest_of(ModelBook{}) : std::prev(later)->digest;
        const std::string at = " at message " + std::to_string(view.sequence);
        if (digest_of(view) != expected) wrong(book(instrument) + at);
        if (later != changes.end() && later->number < next)
            wrong(book(instrument) + at + " lacks message " + std::to_string(later->number) +
                  ", though all below " + std::to_string(next) + " are said to be in");
    }

    static std::string book(std::uint32_t instrument) {
        return "the book of instrument " + std::to_string(instrument);
    }
    void wrong(const std::string& what) {
        if (wrong_.size() < most_told) wrong_.push_back(what);
    }

    const History& history_;
    fh::publish::Consumer consumer_;
    std::vector<std::uint32_t> instruments_;
    std::uint64_t reads_ = 0, live_reads_ = 0, torn_ = 0, records_ = 0, books_at_end_ = 0;
    std::vector<std::string> wrong_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3 && (argc != 5 || std::string_view(argv[3]) != "--alter")) {
        std::fprintf(stderr, "usage: live_checker CHANNEL_DIRECTORY BINARYFILE [--alter N]\n");
        return 2;
    }
    try {
        const History history(argv[2], argc == 5 ? std::strtoull(argv[4], nullptr, 10) : 0);
        Watch watch(argv[1], history);
        std::printf("ready\n");
        std::fflush(stdout);
        watch.run();
        watch.check_end();
        return watch.tell();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "live_checker: %s\n", error.what());
        return 2;
    }
}
