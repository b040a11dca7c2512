// The feed handler under test: the real arbiter, normalizer and book table, as the daemon joins them, with
// the checker between them. On purpose it can be broken in one place, to prove that the checker sees it.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "book/memory.hpp"
#include "checker.hpp"
#include "pipeline.hpp"
#include "record/normalizer.hpp"
#include "snapshot/image_reader.hpp"

namespace soak {

inline constexpr fh::book::BookLimits book_limits{1u << 20, 1u << 11, 1u << 17};

// What is broken on purpose.
enum class Sabotage : std::uint8_t {
    none,
    level,   // one level of one book gets a share more
    skip,    // a message does not reach the books
    state,   // a hole is not told: the feed stays LIVE
    flag,    // the records' flag does not follow the state
    splice,  // a snapshot is applied one message late
    clear,   // lost messages do not empty the books
};

// Between arbiter and books.
template <class Normalizer>
class WatchedBooks {
  public:
    WatchedBooks(Normalizer& normalizer, Checker& checker, RecordWatch& records, bool one_by_one,
                 Sabotage sabotage)
        : normalizer_(normalizer),
          checker_(checker),
          records_(records),
          one_by_one_(one_by_one),
          sabotage_(sabotage) {}

    void on_messages(std::uint64_t first, std::span<const fh::Message> messages, std::int64_t ts_recv_ns,
                     fh::TimestampKind kind) {
        if (!one_by_one_ && sabotage_ == Sabotage::none) [[likely]] {
            checker_.arriving(first, messages);
            normalizer_.on_messages(first, messages, ts_recv_ns, kind);
            checker_.applied(first + messages.size());
            return;
        }
        for (std::size_t i = 0; i < messages.size(); ++i) {
            checker_.arriving(first + i, messages.subspan(i, 1));
            if (!skips(messages[i]))
                normalizer_.on_messages(first + i, messages.subspan(i, 1), ts_recv_ns, kind);
            change_level(messages[i]);
            checker_.applied(first + i + 1);
        }
    }
    void on_lookahead(std::span<const fh::Message> messages) {
        if constexpr (requires { normalizer_.on_lookahead(messages); }) normalizer_.on_lookahead(messages);
    }
    void on_clear(std::uint64_t sequence, std::int64_t ts_ns) {
        checker_.on_clear(sequence);
        if (sabotage_ == Sabotage::clear) return;
        records_.set_clearing(true);
        normalizer_.on_clear(sequence, ts_ns);
        records_.set_clearing(false);
    }
    bool on_snapshot(fh::book::BookSet& image, std::uint64_t first, std::uint64_t covered,
                     std::int64_t ts_ns) {
        return normalizer_.on_snapshot(image, first, covered, ts_ns);
    }
    fh::FeedCounters counters() const { return normalizer_.counters(); }
    void set_state(fh::FeedState state) {
        if (sabotage_ != Sabotage::flag) normalizer_.set_state(state);
    }

  private:
    // Once the feed runs: the first order in LIVE.
    bool strikes(const fh::Message& message) const { return checker_.live() && message.data[0] == 'A'; }
    bool skips(const fh::Message& message) {
        if (sabotage_ != Sabotage::skip || !strikes(message)) return false;
        sabotage_ = Sabotage::none;
        return true;
    }
    void change_level(const fh::Message& message) {
        if (sabotage_ != Sabotage::level || !strikes(message)) return;
        auto& block =
            normalizer_.books().block(static_cast<std::uint16_t>(message.data[1] << 8 | message.data[2]));
        const unsigned side = message.data[19] == 'B' ? 0 : 1;
        for (auto& level : block.sides[side].levels) ++level.size;  // whichever is the best
        sabotage_ = Sabotage::none;
    }

    Normalizer& normalizer_;
    Checker& checker_;
    RecordWatch& records_;
    bool one_by_one_;
    Sabotage sabotage_;
};

// What the handler asks of the world.
struct Outside {
    std::function<const Stream*(const char* session)> stream;
    std::function<void(std::size_t server, const std::uint8_t* request)> request;
    std::function<void()> load_snapshot;
    std::function<void(const fh::Event&)> event;
};

class Handler {
  public:
    Handler(const fh::sequence::Settings& settings, Checker& checker, bool one_by_one, Sabotage sabotage,
            Outside outside)
        : checker_(checker),
          sabotage_(sabotage),
          outside_(std::move(outside)),
          file_(fh::book::books_file_size, fh::book::Pages::small),
          records_(checker),
          normalizer_(records_, file_.data(), normalizer_settings()),
          books_(normalizer_, checker, records_, one_by_one, sabotage),
          pipeline_(settings, counters_, books_, *this) {
        checker_.attach(file_.data());
    }

    auto& arbiter() { return pipeline_.arbiter(); }
    const fh::Counters& counters() const { return counters_; }

    // A load has ended; nothing: it failed.
    void on_image(std::unique_ptr<fh::snapshot::ImageReader> image, std::int64_t now_ns) {
        image_ = std::move(image);
        if (image_ == nullptr)
            arbiter().on_snapshot_failed(now_ns);
        else
            arbiter().on_snapshot(image_->number() + (sabotage_ == Sabotage::splice), now_ns);
    }
    // The image that is not needed any more goes.
    void end_turn() {
        if (image_ != nullptr && !arbiter().loading()) image_.reset();
    }

    // ---- host of the pipeline

    void on_event(const fh::Event& event) {
        outside_.event(event);
        switch (event.type) {
            case fh::EventType::session_start:
                return checker_.on_session(*outside_.stream(event.session), event.first);
            case fh::EventType::gap_lost:
                if (sabotage_ != Sabotage::state) checker_.on_lost(event.last);
                return;
            case fh::EventType::snapshot_end:
                if (event.first != 0) checker_.on_spliced(event.first);
                return;
            case fh::EventType::state:
                if (sabotage_ == Sabotage::state && event.state == fh::FeedState::recovering) return;
                return checker_.on_state(event.state);
            default:
                return;
        }
    }
    void send_request(std::size_t server, std::span<const std::uint8_t, 20> datagram) {
        outside_.request(server, datagram.data());
    }
    void start_snapshot(std::int64_t /*now_ns*/) { outside_.load_snapshot(); }
    fh::book::BookSet& snapshot_books() { return image_->books(); }

  private:
    static fh::record::NormalizerSettings normalizer_settings() {
        fh::record::NormalizerSettings out;
        out.limits = book_limits;
        return out;
    }
    using Normalizer = fh::record::Normalizer<RecordWatch>;
    using Books = WatchedBooks<Normalizer>;

    Checker& checker_;
    Sabotage sabotage_;
    Outside outside_;
    fh::book::Reserved<std::byte> file_;  // the shared table
    fh::Counters counters_;
    RecordWatch records_;
    Normalizer normalizer_;
    Books books_;
    fh::Pipeline<Books, Handler> pipeline_;
    std::unique_ptr<fh::snapshot::ImageReader> image_;
};

}  // namespace soak
